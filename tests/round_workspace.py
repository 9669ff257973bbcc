"""A workspace of two rounds over four modalities, its rows made by code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from engine.lineage.runs import this_run
from engine.records import (
    Assignment,
    Consumption,
    Decision,
    Evaluation,
    Image,
    Item,
    Judgement,
    Model,
    Preference,
    Prompt,
    Refusal,
    Review,
    Task,
    Triplet,
    content_id,
)
from engine.workspace import Workspace
from generators.found import found_of
from reward_model.verdicts import Answer, verdict_of
from tests.lineage_workspace import make_verification
from tests.pictures import pictures_of, shown

MODALITIES = ("CT", "MR", "X-ray", "ultrasound")
TYPES = ("modality", "disease", "grading")


def make_image(i: int, group: str, split: str, synthetic: bool = True) -> Image:
    rng = np.random.default_rng(i)
    yy, xx = np.mgrid[:64, :64] / 32 - 1
    head = 180 * (xx**2 + (yy * 0.8) ** 2 < 0.7) + rng.normal(20, 8, (64, 64))
    return Image(
        id=shown(np.clip(head, 0, 255).astype(np.uint8)),
        width=64,
        height=64,
        modality=MODALITIES[i % 4],
        anatomy="head",
        group=group,
        split=split,
        source=f"phantom-{i}.dcm",
        rendering=json.dumps({"window": [40, 80]}),
        deidentification="triptych-strict",
        is_synthetic=synthetic,
    )


def make_images() -> list[Image]:
    splits = {0: "test", 1: "val"}
    return [make_image(i, f"g{i // 2}", splits.get(i // 2 % 5, "train")) for i in range(40)]


def make_model(name: str, role: str, stage: str, round: int, parent: str | None) -> Model:
    return Model(
        id=content_id(name),
        role=role,
        stage=stage,
        round=round,
        parent_id=parent,
        path=f"models/{name}",
        metrics='{"loss":0.5}',
    )


def make_triplet(image: Image, generator: str, task: Task, sample: int, round: int) -> Triplet:
    return Triplet(
        id=content_id(image.id, generator, task.id, sample, round),
        image_id=image.id,
        generator_id=generator,
        task_id=task.id,
        prompt_hash=content_id("prompt"),
        seed=round,
        sample=sample,
        round=round,
        question="Is there a <tumor>?" if sample % 2 else "Which finding is shown?",
        options=("yes", "no") if sample % 2 else ("tumor", "infarct", "none"),
        answer="yes" if sample % 2 else "tumor",
        rationale=f"{image.modality} head: 1 small tumor left.",
        raw="Q: …",
        logprob=-0.3,
    )


def commit(
    workspace: Workspace, name: str, round: int, metrics: dict[str, Any], *tables: list[Any]
) -> None:
    stage = workspace.begin(name, round, content_id(name, round))
    pictures = pictures_of(row for rows in tables for row in rows)
    for rows in filter(None, [*tables, pictures]):
        stage.write(type(rows[0]), rows)
    stage.metrics.update(metrics)
    workspace.commit(stage)


def judge(triplet: Triplet, judge_id: str, score: float) -> Judgement:
    return Judgement(
        id=content_id(triplet.id, judge_id),
        triplet_id=triplet.id,
        judge_id=judge_id,
        factuality=score,
        reasoning=score,
        relevance=score,
        overall=score,
        probability=float(1 / (1 + np.exp(-score))),
    )


def decide(triplet: Triplet, keep: bool, score: float, round: int) -> Decision:
    return Decision(
        id=content_id(triplet.id, "rules"),
        triplet_id=triplet.id,
        rules_id="rules",
        round=round,
        keep=keep,
        reason="kept" if keep else ("below threshold", "near duplicate")[triplet.sample % 2],
        score=score,
        threshold=0.0,
    )


def consume(model: Model, rows: list[Any]) -> list[Consumption]:
    return [
        Consumption(
            id=content_id(model.id, row.id),
            model_id=model.id,
            row_id=row.id,
            row_table=type(row).table,
            stage=model.stage,
        )
        for row in rows
    ]


def evaluate(image: Image, model: Model, arm: str, round: int, correct: bool) -> Evaluation:
    return Evaluation(
        id=content_id(image.id, model.id, arm, round),
        model_id=model.id,
        image_id=image.id,
        split=image.split,
        round=round,
        arm=arm,
        modality=image.modality,
        question_type=TYPES[int(image.id[:4], 16) % 3],
        question="Which finding is shown?",
        options=("tumor", "none"),
        gold="tumor",
        answer="tumor" if correct else "none",
        valid=True,
        correct=correct,
    )


def ingest(workspace: Workspace, images: list[Image]) -> None:
    refusal = Refusal(id=content_id("r"), path="bad/a.dcm", frame=0, reason="burned-in text")
    commit(workspace, "ingest", 0, {"files": 41, "images": 40, "refused": 1}, images, [refusal])
    review = Review(
        id=content_id("v"), image_id=content_id("q"), verdict="dropped", reason="quarantined",
        reviewer="R", decided="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    commit(workspace, "review", 0, {"released": 0, "dropped": 1}, [review])


def fill(workspace: Workspace) -> None:
    """Every stage of two rounds, as the loop commits them."""
    rng = np.random.default_rng(0)
    images = make_images()
    tasks = [Task.make(m, t, "easy", "choice", "step") for m in MODALITIES for t in TYPES]
    ingest(workspace, images)
    seeds = [make_triplet(i, "expert", tasks[0], 0, 0) for i in images[4:10]]
    candidates = [make_triplet(i, "perturbed", tasks[0], 1, 0) for i in images[4:10]]
    pairs = [
        Preference(
            id=content_id(a.id, b.id),
            image_id=a.image_id,
            chosen_id=a.id,
            rejected_id=b.id,
            criterion="factuality",
            tier_chosen=10,
            tier_rejected=6,
            expert="expert-1",
            round=0,
            holdout=False,
        )
        for a, b in zip(seeds, candidates)
    ]
    items = [Item.make(t, None, "informative", 0, n, 1) for n, t in enumerate(candidates)]
    verdicts = [
        verdict_of(
            Answer(id=f"a{n}", kind="verdict", reader="R1", at="2026-01-01T00:00:00Z",
                   item_id=item.id, triplet_id=item.triplet_id, verdict="reject"),
            item, row,
        )
        for n, (item, row) in enumerate(zip(items, candidates))
    ]  # fmt: skip
    commit(workspace, "expert", 0, {}, seeds + candidates, pairs, tasks, items, verdicts)
    generator = make_model("generator", "generator", "tune", 0, None)
    judger = make_model("judge", "judge", "reward", 0, None)
    commit(workspace, "tune", 0, {"loss": 0.4}, [generator], consume(generator, seeds))
    metrics = {"auc": 0.81, "pairwise": 0.8, "logprob_auc": 0.62, "n": 40}
    commit(workspace, "reward", 0, metrics, [judger], consume(judger, pairs))
    parent = generator
    for r in (1, 2):
        parent = run_round(workspace, rng, r, images, tasks, parent, judger)


def run_round(
    workspace: Workspace,
    rng: np.random.Generator,
    r: int,
    images: list[Image],
    tasks: list[Task],
    parent: Model,
    judger: Model,
) -> Model:
    asked = [Prompt(id=content_id("prompt"), words="compact", text="Ask.")]
    pairs = [Assignment.make(i.id, tasks[n % len(tasks)].id, r, n) for n, i in enumerate(images)]
    mix = {"mix": {"MR/disease": 0.5}}
    commit(workspace, "plan", r, mix, tasks, asked, pairs, [this_run({})])
    rows = [
        make_triplet(image, parent.id, tasks[int(rng.integers(len(tasks)))], s, r)
        for image in images
        for s in range(3)
    ]
    scores = rng.normal(0.3 * r, 1, len(rows))
    commit(workspace, "generate", r, {"rows": len(rows), "unparsed": 3}, rows)
    verified = [make_verification(t, parent) for t in rows if t.sample == 0]
    margins = [0] * 10 + [len(verified) // 2] + [0] * 9 + [len(verified) // 2]
    measured = {"questions": len(verified), "pass_rate": 0.7, "margin": 0.5, "margins": margins}
    commit(workspace, "verify", r, measured | {"answered_blind": 0.5}, verified)
    commit(workspace, "judge", r, {}, [judge(t, judger.id, s) for t, s in zip(rows, scores)])
    decisions = [decide(t, bool(s > 0), float(s), r) for t, s in zip(rows, scores)]
    kept = [t for t, s in zip(rows, scores) if s > 0]
    metrics = {"kept": len(kept), "rejected": len(rows) - len(kept)}
    metrics |= {
        "kept_fraction": len(kept) / len(rows),
        "precision_before": 0.5,
        "precision_after": 0.7,
    }
    chosen = {t.question_key: t.answer for t in kept}
    commit(workspace, "select", r, metrics, decisions, found_of(rows, chosen))
    sft = make_model(f"sft{r}", "policy", "sft", r, parent.id)
    policy = make_model(f"grpo{r}", "policy", "grpo", r, sft.id)
    commit(workspace, "sft", r, {"loss": 1 / r, "steps": 50}, [sft], consume(sft, kept))
    saw = consume(policy, [*kept, judger])
    commit(workspace, "grpo", r, {"reward": 0.4, "steps": 20}, [policy], saw)
    arms = {"base": (parent, 0.4), "sft": (sft, 0.55 + 0.05 * r), "policy": (policy, 0.6 + 0.1 * r)}
    answers = [
        evaluate(image, model, arm, r, bool(rng.random() < p))
        for arm, (model, p) in arms.items()
        for image in images
        if image.split != "train"
    ]
    commit(workspace, "evaluate", r, {"arms": {}}, answers)
    better = make_model(f"judge{r}", "judge", "refine", r, judger.id)
    metrics = {"auc_before": 0.8, "auc_after": 0.8 + 0.04 * r, "accepted": True}
    metrics["drift"] = [
        {"round": n, "n": 30, "auc": 0.8 - 0.05 * (r - n), "ece": 0.05 + 0.1 * (r - n)}
        for n in range(1, r + 1)
    ]
    commit(workspace, "refine", r, metrics, [better])
    return policy
