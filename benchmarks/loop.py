"""What filtering, the judge, a second round and GRPO are worth: the paper's ablation, in miniature.

    python -m benchmarks.loop            # two small seeds, at most 45 minutes; go on by the same
    python -m benchmarks.loop --full     # three seeds at full size: the tables of docs/evidence.md

A seed draws its own phantoms, expert rows, preferences and samples, and runs two rounds of the
loop. Every SFT arm starts from the base and is shown the same (`benchmarks.arms`): as many steps,
the expert's turns as often, as many turns of its own. The arms of round one, one row a question
but for "unfiltered":

    expert seed              the expert's rows alone, which are seen the more often
    unfiltered               every row that parsed
    random questions         a random answer to as many random questions as were filtered, of those
                             that pass the filters of form and reasoning
    agreement + log-probability   what select keeps without a judge: votes and log-probability
    filtered                 what select kept, with the judge
    true labels              every answerable question with its true answer: the ceiling

and "both rounds": what was kept in rounds one and two, at the same budget. GRPO starts from the
loop's own SFT model of a round, without the guard. Beside it stands SFT of the same model on the
same rows, for as many steps of as many questions, at SFT's rate and at GRPO's; once on the labels
as judged, once on true labels, then of the questions that divide the model by these.

What counts as success was written down before the run. Of each comparison the difference in test
accuracy is paired by seed; with three seeds or more it is met where the 95 % t-interval of its mean
lies above zero, refuted where it lies below, and open else:

    1. filtered > random questions: choosing is worth more than chance
    2. filtered > agreement + log-probability: the judge is worth more than its absence
    3. both rounds > filtered: a second round is worth more than the first seen again
    4. GRPO > the better of its two SFT controls, on labels as judged, in round two
    5. GRPO > the better of its two SFT controls, on true labels

What was finished stays in --keep and is used again by the same code and settings, so that a run
that was stopped or ran out of --minutes is taken up by the same command. Ends with one line of
JSON. Runs without Ray: it measures learning, not machinery.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import arms
from benchmarks.loop_report import report
from engine.config import load
from engine.lineage.runs import code_id
from engine.records import Judgement, Model, Triplet, content_id
from engine.statistics import auc
from engine.workspace import Stage
from generators import filters
from generators.phantoms.oracle import is_true
from pipelines.context import Context, opened
from pipelines.examine import examine
from pipelines.grpo import mixed_rows
from pipelines.judge_training import fit_judge, taught
from pipelines.loop import ONCE, stages_of, step
from pipelines.record import fresh_triplets, held_out, kept_triplets

FULL = (
    "source.phantoms={MR: 700, ultrasound: 700}",
    "source.split={train: 0.7, val: 0.06, test: 0.24}",
    "expert.images=60",
    "expert.rows_per_image=5",
    "expert.preference_images=200",
    "expert.pairs=600",
    "generator.tasks=800",
    "generator.samples=5",
    "reward.refine_pairs=150",
    "sft.ask_share=0.5",
    "grpo.lr=3e-5",
    "grpo.share=0.25",
    "grpo.steps=20",
    "grpo.tolerance=1",
    "evaluate.questions=1000",
)
SMALL = (
    *FULL,
    "source.phantoms={MR: 300, ultrasound: 300}",
    "expert.preference_images=120",
    "expert.pairs=300",
    "generator.tasks=300",
    "generator.samples=4",
    "reward.refine_pairs=80",
    "grpo.steps=12",
    "evaluate.questions=500",
)
ROUNDS = 2


class OutOfTime(Exception):
    """No more pieces are begun."""


class Pieces:
    """Finished pieces of a seed, one JSON file each; a piece is made once."""

    def __init__(self, folder: Path, seed: int, deadline: float) -> None:
        self.folder, self.seed, self.deadline = folder, seed, deadline
        folder.mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        """Raise OutOfTime where no more may be begun."""
        if time.time() > self.deadline:
            raise OutOfTime

    def made(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` gives, from the file where there is one."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            self.check()
            started = time.time()
            found = make() | {"seconds": round(time.time() - started, 1)}
            half = path.with_suffix(".part")
            half.write_text(json.dumps(found))
            half.replace(path)
            told = f"{found['accuracy']:.1%}" if "accuracy" in found else ""
            print(f"seed {self.seed}: {name} {told} ({found['seconds']:.0f} s)", flush=True)
        return dict(json.loads(path.read_text()))


def run_seed(
    seed: int, config_file: Path, settings: list[str], root: Path, deadline: float, judges: bool
) -> dict[str, Any]:
    """What there is of a seed: {"arms": {name: …}, "rounds": …, "judge": …, "complete": …}."""
    import torch

    values = [f"seed={seed}", "cluster.address=inline", f"rounds={ROUNDS}", *settings]
    pieces = Pieces(root / f"seed{seed}-pieces", seed, deadline)
    result: dict[str, Any] = {"seed": seed, "arms": {}, "rounds": {}, "judges": {}}
    with opened(load(config_file, values), root / f"seed{seed}") as context:
        torch.set_num_threads(context.config.cluster.threads)
        try:
            run_arms(context, pieces, result)
            if judges:
                judge_variants(context, pieces, result)
            return result | {"complete": True}
        except OutOfTime:
            return result | {"complete": False}


def run_arms(context: Context, pieces: Pieces, result: dict[str, Any]) -> None:
    """Both rounds and every arm, in this order, into `result`."""
    found, folder = result["arms"], pieces.folder
    for name in ONCE:
        pieces.check()
        first = step(context, name)
    keys = ("auc", "pairwise", "logprob_auc")
    result["judge"] = {key: first["metrics"][key] for key in keys}
    questions = held_out(context, "test", context.config.evaluate.questions)
    result["questions"] = len(questions)

    def arm(name: str, train: Callable[[Path], arms.Trained]) -> None:
        def make() -> dict[str, Any]:
            done = train(folder / name.replace(" ", "-"))
            rows = examine(context, {name: (done.model, questions)}, 1, folder / f"{name} replies")
            return {"accuracy": float(np.mean([r.correct for r in rows]))} | done.shown()

        found[name] = pieces.made(name, make)

    result["rounds"]["1"] = run_round(context, pieces, 1, found)
    parsed = arms.parsed(context.rows(Triplet, "generate", 1))
    formed = [t for t in parsed if filters.reason(t) is None]
    kept = kept_triplets(context, 1)
    budget, seed = arms.Budget(context, kept), context.config.seed
    chosen: dict[str, list[Triplet]] = {
        "expert seed": [],
        "unfiltered": parsed,
        "random questions": arms.random_questions(formed, len(kept), seed),
        "agreement + log-probability": arms.agreed(context, parsed, len(kept)),
        "filtered": kept,
        "true labels": arms.told_truly(context, parsed),
    }
    for name, rows in chosen.items():
        arm(name, lambda out, rows=rows: arms.sft_arm(budget, rows, out))
    controls(context, arm, 1)
    result["rounds"]["2"] = run_round(context, pieces, 2, found)
    both = kept_triplets(context, 2)
    arm("both rounds", lambda out: arms.sft_arm(budget, both, out))
    controls(context, arm, 2)
    start, judge = model_of(context, "sft", 2), context.model("judge")
    true = truly_mixed(context, pieces, start)
    arm("GRPO, true labels", lambda out: arms.grpo_arm(context, start, judge, true, out))
    controls(context, arm, 2, ", true labels", true)


def truly_mixed(context: Context, pieces: Pieces, start: Model) -> list[Triplet]:
    """The questions left to GRPO in round two, truly labelled, whose labels divide its start."""
    left = arms.told_truly(context, fresh_triplets(context, kept_triplets(context, 2)))

    def find() -> dict[str, Any]:
        return {
            "ids": [row.id for row in mixed_rows(context, start, left, 2, pieces.folder / "mixed")]
        }

    ids = set(pieces.made("mixed by true labels", find)["ids"])
    return [row for row in left if row.id in ids]


def controls(
    context: Context,
    arm: Callable[[str, Callable[[Path], arms.Trained]], None],
    number: int,
    labels: str = "",
    rows: list[Triplet] | None = None,
) -> None:
    """SFT beside a round's GRPO: its start, its rows, its steps, at two rates."""
    start = model_of(context, "sft", number)
    same = rows if rows is not None else arms.rows_of(context, "grpo", number)
    where = labels or f", round {number}"
    for name, lr in (
        ("SFT's rate", context.config.sft.lr),
        ("GRPO's rate", context.config.grpo.lr),
    ):
        arm(
            f"SFT on GRPO's rows{where}, {name}",
            lambda out, lr=lr: arms.more_sft(context, start, same, out, lr),
        )


def model_of(context: Context, role: str, number: int) -> Model:
    """A round's model of a role."""
    return [m for m in context.rows(Model) if m.role == role and m.round == number][-1]


def run_round(
    context: Context, pieces: Pieces, number: int, found: dict[str, Any]
) -> dict[str, Any]:
    """One round of the loop: its figures, and its own models among the arms."""
    metrics = {}
    for name in stages_of(context.config):
        pieces.check()
        metrics[name] = step(context, name, number)["metrics"]
    grpo, trained = context.config.grpo, metrics["grpo"]
    rewarded, taught = (arms.rows_of(context, name, number) for name in ("grpo", "sft"))
    visits = trained["steps"] * arms.rows_per_step(grpo) // grpo.group / max(len(rewarded), 1)
    base, epochs = context.base(), context.config.sft.epochs
    shown = {
        "sft": arms.trained(context, base, metrics["sft"]["steps"], taught, epochs).shown(),
        "policy": arms.trained(context, base, trained["steps"], rewarded, visits).shown(),
    }
    names = {"sft": f"loop's SFT, round {number}", "policy": f"GRPO, round {number}"}
    for name, m in metrics["evaluate"]["arms"].items():
        found[names.get(name, name)] = {"accuracy": m["accuracy"]} | shown.get(name, {})
    refine, select = metrics["refine"], metrics["select"]
    return {
        "precision_before": select["precision_before"],
        "precision_after": select["precision_after"],
        "precision_grpo": trained["precision"],
        "kept_fraction": select["kept_fraction"],
        "judge_auc": refine.get("auc_after"),
        "judge_accepted": refine["accepted"],
        **triplet_auc(context, number),
        "grpo_fresh": trained["fresh"],
        "grpo_mixed": trained["mixed"],
        "grpo_teaching": trained["teaching"],
        "grpo_reward_first": trained["reward_first"],
        "grpo_reward_last": trained["reward"],
        "grpo_on_validation": round(trained["validation"] - trained["validation_before"], 4),
    }


def triplet_auc(context: Context, number: int) -> dict[str, float]:
    """AUC for a generated row being true: of the judge's score, and of the generator's own."""
    images = {i.id: i for i in context.images()}
    judged = {j.triplet_id: j.overall for j in context.rows(Judgement, "judge", number)}
    rows = [t for t in context.rows(Triplet, "generate", number) if t.id in judged]
    true = np.array([bool(is_true(images[t.image_id], t)) for t in rows])
    return {
        "triplet_auc_judge": round(auc(np.array([judged[t.id] for t in rows]), true), 4),
        "triplet_auc_logprob": round(auc(np.array([t.logprob for t in rows]), true), 4),
    }


def judge_variants(context: Context, pieces: Pieces, result: dict[str, Any]) -> None:
    """AUC and pairwise accuracy on the frozen pairs, by how the judge is read and trained."""
    for readout in ("token", "head"):
        for objective in ("bradley-terry", "tiers"):
            changes = {"readout": readout, "objective": objective}
            section = context.config.reward.model_copy(update=changes)
            config = context.config.model_copy(update={"reward": section})
            name = f"judge, {readout}, {objective}"

            def make(config: Any = config, name: str = name) -> dict[str, Any]:
                stage = Stage("reward", 0, "", pieces.folder / name.replace(" ", "-"))
                other = replace(context, config=config)
                told = taught(other, rounds=0)
                trained = fit_judge(other, stage, context.base(), told, config.reward.epochs)
                return {"auc": trained.after.report.auc, "pairwise": trained.after.pairwise}

            result["judges"][f"{readout}, {objective}"] = pieces.made(name, make)


def main(
    full: Annotated[bool, typer.Option(help="The sizes of docs/evidence.md, no limit.")] = False,
    seeds: Annotated[int | None, typer.Option(help="How many; 2, or 3 with --full.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Begin nothing after so many.")] = None,
    config: Annotated[Path, typer.Option(help="The configuration.")] = Path("configs/demo.yaml"),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Seeds at a time; else all of them.")] = None,
    judges: Annotated[bool, typer.Option(help="Train the judge in the other ways too.")] = False,
    keep: Annotated[Path, typer.Option(help="Where pieces are kept.")] = Path("runs/loop"),
) -> None:
    """Run every arm for every seed and print the tables."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    started = time.time()
    limit = minutes if minutes is not None else (float("inf") if full else 45)
    sizes = [*(FULL if full else SMALL), *(overrides or [])]
    recipe = [Path(__file__).with_name(n).read_text() for n in ("arms.py", "loop.py")]
    root = keep / content_id(sizes, config.read_text(), code_id(), recipe)[:12]
    number = seeds or (3 if full else 2)
    jobs = jobs or number
    threads = max((os.cpu_count() or 1) // jobs, 1)
    print(f"pieces are kept in {root}", flush=True)
    work = (config, [*sizes, f"cluster.threads={threads}"], root, started + 60 * limit, judges)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(run_seed, range(number), *([w] * number for w in work)))
    report(results)
    spent = round((time.time() - started) / 60, 1)
    done = all(r["complete"] for r in results)
    if not done:
        print(f"\nOut of time after {spent} minutes: the same command goes on.", flush=True)
    print(json.dumps(
        {"benchmark": "loop", "full": full, "complete": done, "minutes": spent, "results": results}
    ))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
