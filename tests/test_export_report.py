"""Export, card, trace and report over a fabricated workspace: two rounds, four modalities."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from rich.console import Console

from engine.errors import TriptychError
from engine.hub.card import SYNTHETIC_NOTE, card
from engine.hub.export import export
from engine.hub.publish import publish
from engine.lineage.runs import this_run
from engine.lineage.trace import render, trace
from engine.records import (
    ROW_TYPES,
    Consumption,
    Decision,
    Evaluation,
    Image,
    Judgement,
    Model,
    Preference,
    Prompt,
    Refusal,
    Review,
    Task,
    Tombstone,
    Triplet,
    Withdrawal,
    bytes_id,
    content_id,
)
from engine.statistics import auc, cluster_bootstrap, wilson
from engine.workspace import Workspace
from pipelines.report import write_report

MODALITIES = ("CT", "MR", "X-ray", "ultrasound")
TYPES = ("modality", "disease", "grading")


def make_image(i: int, group: str, split: str, synthetic: bool = True) -> Image:
    rng = np.random.default_rng(i)
    yy, xx = np.mgrid[:64, :64] / 32 - 1
    head = 180 * (xx**2 + (yy * 0.8) ** 2 < 0.7) + rng.normal(20, 8, (64, 64))
    picture = Pillow.fromarray(np.clip(head, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return Image(
        id=bytes_id(picture.tobytes()),
        png=buffer.getvalue(),
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
    for rows in filter(None, tables):
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
    commit(workspace, "expert", 0, {}, seeds + candidates, pairs, tasks)
    generator = make_model("generator", "generator", "tune", 0, None)
    judger = make_model("judge", "judge", "reward", 0, None)
    commit(workspace, "tune", 0, {"loss": 0.4}, [generator], consume(generator, seeds))
    metrics = {"auc": 0.81, "pairwise": 0.8, "confidence_auc": 0.62, "n_holdout": 40}
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
    commit(workspace, "plan", r, {"mix": {"MR/disease": 0.5}}, tasks, asked, [this_run({})])
    rows = [
        make_triplet(image, parent.id, tasks[int(rng.integers(len(tasks)))], s, r)
        for image in images
        for s in range(3)
    ]
    scores = rng.normal(0.3 * r, 1, len(rows))
    commit(workspace, "generate", r, {"rows": len(rows), "unparsed": 3}, rows)
    commit(workspace, "judge", r, {}, [judge(t, judger.id, s) for t, s in zip(rows, scores)])
    decisions = [decide(t, bool(s > 0), float(s), r) for t, s in zip(rows, scores)]
    kept = [t for t, s in zip(rows, scores) if s > 0]
    metrics = {"kept": len(kept), "rejected": len(rows) - len(kept)}
    metrics |= {"kept_fraction": len(kept) / len(rows), "purity_before": 0.5, "purity_after": 0.7}
    commit(workspace, "select", r, metrics, decisions)
    sft = make_model(f"sft{r}", "policy", "sft", r, parent.id)
    policy = make_model(f"grpo{r}", "policy", "grpo", r, sft.id)
    commit(workspace, "sft", r, {"loss": 1 / r, "steps": 50}, [sft], consume(sft, kept))
    commit(workspace, "grpo", r, {"reward": 0.4, "steps": 20}, [policy], consume(policy, kept))
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
    commit(workspace, "refine", r, metrics, [better])
    return policy


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_load_dataset_opens_the_folder_without_our_code(exported: Path, tmp_path: Path) -> None:
    program = (
        "import sys, json; from datasets import load_dataset; d = load_dataset(sys.argv[1]);"
        "r = d['train'][0]; print(json.dumps([{k: len(v) for k, v in d.items()},"
        "r['image'].size, r['options'], 'engine' in sys.modules]))"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "USE_TORCH": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    counts, size, options, ours = json.loads(done.stdout.splitlines()[-1])
    assert set(counts) == {"train", "validation", "test"}
    assert size == [64, 64]
    assert isinstance(options, list)
    assert not ours


def test_every_kept_row_and_every_seed_is_exported_once(full: Workspace, exported: Path) -> None:
    kept = {d.triplet_id for d in full.read(Decision) if d.keep}
    seeds = {t.id for t in full.read(Triplet) if t.generator_id == "expert"}
    tables = [pq.read_table(p) for p in sorted((exported / "data").glob("*.parquet"))]
    ids = [i for table in tables for i in table.column("id").to_pylist()]
    assert sorted(ids) == sorted(kept | seeds)
    for table in tables:
        assert table.column("id").to_pylist() == sorted(table.column("id").to_pylist())
    rejects = pq.read_table(exported / "rejects.parquet").to_pylist()
    assert {r["id"] for r in rejects} == {d.triplet_id for d in full.read(Decision) if not d.keep}
    assert {r["reason"] for r in rejects} == {"below threshold", "near duplicate"}


def test_equal_workspaces_export_equal_bytes(
    full: Workspace, exported: Path, tmp_path: Path
) -> None:
    export(full, tmp_path / "again", "demo")
    export(full, tmp_path / "again", "demo")  # over an export that is there
    assert files_of(tmp_path / "again") == files_of(exported)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]


def test_a_folder_that_is_no_export_is_left_alone(full: Workspace, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("precious")
    with pytest.raises(TriptychError, match="no export"):
        export(full, tmp_path / "thesis", "demo")
    assert files_of(tmp_path) == {"thesis/chapter1.txt": b"precious"}


def test_the_latest_decision_counts(tmp_path: Path) -> None:
    with Workspace.writing(tmp_path / "w", "late", {}) as workspace:
        images = make_images()[:10]
        ingest(workspace, images)
        task = Task.make("CT", "disease", "easy", "choice", "step")
        rows = [make_triplet(image, "g", task, 0, 1) for image in images]
        commit(workspace, "generate", 1, {}, rows)
        commit(workspace, "select", 1, {}, [decide(t, True, 1.0, 1) for t in rows])
        commit(workspace, "select", 2, {}, [decide(rows[0], False, -1.0, 2)])
        counts = export(workspace, tmp_path / "out", "late")
    assert sum(counts.values()) - counts["rejects"] == 9
    assert counts["rejects"] == 1


@pytest.mark.parametrize("what", ["group", "image"])
def test_a_group_or_image_in_two_splits_is_refused(tmp_path: Path, what: str) -> None:
    second = (1, "g0") if what == "group" else (0, "g1")
    images = [make_image(0, "g0", "train"), make_image(*second, "test")]
    with Workspace.writing(tmp_path / "w", "leak", {}) as workspace:
        ingest(workspace, images)
        with pytest.raises(TriptychError, match=f"{what}.*more than one split"):
            export(workspace, tmp_path / "out", "leak")
    assert not (tmp_path / "out").exists()


def test_file_names_of_real_images_stay_at_home(tmp_path: Path) -> None:
    image = make_image(0, "g0", "train", synthetic=False)
    task = Task.make("CT", "disease", "easy", "choice", "step")
    with Workspace.writing(tmp_path / "w", "real", {}) as workspace:
        ingest(workspace, [image])
        commit(workspace, "expert", 0, {}, [make_triplet(image, "expert", task, 0, 0)])
        export(workspace, tmp_path / "out", "real")
    row = pq.read_table(tmp_path / "out" / "data").to_pylist()[0]
    assert row["source"] is None
    assert (row["origin"], row["reward"]) == ("expert", None)
    assert SYNTHETIC_NOTE not in (tmp_path / "out" / "README.md").read_text()


def test_the_card_counts_what_was_exported(full: Workspace, exported: Path) -> None:
    text = (exported / "README.md").read_text()
    rows = pq.read_metadata(exported / "data" / "test-00000-of-00001.parquet").num_rows
    assert text == card(full, "demo")
    assert f"| test | {rows} |" in text
    assert "below threshold" in text
    assert content_id("judge") in text
    assert "triptych-strict" in text
    assert SYNTHETIC_NOTE in text
    assert "license: cc-by-4.0" in text


def text_of(traced: dict[str, Any]) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render(traced))
    return console.export_text()


def test_a_kept_row_is_traced_to_its_image_and_to_the_models_that_saw_it(full: Workspace) -> None:
    row = next(d for d in full.read(Decision, round=1) if d.keep)
    traced = trace(full.ledger(), row.triplet_id[:12])
    assert traced["id"] == row.triplet_id
    assert traced["image"]["source"].startswith("phantom-")
    assert traced["generator"]["role"] == "generator"
    assert traced["judgements"][0]["judge"]["role"] == "judge"
    assert traced["decisions"][0]["decision"] == "keep"
    saw = {m["id"]: m for m in traced["used_by"]}
    assert set(saw) == {content_id("sft1"), content_id("grpo1")}
    later = {m["id"] for m in saw[content_id("grpo1")]["descendants"]}
    assert later == {content_id("sft2"), content_id("grpo2")}
    json.dumps(traced)
    assert "<tumor>" in text_of(traced) or "Which finding" in text_of(traced)


def test_a_rejected_row_says_why_and_was_seen_by_no_model(full: Workspace) -> None:
    row = next(d for d in full.read(Decision) if not d.keep)
    traced = trace(full.ledger(), row.triplet_id)
    assert traced["decisions"][0]["decision"] == "reject"
    assert traced["decisions"][0]["reason"] == row.reason
    assert traced["used_by"] == []
    assert row.reason in text_of(traced)


def test_images_models_and_preferences_are_traced_too(full: Workspace) -> None:
    ledger = full.ledger()
    image = trace(ledger, full.read(Image)[4].id)
    assert image["kind"] == "image"
    assert len(image["triplets"]) == 8
    model = trace(ledger, content_id("grpo2"))
    line = [m["id"] for m in model["ancestors"]]
    assert line == [content_id(n) for n in ("sft2", "grpo1", "sft1", "generator")]
    assert model["consumed"][0]["rows"] > 0
    preference = trace(ledger, full.read(Preference)[0].id)
    assert preference["used_by"][0]["id"] == content_id("judge")
    assert len(preference["used_by"][0]["descendants"]) == 2
    assert all(map(text_of, (image, model, preference)))


def test_an_unknown_or_short_id_is_a_one_line_error(full: Workspace) -> None:
    with pytest.raises(TriptychError, match="no triplet, image") as unknown:
        trace(full.ledger(), "zz%")
    with pytest.raises(TriptychError, match="more characters") as short:
        trace(full.ledger(), "")
    assert "\n" not in str(unknown.value) + str(short.value)


def test_a_rebuilt_ledger_gives_the_same_rows(full: Workspace, tmp_path: Path) -> None:
    shutil.copytree(full.root, tmp_path / "w")
    with Workspace.maintaining(tmp_path / "w") as copy:
        publish(copy)
    ledger = copy.ledger()

    def everything() -> dict[str, list[dict[str, Any]]]:
        tables = ["commits", *(row_type.table for row_type in ROW_TYPES)]
        return {t: ledger.sql(f"SELECT * FROM {t} ORDER BY ALL") for t in tables}

    before = everything()
    assert ledger.rebuild(copy.events) == len(copy.commits())
    assert everything() == before
    empty = {t.table for t in ROW_TYPES if not before[t.table]}
    assert empty == {Withdrawal.table, Tombstone.table}  # what only a withdrawal fills


def test_the_report_is_one_file_that_fetches_nothing(full: Workspace, tmp_path: Path) -> None:
    html = write_report(full, tmp_path).read_text()
    assert html.count("<svg ") == 5
    assert html.count("<article") == 18
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)
    assert "&lt;tumor&gt;" in html
    assert "<tumor>" not in html
    assert SYNTHETIC_NOTE in html
    assert "burned-in text" in html
    assert html == write_report(full, tmp_path).read_text()


@pytest.mark.parametrize("ingested", [False, True])
def test_the_report_is_written_for_a_workspace_that_has_hardly_begun(
    tmp_path: Path, ingested: bool
) -> None:
    with Workspace.writing(tmp_path / "w", "young", {}) as workspace:
        if ingested:
            ingest(workspace, make_images())
        html = write_report(workspace, tmp_path / "report").read_text()
        with pytest.raises(TriptychError, match="nothing to export"):
            export(workspace, tmp_path / "out", "young")
    assert "No model has been evaluated yet" in html
    assert "<svg " not in html


def test_wilson_matches_a_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0


def test_auc_counts_ties_half() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 5, 60), rng.random(60) < 0.4
    gaps = scores[labels][:, None] - scores[~labels][None]
    assert auc(scores, labels) == pytest.approx(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    assert np.isnan(auc([1.0, 2.0], [1, 1]))


def test_answers_of_one_patient_count_as_one_observation() -> None:
    correct = np.repeat([0, 1] * 10, 20)
    low, high = cluster_bootstrap(correct, np.repeat(np.arange(20), 20), seed=3)
    alone = cluster_bootstrap(correct, np.arange(400), seed=3)
    assert low < alone[0] < 0.5 < alone[1] < high
    assert (low, high) == cluster_bootstrap(correct, np.repeat(np.arange(20), 20), seed=3)
