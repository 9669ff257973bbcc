"""Renew the generator: the round's policy takes its place if held-out rows are no worse by it.

The policy was tuned on the best rows so far: the expert's and those that select kept. It and who
generates now write rows for the same tasks on validation images, with the same prompts and seeds,
and are compared by `generators.renewal`. The policy takes over unless precision or adherence is
worse; where one of them cannot be measured, who generates now stays. The rows are in no table.

Where the truth of images is not known, the judge says what is right, and it is shown no
log-probability: a model that is sure of itself would gain by that. A judge at chance is not asked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow.parquet as pq

from engine.answers.spelling import normalise_question
from engine.caveats import at_chance
from engine.errors import TriptychError
from engine.records import Judgement, Model, Triplet, content_id, from_arrow, to_arrow
from engine.resume import Shards, make_shards
from engine.shards import write_shard
from engine.workspace import Stage
from generators.found import AXES
from generators.quotas import wanted_of
from generators.renewal import ADHERENCE, PRECISION, Held, Paired, Share, mean, paired, shares
from generators.tasks import draw_tasks, uniform_mix
from pipelines.context import Context
from pipelines.judging import Judging, make_judge, places_of
from pipelines.proposals import read_shards, run_proposer
from pipelines.record import generator_of, images_of, shown, validation_questions
from pipelines.spending import JOURNALS, spending
from reward_model.threshold import choices_of

NOW, NEW = "now", "new"  # who generates, and the round's policy
STAYS = "the generator stays"


def renew(context: Context, stage: Stage) -> None:
    """Compare the round's policy with who generates, and say who does from now on.

    Raises TriptychError where `generator.refine` asks for no comparison.
    """
    section = context.config.generator.refine
    if section is None:
        raise TriptychError(
            "renew compares nothing: set generator.refine.tasks, the number of held-out tasks on "
            "which the round's policy and the generator are compared"
        )
    now, new = generator_of(context), context.model("policy")
    stage.metrics = {"accepted": False, "generator": now.id}
    if new.round != stage.round or new.id == now.id:
        told = f"{STAYS}: no policy was trained in this round"
    elif not (held := held_of(context, section.tasks, stage.round)).pairs:
        told = f"{STAYS}: no task can be asked of the validation images"
    else:
        told = _compared(context, stage, now, new, held)
    stage.metrics["words"] = told
    context.display.done(f"round {stage.round}: {told}")


def _compared(context: Context, stage: Stage, now: Model, new: Model, held: Held) -> str:
    """Both models' rows compared, into the stage's metrics; what came of it in a line."""
    found = {
        name: shares_of(context, stage, model, name, held)
        for name, model in ((NOW, now), (NEW, new))
    }
    tests: dict[str, Paired] = {
        name: paired(found[NOW][name], found[NEW][name], held.patients)
        for name in (PRECISION, ADHERENCE)
    }
    accepted = all(test.passes for test in tests.values())
    backend = context.config.generator.backend
    stage.metrics |= spending((stage.folder / name / JOURNALS, backend) for name in found)
    stage.metrics |= {
        "accepted": accepted,
        "generator": new.id if accepted else now.id,
        **{name: asdict(test) for name, test in tests.items()},
        "axes": {axis: {name: _rounded(found[name][axis]) for name in found} for axis in AXES},
    }
    measured = f"{tests[PRECISION].in_words(PRECISION)}, {tests[ADHERENCE].in_words('as asked')}"
    who = "the round's policy generates from now on" if accepted else STAYS
    return f"{who}: {measured}, of {len(held.pairs)} held-out tasks"


def _rounded(values: list[Share]) -> Share:
    value = mean(values)
    return None if value is None else round(value, 4)


def held_of(context: Context, number: int, round: int) -> Held:
    """About `number` tasks on validation images, as the quotas and an even mix have them."""
    section, seed = context.config.generator, content_id(context.config.seed, "renew", round)
    modalities = [modality for _, modality, _ in shown(context, "val")]
    if not modalities:
        return Held([], {}, {})
    wanted = wanted_of(max(section.tasks, number), section.styles, section.quotas)
    drawn = draw_tasks(shown(context, "val"), uniform_mix(modalities), wanted, int(seed[:8], 16))
    order = np.random.default_rng(int(seed[8:16], 16)).permutation(drawn.number)
    some = set(order[:number].tolist())
    pairs = [*dict.fromkeys(pair for place, pair in enumerate(drawn.pairs) if place in some)]
    images = images_of(context, [image_id for image_id, _ in pairs])
    held = Held(pairs, images, {})
    known = [] if held.all_true else validation_questions(context)
    golds = {(row.image_id, normalise_question(row.question)): row.answer for row, _ in known}
    return replace(held, golds=golds)


def shares_of(
    context: Context, stage: Stage, model: Model, name: str, held: Held
) -> dict[str, list[Share]]:
    """What a model's rows for the tasks are worth, from shards in a folder of the stage."""
    place = replace(stage, folder=stage.folder / name)
    run_proposer(context, place, model, held.pairs)
    rows = [replace(row, logprob=None) for row in read_shards(place)]
    judge, judged = context.model("judge"), None
    if not (held.all_true or at_chance(json.loads(judge.metrics))):
        judged = _judged(context, place, judge, rows)
    trusted = judged is not None
    choices = choices_of(rows, judged or {}, context.config.select, trusted, logprobs_known=False)
    chosen = {key: choice.triplet.answer for key, choice in choices.items()}
    return shares(held, rows, chosen, judged)


def _judged(
    context: Context, place: Stage, judge: Model, rows: list[Triplet]
) -> dict[str, Judgement]:
    """What a judge says of rows, by their ids."""
    config, root = context.config, context.workspace.root
    bare = place.folder / "bare"
    bare.mkdir(exist_ok=True)
    asked = write_shard(bare, "triplets-000", to_arrow(Triplet, rows))
    to = Shards(place.folder / "judged", (Judgement,))
    make_shards(
        to,
        make_judge,
        Judging(root.absolute(), context.path_of(judge), judge.id, config.cluster.threads),
        {"000": [{"path": str(asked.relative_to(root)), "sha256": None}]},
        places_of(config),
        lambda done, total: context.display.advance(done, total, "parts judged"),
    )
    found = from_arrow(Judgement, pq.read_table(to.path(Judgement, "000")))
    return {one.triplet_id: one for one in found}
