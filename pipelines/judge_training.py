"""A judge trained in a stage, on what experts said of patients of the set train, and recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import TriptychError
from engine.records import Image, Model, Preference, Triplet, Verdict
from engine.trainer import first_use
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.record import images_of, triplets_of
from pipelines.training.launch import rows_per_step, train_on_cluster
from pipelines.training_jobs import job_of
from reward_model.examples import SAID, Example, examples_of
from reward_model.patient_sets import SHARES, TRAIN, is_frozen, set_of
from reward_model.rows import write_examples
from reward_model.settings import JudgeSettings
from reward_model.training import JudgeJob, JudgeResult, train_and_measure
from reward_model.verdicts import RANDOM

Opinion = Verdict | Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What there is to learn from and to measure on, and whose opinions the former are.

    `images` are those of training patients by id, and `left_out` counts opinions by why they say
    nothing.
    """

    learned: list[Example]
    frozen: list[Example]
    opinions: list[Opinion]
    images: dict[str, Image]
    left_out: Counter[str]

    def counts(self) -> dict[str, Any]:
        """By set of patients: patients, single rows and pairs. And what was left out."""
        by_set: dict[str, Any] = {}
        for name in SHARES:
            mine = [
                e
                for e in (*self.learned, *self.frozen)
                if set_of(self.images[e.first.image_id].group) == name
            ]
            by_set[name] = {
                "patients": len({self.images[e.first.image_id].group for e in mine}),
                "rows": sum(e.second is None for e in mine),
                "pairs": sum(e.second is not None for e in mine),
            }
        return {"by_set": by_set, "left_out": dict(self.left_out)}


def taught(
    context: Context,
    new: Sequence[Preference] = (),
    made: Iterable[Triplet] = (),
    rounds: int | None = None,
) -> Taught:
    """All that was said in any stage, and `new` preferences of a stage that is not committed.

    `made` are rows of that stage; `rounds` is the last round that counts, all without it. What is
    said of validation and test images is left out: models are measured on them. So is what is said
    of rows drawn at random of patients of the set train: those rows certify, and teach nobody.
    """
    verdicts = [v for v in context.rows(Verdict) if rounds is None or v.round <= rounds]
    preferences = [*context.rows(Preference), *new]
    preferences = [p for p in preferences if rounds is None or p.round <= rounds]
    rows = triplets_of(context, preferences, verdicts) | {row.id: row for row in made}
    every = images_of(context, (row.image_id for row in (*verdicts, *preferences)))
    images = {name: image for name, image in every.items() if image.split == "train"}
    frozen = {name for name, image in images.items() if is_frozen(image.group)}
    certify = {
        v.id for v in verdicts if v.stream == RANDOM and v.image_id in images.keys() - frozen
    }
    said = [v for v in verdicts if v.image_id in images and v.id not in certify]
    preferred = [p for p in preferences if p.image_id in images]
    found, left_out = examples_of(said, preferred, rows.values())
    inside: list[Opinion] = [*said, *preferred]
    held_out = len(verdicts) + len(preferences) - len(inside) - len(certify)
    left_out += Counter(
        {"of validation or test images": held_out, "drawn at random to certify": len(certify)}
    )
    learned = [e for e in found if e.first.image_id not in frozen]
    sources = {name for example in learned for name in example.sources}
    return Taught(
        learned=learned,
        frozen=[e for e in found if e.first.image_id in frozen and e.kind == SAID],
        opinions=[row for row in inside if row.id in sources],
        images=images,
        left_out=left_out,
    )


def fit_judge(
    context: Context, stage: Stage, start: Model, told: Taught, epochs: float
) -> JudgeResult:
    """Train from `start` on what there is to learn, and measure it on frozen patients.

    Raises TriptychError where there is nothing to learn. Where no patient is frozen the judge is
    not measured, and counts as one at chance.
    """
    if not told.learned:
        raise TriptychError(
            f"{stage.name}: no opinion of a patient of the set {TRAIN} to learn from; raise "
            "expert.pairs or expert.preference_images, or answer more questions (gold rows make "
            "pairs where images answer one question differently)"
        )
    if not told.frozen:
        context.display.warn(
            f"{stage.name}: no opinion of a frozen patient, so the judge cannot be measured"
        )
    config = context.config
    patients = {name: image.group for name, image in told.images.items()}
    prompts, holdout = config.generator.prompts, (stage.folder / "holdout").resolve()
    write_examples(stage.folder / "data", told.learned, patients, prompts)
    write_examples(holdout, told.frozen, patients, prompts)
    section = config.reward.model_copy(update={"epochs": epochs})
    criteria = {str(name): weight for name, weight in section.criteria.items()}
    settings = JudgeSettings(criteria=criteria, prompts=prompts, max_pixels=config.max_pixels)
    job = job_of(JudgeJob, context, stage, section, start, holdout=holdout, settings=settings)
    return train_on_cluster(train_and_measure, job, context.display.advance)


def add_judge(
    context: Context, stage: Stage, start: Model, metrics: dict[str, Any], told: Taught
) -> None:
    """Record a trained judge with the opinions that it learned from."""
    steps = metrics["steps"]
    use = first_use(len(told.learned), rows_per_step(context.config.reward), steps)
    folder = stage.folder / "weights"
    context.add_model(stage, "judge", folder, start, json.dumps(metrics), told.opinions, steps, use)


def stand_ins(metrics: dict[str, Any]) -> list[str]:
    """A line for each set of patients that has too little, and which stand in for it."""
    of = {"gate": metrics["gate"]["sets"], "report": metrics["sets"]}
    return [
        f"the set {name} has too few verdicts and pairs by itself: its figures are of the patients "
        f"of {', '.join(sets)}"
        for name, sets in of.items()
        if list(sets) != [name]
    ]
