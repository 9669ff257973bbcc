"""Train the judge on the expert's preferences, and refine it each round on newly judged pairs.

A share of the expert's pairs, chosen by image, is frozen: never trained on. It calibrates the
judge, and a refined judge that does worse on it is rolled back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.caveats import at_chance, of_judge
from engine.config import Config
from engine.errors import TriptychError
from engine.records import Judgement, Model, Preference, Task, Triplet, unique
from engine.statistics import auc, auc_interval
from engine.training import first_use, read_training_set, write_training_set
from engine.workspace import Stage
from generators.prompts import judge_prompt
from pipelines.context import Context
from pipelines.expertise import Expert, open_expert, own_tasks
from pipelines.select import answer_key
from pipelines.sft import rows_per_step, train_on_cluster, training_arguments
from reward_model.calibration import fit_platt
from reward_model.preferences import in_holdout, prefer
from reward_model.scoring import Judge
from reward_model.training import train_judge

MARGIN = 2.0  # log-odds between two answers from which the judge's own opinion may teach it


def pair_rows(
    preferences: list[Preference], triplets: dict[str, Triplet], prompts: str
) -> list[dict[str, Any]]:
    """Preferences as the two prompts that the judge compares."""

    def text(row: Triplet) -> str:
        return judge_prompt(prompts, row.question, row.options, row.rationale, row.answer)

    return [
        {
            "image_id": p.image_id,
            "chosen": text(triplets[p.chosen_id]),
            "rejected": text(triplets[p.rejected_id]),
            "criterion": p.criterion,
            "tier_chosen": p.tier_chosen,
            "tier_rejected": p.tier_rejected,
        }
        for p in preferences
    ]


def measure(judge: Judge, data: Path) -> dict[str, Any]:
    """Pairwise accuracy (each pair by its own criterion), AUC and calibration on frozen pairs.

    AUC is of the overall score on factuality pairs: chosen rows against rejected ones, with a 95 %
    interval from resampling images; None where there is no such pair. A pair without a finite score
    counts as one that the judge got wrong, and is in no AUC. Raises TriptychError where none has.
    """
    from engine.vlm import Request
    from reward_model.criteria import CRITERIA

    images, rows = read_training_set(data)
    both = [
        Request(images[r["image_id"]], r[side]) for side in ("chosen", "rejected") for r in rows
    ]
    scores = judge.scores(both)
    place = np.array([CRITERIA.index(r["criterion"]) for r in rows])
    n = len(rows)
    scored = np.isfinite(scores).all(1)
    scored = scored[:n] & scored[n:]
    if not scored.any():
        raise TriptychError(
            f"the judge has no finite score for any of {n} frozen pairs: lower reward.lr"
        )
    own = scores[np.arange(2 * n), np.tile(place, 2)]
    facts = np.tile((place == 0) & scored, 2)
    overall, accepted = judge.overall(scores)[facts], np.repeat([True, False], n)[facts]
    slope, offset = fit_platt(overall, accepted)
    return {
        "pairwise": round(float((scored & (own[:n] > own[n:])).mean()), 4),
        **_area(overall, accepted, np.tile([r["image_id"] for r in rows], 2)[facts]),
        "n_holdout": n,
        "unscored": int(n - scored.sum()),
        "calibration": [slope, offset],
    }


def _area(scores: np.ndarray, accepted: np.ndarray, images: np.ndarray) -> dict[str, Any]:
    """The AUC and its interval; None for each where there are no pairs."""
    if not scores.size:
        return dict.fromkeys(("auc", "auc_low", "auc_high"))
    low, high = auc_interval(scores, accepted, images, seed=0)
    figures = {"auc": auc(scores, accepted), "auc_low": low, "auc_high": high}
    return {name: round(value, 4) for name, value in figures.items()}


def train_and_measure(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's loop: train the judge, measure it (and its start) on frozen pairs, calibrate.

    All workers train; the first, which writes the weights, does the rest.
    """
    from torch import distributed

    from reward_model.model import HEADS, SETTINGS

    result = train_judge(arguments)
    if distributed.is_initialized() and distributed.get_rank() > 0:
        return result
    out, holdout = Path(arguments["out"]), Path(arguments["holdout"])
    if (Path(arguments["model"]) / HEADS).exists():
        start = Judge(arguments["model"], "start", arguments["threads"])
        result |= {f"{k}_before": v for k, v in measure(start, holdout).items()}
    result |= measure(Judge(arguments["out"], "new", arguments["threads"]), holdout)
    settings = arguments["settings"] | {"calibration": result["calibration"]}
    (out / SETTINGS).write_text(json.dumps(settings, indent=1))
    return result


def fit_judge(
    context: Context,
    stage: Stage,
    start: Model,
    preferences: list[Preference],
    epochs: float,
    made: Sequence[Triplet] = (),
) -> tuple[dict[str, Any], list[Preference]]:
    """Train from `start` on all pairs that are not frozen; returns (metrics, pairs trained on).

    `made` are rows of this stage that pairs refer to and that are not committed yet.
    """
    config = context.config
    triplets = {t.id: t for t in [*context.rows(Triplet), *made]}
    frozen = [p for p in context.rows(Preference, "prefer") if p.holdout]
    learned = [p for p in preferences if not p.holdout]
    pngs = context.pngs()
    prompts = config.generator.prompts
    for folder, pairs in (("data", learned), ("holdout", frozen)):
        used = {p.image_id: pngs[p.image_id] for p in pairs}
        write_training_set(stage.folder / folder, used, pair_rows(pairs, triplets, prompts))
    section = config.reward
    if not learned or not frozen:
        raise TriptychError(
            f"{stage.name}: {len(learned)} pairs to learn and {len(frozen)} frozen; "
            "raise expert.pairs or expert.preference_images"
        )
    arguments = training_arguments(context, stage, section, start) | {
        "epochs": epochs,
        "holdout": str((stage.folder / "holdout").resolve()),
        "settings": {
            "criteria": section.criteria,
            "prompts": prompts,
            "max_pixels": config.max_pixels,
            "calibration": [1.0, 0.0],
        },
    }
    metrics = train_on_cluster(context, train_and_measure, arguments)
    return metrics, learned


def _add_judge(
    context: Context,
    stage: Stage,
    start: Model,
    metrics: dict[str, Any],
    learned: list[Preference],
) -> None:
    """Record a trained judge with the pairs that it learned from."""
    steps = metrics["steps"]
    use = first_use(len(learned), rows_per_step(context.config.reward), steps)
    folder = stage.folder / "weights"
    context.add_model(stage, "judge", folder, start, json.dumps(metrics), learned, steps, use)


def backbone(context: Context) -> Model:
    """What the first judge is trained from: the base, the tuned generator, or a model named."""
    named = context.config.reward.model
    if named == "generator":
        return context.model("generator")
    return context.outside("judge", named) if named else context.base()


def reward(context: Context, stage: Stage) -> None:
    """The first judge, from its backbone."""
    start = backbone(context)
    preferences = context.rows(Preference, "prefer")
    metrics, learned = fit_judge(context, stage, start, preferences, context.config.reward.epochs)
    metrics["confidence_auc"] = confidence_auc(context, preferences)
    stage.metrics = metrics
    for line in of_judge(metrics):
        context.display.warn(line)
    _add_judge(context, stage, start, metrics, learned)


def confidence_auc(context: Context, preferences: list[Preference]) -> float | None:
    """The baseline: the generator's own log-probability, on frozen pairs of its own samples."""
    triplets = {t.id: t for t in context.rows(Triplet)}
    sampled = [
        p
        for p in preferences
        if p.holdout
        and p.criterion == "factuality"
        and all((triplets[i].logprob or 0.0) < 0 for i in (p.chosen_id, p.rejected_id))
        and triplets[p.rejected_id].generator_id == triplets[p.chosen_id].generator_id
    ]
    if not sampled:
        return None
    scores = [triplets[i].logprob for p in sampled for i in (p.chosen_id, p.rejected_id)]
    return round(auc(np.array(scores), np.tile([True, False], len(sampled))), 4)


def refine(context: Context, stage: Stage) -> None:
    """Train the judge further on pairs of this round; roll it back where the holdout got worse."""
    current = context.model("judge")
    trusted = not at_chance(json.loads(current.metrics))
    pairs, made = pairs_of_round(context, stage.round, trusted)
    stage.write(Triplet, unique(made), "made")
    stage.write(Task, own_tasks(context, made), "made")
    stage.write(Preference, unique(pairs))
    if not pairs:
        stage.metrics = {"accepted": False, "why": "no new pairs"}
        return
    section = context.config.reward
    everything = context.rows(Preference) + pairs
    metrics, learned = fit_judge(context, stage, current, everything, section.refine_epochs, made)
    before, after = metrics["auc_before"], metrics["auc"]
    # An AUC that could not be measured accepts nothing.
    accepted = None not in (before, after) and after >= before - section.tolerance
    stage.metrics = {
        "auc_before": before,
        "auc_after": after if accepted else before,
        "auc_refined": after,
        "pairwise_before": metrics["pairwise_before"],
        "pairwise": metrics["pairwise"],
        "pairs": len(pairs),
        "accepted": accepted,
    }
    if accepted:
        for line in of_judge(metrics):
            context.display.warn(line)
        _add_judge(context, stage, current, metrics, learned)


def expert_of_new_rows(context: Context) -> Expert | None:
    """The simulated expert compares new answers; a benchmark's gold answers cannot."""
    if context.config.expert.kind != "phantoms":
        return None
    return open_expert(context.config, context.images())


def pairs_of_round(
    context: Context, round: int, trusted: bool = True
) -> tuple[list[Preference], list[Triplet]]:
    """`new_pairs` among what was generated and judged in a round."""
    return new_pairs(
        context.config,
        context.rows(Triplet, "generate", round),
        {j.triplet_id: j for j in context.rows(Judgement, "judge", round)},
        expert_of_new_rows(context),
        round,
        trusted,
    )


def new_pairs(
    config: Config,
    triplets: list[Triplet],
    judged: dict[str, Judgement],
    expert: Expert | None,
    round: int,
    trusted: bool = True,
) -> tuple[list[Preference], list[Triplet]]:
    """Pairs of this round: the expert decides the least certain, the surest teach themselves.

    The expert is asked where the judge wavers between two answers; where it is far apart and the
    samples agree with it, its own opinion is a pair where it is `trusted`. Images of the
    frozen holdout are left out.
    """
    section = config.reward
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in triplets:
        if triplet.id in judged:
            questions[triplet.question_key].append(triplet)
    contests = []
    for key in sorted(questions):
        if in_holdout(questions[key][0].image_id, config.expert.holdout):
            continue
        rows = sorted(questions[key], key=lambda t: (-judged[t.id].overall, t.id))
        rival = next((r for r in rows if answer_key(r) != answer_key(rows[0])), None)
        if rival is not None:
            gap = judged[rows[0].id].overall - judged[rival.id].overall
            contests.append((gap, rows[0], rival, questions[key]))
    contests.sort(key=lambda c: (c[0], c[1].id))
    number = min(section.expert_pairs, section.refine_pairs)
    asked = contests[:number]
    new = [row for *_, rows in asked for row in rows]
    made, pairs = _ask(expert, new, number, config.seed, round) if expert else ([], [])
    wanted = section.refine_pairs - len(pairs) if trusted else 0
    for gap, best, rival, rows in reversed(contests[len(asked) :]):
        votes = sum(answer_key(r) == answer_key(best) for r in rows)
        if wanted <= 0 or gap < MARGIN:
            break
        if votes * 2 > len(rows):
            pairs.append(prefer(best, rival, "factuality", "perturbed", "judge", False))
            wanted -= 1
    return pairs, made


def _ask(
    expert: Expert, rows: list[Triplet], number: int, seed: int, round: int
) -> tuple[list[Triplet], list[Preference]]:
    """The rows that the expert wrote beside `rows`, and what it thinks of them all."""
    if not rows:
        return [], []
    made, pairs = expert.pairs(rows, number, seed + round)
    known = {r.id for r in rows}
    return [m for m in made if m.id not in known], [replace(p, round=round) for p in pairs]
