"""A small workspace with every kind of row, made by code and without a model."""

from __future__ import annotations

import json
import random
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
    Found,
    Image,
    Item,
    Judgement,
    Model,
    Preference,
    Prompt,
    Refusal,
    Row,
    Task,
    Triplet,
    Verdict,
    Verification,
    canonical,
    content_id,
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


def make_item(triplet: Triplet, stream: str, round: int, other: Triplet | None = None) -> Item:
    return Item.make(triplet, other, stream, round, 0, 1)


def make_verdict(item: Item, reader: str, verdict: str = "accept", **more: Any) -> Verdict:
    return Verdict(
        **{
            "id": content_id("verdict", item.id, reader, verdict, more),
            "item_id": item.id,
            "triplet_id": item.triplet_id,
            "image_id": item.image_id,
            "verdict": verdict,
            "reasons": (),
            "correction": "",
            "comment": "",
            "expert": reader,
            "at": "2026-11-26T10:00:00.000Z",
            "seconds": 4.0,
            "stream": item.stream,
            "round": item.round,
            "repeat": False,
        }
        | more
    )


def make_verification(triplet: Triplet, solver: Model, other: str = "") -> Verification:
    """What was measured of a triplet's question, whose answer is verified."""
    shown = {"image": 1, "none": 0} | ({"other": 0} if other else {})
    answers = {k: {"answers": {triplet.answer: n}, "unreadable": 1 - n} for k, n in shown.items()}
    return Verification(
        id=content_id("verification", triplet.id, solver.id),
        question_id=triplet.question_key,
        image_id=triplet.image_id,
        triplet_id=triplet.id,
        round=triplet.round,
        answer=triplet.answer,
        samples=2,
        agreeing=1,
        answers=canonical({"no": 1, "yes": 1}),
        other_id=other,
        blind_id=solver.id,
        blind=canonical(answers),
        margin=1.0,
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


def make_found(triplet: Triplet) -> Found:
    return Found(
        id=content_id("found", triplet.id),
        triplet_id=triplet.id,
        question_type="disease",
        answer_format="closed",
        difficulty="medium",
        pass_rate=0.5,
        samples=4,
        steps=1,
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
        verified = [make_verification(t, writer) for t in rows if t.sample == 0]
        commit(workspace, "generate", r, [*rows, *verified, PROMPT, TASK, run])
        commit(workspace, "judge", r, [*(make_judgement(t, judge) for t in rows), run])
        found = [make_found(t) for t in rows]
        commit(workspace, "select", r, [*found, *decided, run], kept=sum(d.keep for d in decided))
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

    new_tables = ("prompts", "found", "runs", "datasets", "membership")
    new_columns = ("step", "first_step", "by_step", "derived_from", "known", "tries")
    for folder in (root / "events").iterdir():
        for shard in folder.glob("*.parquet"):
            if shard.stem.rpartition("-")[0] in new_tables:
                shard.unlink()
                continue
            table = pq.read_table(shard)
            old = table.drop_columns([c for c in new_columns if c in table.column_names])
            pq.write_table(old, shard, compression="zstd")
        commit = json.loads((folder / "commit.json").read_text())
        for key in ("schema", "shards", "sizes", "previous", "started", "ended"):
            del commit[key]
        (folder / "commit.json").write_text(json.dumps(commit, indent=1))
    described = json.loads((root / "workspace.json").read_text()) | {"schema": 1}
    (root / "workspace.json").write_text(json.dumps(described))
    (root / "ledger.duckdb").unlink()
