"""Refinement takes a judge further, or keeps the old one where the gate says that it got worse.

A small record with real weights: ultrasound phantoms, "Is there a cyst?", an expert's pairs of
which those of half of the patients are frozen. The frozen pairs are always right; the pairs to
learn from are right or swapped, which makes a judge better or ruins it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.lineage.opening import writing
from engine.records import Consumption, Decision, Image, Judgement, Model, Preference, Triplet
from engine.trainer import prepare
from engine.vlm import tiny
from engine.workspace import Workspace
from generators.phantoms.oracle import is_true
from pipelines.context import Context
from pipelines.refine import pairs_of_round, refine
from reward_model.model import load_reward_model
from reward_model.patient_sets import is_frozen
from reward_model.preferences import derived, preference
from reward_model.scoring import Judge
from reward_model.settings import JudgeSettings
from tests.drawn_workspace import answered, context_of, drawn
from tests.lineage_workspace import commit, make_judgement, make_model, make_triplet
from tests.opinions import verdict
from tests.pictures import PNG

pytestmark = pytest.mark.loop

QUESTION = "Is there a cyst?"
SETTINGS = JudgeSettings(criteria={"factuality": 1.0}, prompts="compact", max_pixels=2**20)
QUIET = [
    "expert.error_rate=0",
    "reward.lr=5e-4",
    "reward.batch=8",
    "reward.refine_epochs=4",
    "reward.criteria={factuality: 1}",
]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with writing(tmp_path / "w", "made", {"name": "made"}) as opened:
        yield opened


def first_judge(workspace: Workspace, readout: str) -> Model:
    """An untrained judge, committed: `token` ranks cysts well, the random heads rank backwards."""
    prepare(0, threads=1)
    folder = workspace.root / "untrained"
    model, processor = load_reward_model(str(tiny.FOLDER), readout, "float32")
    model.save(folder, SETTINGS)
    processor.save_pretrained(folder)
    model_id, path = workspace.add_model(folder)
    inside = str(path.relative_to(workspace.root))
    judge = replace(make_model("first", "judge", None, 0, 1), id=model_id, path=inside)
    commit(workspace, "reward", 0, [judge])
    return judge


def expert_pairs(images: list[Image], turned: bool) -> tuple[list[Triplet], list[Preference]]:
    """A pair an image; those that are not frozen the wrong way round where `turned`."""
    rows: list[Triplet] = []
    pairs = []
    for image in images:
        yes = answered(image, QUESTION, "yes")
        no = derived(yes, "perturbed", answer="no")
        frozen = is_frozen(image.group)
        right, wrong = (yes, no) if is_true(image, yes) else (no, yes)
        chosen, rejected = (wrong, right) if turned and not frozen else (right, wrong)
        pairs.append(preference(chosen, rejected, "factuality", "perturbed", "simulated", frozen))
        rows += [yes, no]
    return rows, pairs


def record(workspace: Workspace, readout: str, turned: bool = False) -> Model:
    """Everything up to a first round that is judged; returns the judge that judged it."""
    images = [drawn("ultrasound", n, ("cyst", "none")[n % 2]) for n in range(56)]
    commit(workspace, "ingest", 0, list(images))
    rows, pairs = expert_pairs(images[:40], turned)
    commit(workspace, "compare", 0, [*rows, *pairs])
    judge = first_judge(workspace, readout)
    said = [
        answered(image, QUESTION, answer, sample=n, round=1)
        for image in images[40:]
        for n, answer in enumerate(("yes", "no"))
    ]
    commit(workspace, "generate", 1, list(said))
    opinions = Judge(str(workspace.root / judge.path), judge.id, 1).judge(
        said, {i.id: PNG[i.id] for i in images}
    )
    commit(workspace, "judge", 1, list(opinions))
    return judge


def refined(workspace: Workspace, *overrides: str) -> tuple[Context, dict[str, Any]]:
    """Refine as the loop does: (a context that sees the commit, the stage's metrics)."""
    context = context_of(workspace, *QUIET, *overrides)
    stage = workspace.begin("refine", 1, "refine")
    refine(context, stage)
    workspace.commit(stage)
    return context_of(workspace, *QUIET), stage.metrics


def test_a_judge_that_got_better_on_frozen_pairs_takes_over(workspace: Workspace) -> None:
    start = record(workspace, "head")
    context, metrics = refined(workspace)
    assert metrics["accepted"]
    assert metrics["gate_test"]["verdict"] == "better"
    assert metrics["auc_before"] < 0.5 < 0.8 < metrics["auc_after"] == metrics["auc_refined"]
    assert metrics["pairwise_before"] < metrics["pairwise"]
    newest = context.model("judge")
    assert newest.id != start.id
    assert (newest.parent_id, newest.stage, newest.round) == (start.id, "refine", 1)
    settings = JudgeSettings.load(Path(context.path_of(newest)))
    assert settings.calibration != SETTINGS.calibration
    learned = {c.row_id for c in workspace.read(Consumption) if c.model_id == newest.id}
    assert learned == {p.id for p in workspace.read(Preference) if not p.holdout}
    assert learned & {p.id for p in workspace.read(Preference, "refine")}


def test_a_judge_that_got_worse_on_frozen_pairs_is_rolled_back(workspace: Workspace) -> None:
    start = record(workspace, "token", turned=True)
    context, metrics = refined(workspace)
    assert not metrics["accepted"]
    assert metrics["gate_test"]["verdict"] == "worse"
    assert metrics["auc_before"] > 0.8
    assert metrics["auc_refined"] < metrics["auc_before"] - 0.1
    assert metrics["auc_after"] == metrics["auc_before"]  # what the next round judges with
    assert context.model("judge") == start
    assert workspace.read(Model, "refine") == []
    assert workspace.read(Consumption) == []
    assert workspace.read(Preference, "refine")  # what the expert said is kept for ever


def test_without_new_pairs_nothing_is_trained(workspace: Workspace) -> None:
    start = record(workspace, "token")
    context, metrics = refined(workspace, "reward.refine_pairs=0")
    assert metrics == {"accepted": False, "why": "nothing new was said"}
    assert context.model("judge") == start


def test_the_expert_decides_what_the_judge_is_least_sure_of(workspace: Workspace) -> None:
    """Answers of new images that are not frozen, the smallest gaps first, the true one chosen."""
    record(workspace, "token")
    context = context_of(workspace, *QUIET, "reward.refine_pairs=3", "reward.expert_pairs=3")
    pairs, _ = pairs_of_round(context, 1)
    images = {i.id: i for i in context.images()}
    rows = {t.id: t for t in workspace.read(Triplet)}
    facts = [p for p in pairs if p.criterion == "factuality"]
    assert facts
    assert {p.round for p in pairs} == {1}
    for pair in facts:
        assert is_true(images[pair.image_id], rows[pair.chosen_id])
        assert not is_true(images[pair.image_id], rows[pair.rejected_id])
    gaps = gaps_of(workspace)
    asked = {gaps[p.image_id] for p in facts}
    assert max(asked) <= sorted(gaps.values())[2]


def gaps_of(workspace: Workspace) -> dict[str, float]:
    """By image of a patient who is not frozen: how far apart the judge finds its two answers."""
    overall = {j.triplet_id: j.overall for j in workspace.read(Judgement)}
    learned = {i.id for i in workspace.read(Image) if not is_frozen(i.group)}
    rows: dict[str, list[float]] = {}
    for row in workspace.read(Triplet, "generate"):
        if row.image_id in learned:
            rows.setdefault(row.image_id, []).append(overall[row.id])
    return {image: abs(one - two) for image, (one, two) in rows.items()}


def contested(gap: float, number: int) -> tuple[Image, list[Triplet], list[Judgement]]:
    """An image of a patient who teaches, with two answers, the first `gap` above the other."""
    image = next(
        i
        for n in range(9 * number, 9 * number + 9)
        for i in [drawn("ultrasound", n, "none")]
        if not is_frozen(i.group)
    )
    rows = [
        replace(make_triplet(image, "m", 2 * number + n, 1), answer=word)
        for n, word in enumerate(("yes", "no"))
    ]
    judge = make_model("j", "judge", None, 0, 1)
    scores = [gap, 0.0]
    return image, rows, [replace(make_judgement(r, judge), overall=s) for r, s in zip(rows, scores)]


def decision(row: Triplet, keep: bool) -> Decision:
    return Decision(
        id=f"decision {row.id}", triplet_id=row.id, rules_id="rules", round=1, keep=keep,
        reason="kept" if keep else "below the threshold", score=0.5, threshold=0.5,
    )  # fmt: skip


def test_the_judge_teaches_itself_where_its_row_was_kept_the_surest_first(
    workspace: Workspace,
) -> None:
    """Kept are all but the second; of the fourth the row that the judge finds worse."""
    made = [contested(gap, n) for n, gap in enumerate((6.0, 9.0, 0.5, -4.0, 8.0))]
    commit(workspace, "ingest", 0, [image for image, _, _ in made])
    commit(workspace, "generate", 1, [row for _, rows, _ in made for row in rows])
    commit(workspace, "judge", 1, [opinion for *_, opinions in made for opinion in opinions])
    decided = [
        decision(row, n != 1 and row.answer == "yes")
        for n, (_, rows, _) in enumerate(made)
        for row in rows
    ]
    commit(workspace, "select", 1, decided)
    nobody = [*QUIET, "reward.expert_pairs=0"]

    def taught(number: int) -> list[int]:
        pairs, _ = pairs_of_round(
            context_of(workspace, *nobody, f"reward.refine_pairs={number}"), 1
        )
        rows = {r.id: (n, r.answer) for n, (_, some, _) in enumerate(made) for r in some}
        assert all(p.expert == "judge" and not p.holdout for p in pairs)
        assert all(rows[p.chosen_id][1] == "yes" and rows[p.rejected_id][1] == "no" for p in pairs)
        return [rows[p.chosen_id][0] for p in pairs]

    assert taught(9) == [4, 0, 2]
    assert taught(2) == [4, 0]


def test_verdicts_of_the_round_refine_a_judge_and_those_on_frozen_patients_do_not(
    workspace: Workspace,
) -> None:
    start = record(workspace, "head")
    images = {i.id: i for i in workspace.read(Image)}
    said = [
        verdict(row, "accept" if is_true(images[row.image_id], row) else "reject")
        for row in workspace.read(Triplet, "generate")
    ]
    commit(workspace, "collect", 1, list(said))
    context, metrics = refined(workspace, "reward.refine_pairs=0")
    assert metrics["said"] == len(said)
    assert metrics["accepted"]
    newest = context.model("judge")
    assert newest.parent_id == start.id
    learned = {c.row_id for c in workspace.read(Consumption) if c.model_id == newest.id}
    mine = {v.id for v in said if not is_frozen(images[v.image_id].group)}
    assert mine
    assert mine == learned & {v.id for v in said}
