"""A small workspace with every kind of row, made by code and without a model."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from engine.hub.publish import publish
from engine.lineage.opening import writing
from engine.lineage.runs import this_run
from engine.records import (
    Consumption,
    Decision,
    Evaluation,
    Image,
    Judgement,
    Model,
    Preference,
    Prompt,
    Refusal,
    Row,
    Task,
    Triplet,
    content_id,
    unique,
)
from engine.workspace import Workspace
from pipelines.cli import app
from tests.pictures import pictures_of, shown

CONFIG = {"name": "made", "seed": 0}
PROMPT = Prompt(id=content_id("compact", "Ask."), words="compact", text="Ask.")
TASK = Task.make("MR", "disease", "easy", "closed", "direct")


def cli(*words: object, code: int = 0) -> str:
    """What a `triptych lineage` command prints; its exit code is checked."""
    result = CliRunner().invoke(app, ["lineage", *map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def make_image(number: int, group: str, split: str = "train") -> Image:
    """A noise image; its id is of its pixels."""
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16), dtype=np.uint8)
    return Image(
        id=shown(pixels),
        width=16,
        height=16,
        modality="MR",
        anatomy="head",
        group=group,
        split=split,
        source=f"MR/{number:04d}.dcm",
        rendering="{}",
        deidentification="strict",
        is_synthetic=True,
    )


def make_triplet(image: Image, generator: str, sample: int, round: int, **more: Any) -> Triplet:
    """An answer to one question about an image."""
    return Triplet(
        id=content_id("triplet", image.id, generator, sample, round, more),
        image_id=image.id,
        generator_id=generator,
        task_id=TASK.id,
        prompt_hash="" if generator == "expert" else PROMPT.id,
        seed=1,
        sample=sample,
        round=round,
        question="Is there a lesion?",
        options=("yes", "no"),
        answer="yes" if sample % 2 else "no",
        rationale="",
        raw="",
        logprob=-0.5,
        **more,
    )


def make_model(name: str, role: str, parent: str | None, round: int, step: int | None) -> Model:
    return Model(
        id=content_id("model", name),
        role=role,
        stage=role,
        round=round,
        parent_id=parent,
        path=f"models/{name}",
        metrics="{}",
        step=step,
    )


def consumed(model: Model, rows: list[Any], first: int | None = 1) -> list[Consumption]:
    return [
        Consumption(
            id=content_id(model.id, row.id),
            model_id=model.id,
            row_id=row.id,
            row_table=row.table,
            stage=model.stage,
            first_step=first,
        )
        for row in rows
    ]


def make_preference(chosen: Triplet, rejected: Triplet, holdout: bool = False) -> Preference:
    return Preference(
        id=content_id("preference", chosen.id, rejected.id),
        image_id=chosen.image_id,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        criterion="factuality",
        tier_chosen=10.0,
        tier_rejected=6.0,
        expert="simulated",
        round=chosen.round,
        holdout=holdout,
    )


def make_judgement(triplet: Triplet, judge: Model) -> Judgement:
    return Judgement(
        id=content_id("judgement", triplet.id, judge.id),
        triplet_id=triplet.id,
        judge_id=judge.id,
        factuality=1.0,
        reasoning=0.0,
        relevance=0.0,
        overall=0.6,
        probability=0.7,
    )


def make_decision(triplet: Triplet, keep: bool, round: int) -> Decision:
    return Decision(
        id=content_id("decision", triplet.id, round),
        triplet_id=triplet.id,
        rules_id="rules",
        round=round,
        keep=keep,
        reason="kept" if keep else "below the threshold",
        score=0.6,
        threshold=0.5,
    )


def make_evaluation(image: Image, model: Model, round: int) -> Evaluation:
    return Evaluation(
        id=content_id("evaluation", image.id, model.id, round),
        model_id=model.id,
        image_id=image.id,
        split=image.split,
        round=round,
        arm="policy",
        modality="MR",
        question_type="disease",
        question="Is there a lesion?",
        options=("yes", "no"),
        gold="yes",
        answer="yes",
        valid=True,
        correct=True,
    )


def commit(
    workspace: Workspace, stage: str, round: int, rows: list[Row], **metrics: Any
) -> dict[str, Any]:
    """Commit rows of any types as one stage, images with their pictures."""
    rows = [*rows, *pictures_of(rows)]
    work = workspace.begin(stage, round, content_id(stage, round, sorted(r.id for r in rows)))  # type: ignore[attr-defined]
    by_type: dict[type[Row], list[Row]] = {}
    for row in rows:
        by_type.setdefault(type(row), []).append(row)
    for row_type, some in by_type.items():
        work.write(row_type, some)
    work.metrics = metrics
    return workspace.commit(work)


def fill(workspace: Workspace, rounds: int = 2, seed: int = 0) -> None:
    """Ingest, expert, generator, judge, then rounds of generate, judge, select, train, evaluate."""
    rng = random.Random(seed)
    images = [
        make_image(n, f"group{n // 2}", ("train", "train", "val", "test")[n // 2 % 4])
        for n in range(16)
    ]
    train = [i for i in images if i.split == "train"]
    base = make_model("base", "base", None, 0, None)
    run = this_run(CONFIG)
    refusal = Refusal(id="r", path="bad/a.dcm", frame=-1, reason="burned-in text")
    commit(workspace, "ingest", 0, [*images, refusal, base, run])
    seeds = [make_triplet(i, "expert", 0, 0) for i in train[:3]]
    commit(workspace, "seed", 0, [*seeds, TASK, run])
    generator = make_model("generator", "generator", base.id, 0, 10)
    commit(workspace, "tune", 0, [generator, *consumed(generator, seeds), run], loss=0.5)
    candidates = [make_triplet(i, generator.id, n, 0) for i in train[2:7] for n in (0, 1)]
    pairs = [
        make_preference(a, b, holdout=n == 4)
        for n, (a, b) in enumerate(zip(candidates[::2], candidates[1::2]))
    ]
    commit(workspace, "compare", 0, [*candidates, *pairs, PROMPT, TASK, run])
    judge = make_model("judge", "judge", base.id, 0, 5)
    commit(workspace, "reward", 0, [judge, *consumed(judge, pairs[:4]), run], auc=0.8)
    kept: list[Triplet] = []
    writer = generator
    for r in range(1, rounds + 1):
        rows = [make_triplet(i, writer.id, n, r) for i in train for n in (0, 1)]
        decided = [make_decision(t, rng.random() < 0.6, r) for t in rows]
        commit(workspace, "generate", r, [*rows, PROMPT, TASK, run])
        commit(workspace, "judge", r, [*(make_judgement(t, judge) for t in rows), run])
        commit(workspace, "select", r, [*decided, run], kept=sum(d.keep for d in decided))
        kept += [t for t, d in zip(rows, decided) if d.keep]
        sft = make_model(f"sft{r}", "sft", base.id, r, 20)
        commit(workspace, "sft", r, [sft, *consumed(sft, seeds + kept), run])
        policy = make_model(f"policy{r}", "policy", sft.id, r, 8)
        commit(workspace, "grpo", r, [policy, *consumed(policy, [*seeds, *kept, judge]), run])
        asked = [i for i in images if i.split == "test"]
        commit(workspace, "evaluate", r, [*(make_evaluation(i, policy, r) for i in asked), run])
        writer = policy


def made(root: Path, rounds: int = 2, seed: int = 0, export: bool = False) -> Workspace:
    """A filled workspace."""
    with writing(root, "made", CONFIG) as workspace:
        fill(workspace, rounds, seed)
        if export:
            publish(workspace)
    return Workspace.existing(root)


def as_version_1(root: Path) -> None:
    """Turn a workspace into what version 1 wrote: fewer tables and columns, no hashes."""
    import pyarrow.parquet as pq

    new_tables = ("prompts", "runs", "datasets", "membership")
    new_columns = ("step", "first_step", "by_step", "derived_from")
    for folder in (root / "events").iterdir():
        for shard in folder.glob("*.parquet"):
            if shard.stem.rpartition("-")[0] in new_tables:
                shard.unlink()
                continue
            table = pq.read_table(shard)
            old = table.drop_columns([c for c in new_columns if c in table.column_names])
            pq.write_table(old, shard, compression="zstd")
        commit = json.loads((folder / "commit.json").read_text())
        for key in ("schema", "shards", "previous", "started", "ended"):
            del commit[key]
        (folder / "commit.json").write_text(json.dumps(commit, indent=1))
    described = json.loads((root / "workspace.json").read_text()) | {"schema": 1}
    (root / "workspace.json").write_text(json.dumps(described))
    (root / "ledger.duckdb").unlink()


# A random history, and a plain slow answer to a withdrawal


@dataclass
class History:
    """Commits as plain rows: (stage, round, rows) in order."""

    commits: list[tuple[str, int, list[Any]]] = field(default_factory=list)

    def of(self, row_type: type[Row]) -> list[tuple[int, Any]]:
        """(sequence, row) of a type."""
        return [
            (n, row) for n, (_, _, rows) in enumerate(self.commits) for row in rows
            if type(row) is row_type
        ]  # fmt: skip

    def round_of(self, sequence: int) -> int:
        return self.commits[sequence][1]


def random_history(rng: random.Random) -> History:
    """Stages in any order, rows that name any earlier row, checkpoints within a training."""
    images = [
        make_image(n, f"g{n // 2}") if n < 6 else make_image(n, f"g{n}")
        for n in range(rng.randint(4, 10))
    ]
    history = History([("ingest", 0, list(images))])
    triplets: list[Triplet] = []
    preferences: list[Preference] = []
    models: list[Model] = [make_model("base", "base", None, 0, None)]
    history.commits.append(("base", 0, list(models)))
    for number in range(rng.randint(8, 24)):
        round = rng.randint(0, 1)
        writer = rng.choice(models)
        kind = rng.choice(["generate", "judge", "select", "compare", "train", "train", "evaluate"])
        rows: list[Any] = []
        if kind == "generate":
            for sample in range(rng.randint(1, 4)):
                more: dict[str, Any] = {}
                who = rng.choice([writer.id, "expert"])
                if triplets and rng.random() < 0.3:
                    source = rng.choice([rng.choice(triplets).id, rng.choice(images).id])
                    more, who = {"derived_from": (source,)}, "perturbed"
                rows.append(
                    make_triplet(rng.choice(images), who, sample + 10 * number, round, **more)
                )
            triplets += rows
        elif kind == "judge":
            some = rng.sample(triplets, rng.randint(0, len(triplets)))
            rows = [make_judgement(t, writer) for t in some]
        elif kind == "select":
            some = rng.sample(triplets, rng.randint(0, len(triplets)))
            rows = [make_decision(t, rng.random() < 0.5, round) for t in some]
        elif kind == "compare" and len(triplets) > 1:
            pairs = [rng.sample(triplets, 2) for _ in range(rng.randint(1, 3))]
            rows = unique([make_preference(a, b, rng.random() < 0.3) for a, b in pairs])
            preferences += rows
        elif kind == "evaluate":
            rows = [make_evaluation(rng.choice(images), writer, number)]
        elif kind == "train":
            rows = random_training(rng, number, round, writer, triplets, preferences, models)
            models += [row for row in rows if isinstance(row, Model)]
        if rows:
            history.commits.append((f"{kind}{number}", round, rows))
    return history


def random_training(
    rng: random.Random,
    number: int,
    round: int,
    parent: Model,
    triplets: list[Triplet],
    preferences: list[Preference],
    models: list[Model],
) -> list[Any]:
    """One training's checkpoints and the rows it saw, each from some step on."""
    role = rng.choice(["sft", "judge"])
    pool: list[Any] = [*(triplets if role == "sft" else preferences)]
    if role == "sft" and rng.random() < 0.3:
        pool.append(rng.choice(models))
    seen = rng.sample(pool, rng.randint(0, len(pool)))
    last = rng.choice([None, 30])
    final = make_model(f"m{number}", role, parent.id, round, last)
    early = [
        make_model(f"m{number}at{step}", role, parent.id, round, step)
        for step in rng.sample((10, 20), rng.randint(0, 2))
    ]
    used = [c for row in seen for c in consumed(final, [row], rng.choice([None, 1, 5, 15, 25]))]
    return [*early, final, *used]


@dataclass
class Slow:
    """A withdrawal's answer by sets and loops over plain rows, one rule after the other."""

    history: History
    images: set[str]
    triplets: set[str] = field(default_factory=set)
    preferences: set[str] = field(default_factory=set)
    derived: set[str] = field(default_factory=set)
    tainted: set[str] = field(default_factory=set)

    def answer(self) -> Slow:
        while self._grow_tier_1():
            pass
        self.tainted = set(self.derived)
        while self._grow_tier_2():
            pass
        return self

    def _saw(self, sequence: int, model: Model, rows: set[str]) -> bool:
        return any(
            at == sequence
            and use.row_id in rows
            and (model.step is None or (use.first_step or 0) <= model.step)
            for at, use in self.history.of(Consumption)
        )

    def _grow_tier_1(self) -> bool:
        before = len(self.triplets), len(self.preferences), len(self.derived)
        for _, t in self.history.of(Triplet):
            if t.image_id in self.images or set(t.derived_from) & (self.triplets | self.images):
                self.triplets.add(t.id)
        for _, p in self.history.of(Preference):
            if p.image_id in self.images or {p.chosen_id, p.rejected_id} & self.triplets:
                self.preferences.add(p.id)
        for sequence, m in self.history.of(Model):
            if m.parent_id in self.derived or self._saw(sequence, m, self.triplets):
                self.derived.add(m.id)
        return before != (len(self.triplets), len(self.preferences), len(self.derived))

    def after_a_tainted_judge(self, sequence: int) -> bool:
        """Whether a tainted judge judged in the round of a stage before it."""
        number = self.history.round_of(sequence)
        return any(
            j.judge_id in self.tainted and at < sequence and self.history.round_of(at) == number
            for at, j in self.history.of(Judgement)
        )

    def written(self) -> set[str]:
        """Triplets that a tainted model wrote, and what was made from these."""
        rows = {t.id for _, t in self.history.of(Triplet) if t.generator_id in self.tainted}
        while True:
            more = {t.id for _, t in self.history.of(Triplet) if set(t.derived_from) & rows} - rows
            if not more:
                return rows
            rows |= more

    def _reaches(self, sequence: int, model: Model) -> bool:
        written = self.written()
        pairs = {
            p.id: (at, p) for at, p in self.history.of(Preference)
        }  # fmt: skip
        for at, use in self.history.of(Consumption):
            if at != sequence or (model.step is not None and (use.first_step or 0) > model.step):
                continue
            if use.row_table == "models" and use.row_id in self.tainted:
                return True
            rows = {use.row_id}
            if use.row_table == "preferences":
                made_at, pair = pairs[use.row_id]
                if use.row_id in self.preferences or self.after_a_tainted_judge(made_at):
                    return True
                rows = {pair.chosen_id, pair.rejected_id}
            if rows & written or self._decided(rows, sequence):
                return True
        return model.role == "judge" and any(
            p.holdout and p.id in self.preferences and at <= sequence
            for at, p in self.history.of(Preference)
        )

    def _decided(self, rows: set[str], before: int) -> bool:
        """Whether a decision on any of the rows, or their sources, rests on a tainted judge."""
        sources = {t.id: set(t.derived_from) for _, t in self.history.of(Triplet)}
        while True:
            more = {s for row in rows for s in sources.get(row, set())} - rows
            if not more:
                break
            rows = rows | more
        return any(
            d.triplet_id in rows and at < before and self.after_a_tainted_judge(at)
            for at, d in self.history.of(Decision)
        )

    def _grow_tier_2(self) -> bool:
        before = len(self.tainted)
        for sequence, m in self.history.of(Model):
            if m.parent_id in self.tainted or self._reaches(sequence, m):
                self.tainted.add(m.id)
        return len(self.tainted) != before

    def clean_ancestor(self) -> str | None:
        """The newest model that is in neither tier and that a tainted one descends from."""
        known = {m.id: (s, m) for s, m in reversed(self.history.of(Model))}
        found = []
        for name in self.tainted:
            while name in self.tainted:
                name = known[name][1].parent_id
            if name is not None:
                sequence, m = known[name]
                found.append((sequence, float("inf") if m.step is None else m.step, name))
        return max(found)[2] if found else None
