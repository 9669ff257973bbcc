"""Twins in the loop: drawn, ingested, asked in pairs, compared by rule, withdrawn together."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.config import build
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.lineage.reach import reach
from engine.lineage.trace import trace
from engine.lineage.verify import verify
from engine.pixels import Pixels
from engine.records import Image, Preference, Task, Triplet
from engine.workspace import Workspace
from generators.phantoms.oracle import is_true
from pipelines import ingest, reward, seed
from pipelines.commands.reproduce import reproduce
from pipelines.context import Context, run_stage
from pipelines.judge_training import Taught, taught
from pipelines.record import twins_of
from reward_model.patient_sets import is_frozen
from reward_model.twins import RULE, paired_rows, twin_preferences

FIGURES = {"auc": 0.5, "gate": {"sets": ["gate"]}, "sets": ["report"]}
SETTINGS = [
    "source.phantoms={MR: 8, dermoscopy: 6}", "source.twins=5", "source.size=64",
    "source.split={train: 0.6, val: 0.2, test: 0.2}", "expert.twins=9", "expert.images=4",
    "cluster.address=inline",
]  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A workspace with twins and the expert's rows."""
    root = tmp_path_factory.mktemp("twins") / "w"
    config = build({}, SETTINGS, "the test")
    with writing(root, config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "seed", 0, seed.seed, [("ingest", 0)], {})
    return Context(Workspace.existing(root), config)


def test_a_twin_is_an_ordinary_image_of_its_original_s_group(context: Context) -> None:
    images = {image.id: image for image in context.images()}
    twins = [image for image in images.values() if image.twin_of]
    assert len(images) == 14 + len(twins)
    assert len(twins) == 10
    for twin in twins:
        original = images[twin.twin_of]
        assert (twin.group, twin.split) == (original.group, original.split)
        assert twin.patient == original.patient
        assert twin.is_synthetic
        assert twin.source == original.source.replace(".dcm", "-twin.dcm")
        change = json.loads(twin.drawn or "")["change"]
        told = json.loads(twin.truth or ""), json.loads(original.truth or "")
        values = [t["attributes"].get(change["what"], t.get(change["what"])) for t in told]
        assert [str(value) for value in values] == [change["to"], change["from"]]
    assert set(Pixels(context.workspace.root)) == set(images)
    assert {image.split for image in twins} > {"train"}


def test_a_twin_is_drawn_again_byte_for_byte(context: Context) -> None:
    twin = next(image for image in context.images() if image.twin_of)
    assert reproduce(context.workspace, twin.id)["equal"]
    assert reproduce(context.workspace, twin.twin_of)["equal"]


def test_lineage_says_whose_twin_it_is_and_what_was_changed(context: Context) -> None:
    twin = next(image for image in context.images() if image.twin_of)
    ledger = context.workspace.ledger()
    told = trace(ledger, twin.id)
    assert told["twin_of"] == twin.twin_of
    assert set(told["drawn"]["change"]) == {"what", "from", "to"}
    assert [t["id"] for t in trace(ledger, twin.twin_of)["twins"]] == [twin.id]
    assert sorted(reach(ledger, twin.twin_of).images) == sorted([twin.twin_of, twin.id])
    assert reach(ledger, twin.id).images == [twin.id]


def test_the_seed_has_one_question_to_both_answered_differently(context: Context) -> None:
    images = {image.id: image for image in context.images()}
    twins = twins_of(context)
    rows = context.rows(Triplet, "seed")
    assert len(twins) < 10  # those of val and test are not asked about
    both = [
        (one, other)
        for original, twin in twins
        for one in rows
        for other in rows
        if (one.image_id, other.image_id) == (original.id, twin.id)
        and (one.question, one.options) == (other.question, other.options)
        and one.sample == other.sample >= 1000
    ]
    assert len(both) == 9
    for pair in both:
        assert pair[0].answer != pair[1].answer
        assert all(is_true(images[row.image_id], row) for row in pair)
    assert {row.task_id for pair in both for row in pair} <= {t.id for t in context.rows(Task)}
    again = reproduce(context.workspace, both[0][1].id)
    assert again["equal"], again


def test_the_rule_puts_an_image_s_own_answer_first(context: Context) -> None:
    images = {image.id: image for image in context.images()}
    rows, preferences, tasks = twin_preferences(twins_of(context), 12, 0)
    known = {row.id: row for row in rows}
    assert 0 < len(preferences) <= 12
    assert len(preferences) % 2 == 0
    for said in preferences:
        chosen, rejected = known[said.chosen_id], known[said.rejected_id]
        assert is_true(images[said.image_id], chosen)
        assert not is_true(images[said.image_id], rejected)
        assert (said.criterion, said.expert, said.holdout) == ("factuality", RULE, False)
        assert not is_frozen(images[said.image_id].group)
        assert chosen.question == rejected.question
        assert not chosen.rationale
    texts = [(known[p.chosen_id].question, known[p.chosen_id].answer) for p in preferences]
    assert sorted(texts) == sorted(
        (known[p.rejected_id].question, known[p.rejected_id].answer) for p in preferences
    )  # each text is right as often as it is wrong
    assert {row.task_id for row in rows} <= {task.id for task in tasks}


def test_the_judge_learns_from_them(context: Context) -> None:
    made, preferences, _ = twin_preferences(twins_of(context), 12, 0)
    told = taught(context, preferences, made)
    assert {e.sources[0] for e in told.learned} == {p.id for p in preferences}
    assert told.frozen == []
    assert all(e.targets == {"factuality": 1.0} for e in told.learned)
    assert isinstance(told.opinions[0], Preference)


def test_stage_reward_makes_them_and_hands_them_to_the_training(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for the training and its model; what is recorded is the stage's own."""
    seen: list[Taught] = []
    result = SimpleNamespace(to_dict=lambda: dict(FIGURES))
    monkeypatch.setattr(reward, "backbone", lambda context: None)
    monkeypatch.setattr(reward, "fit_judge", lambda *told: seen.append(told[3]) or result)
    monkeypatch.setattr(reward, "add_judge", lambda *told: None)
    root = context.workspace.root
    config = build({}, [*SETTINGS, "reward.twins=6"], "the test")
    with writing(root, config.name, context.config.recorded()) as workspace:
        run_stage(Context(workspace, config), "reward", 0, reward.reward, [("seed", 0)], {})
    made = Context(Workspace.existing(root), config)
    pairs = made.rows(Preference, "reward")
    assert len(pairs) == made.workspace.commits()[-1]["metrics"]["twins"] > 0
    assert {e.sources[0] for e in seen[0].learned} == {pair.id for pair in pairs}
    rows = {row.id: row for row in made.rows(Triplet, "reward")}
    assert {pair.chosen_id for pair in pairs} | {pair.rejected_id for pair in pairs} <= set(rows)
    assert {row.task_id for row in rows.values()} <= {task.id for task in made.rows(Task)}
    assert verify(made.workspace).problems == []


def test_pairs_take_turns_and_unknown_truth_gives_none(context: Context) -> None:
    twins = twins_of(context)
    asked = paired_rows(twins, len(twins), ("direct",), 0)
    assert len({one.image_id for (one, _), _ in asked}) == len(twins)
    nobody = [(_unknown(one), other) for one, other in twins]
    assert paired_rows(nobody, 5, ("direct",), 0) == []


def _unknown(image: Image) -> Image:
    return Image(**(image.to_dict() | {"truth": None}))


def test_twins_that_are_not_drawn_cannot_be_asked(tmp_path: Path) -> None:
    for key in ("expert.twins=3", "reward.twins=3"):
        with pytest.raises(TriptychError, match=f"{key.partition('=')[0]} asks images"):
            build({}, [key], "run.yaml")
    with pytest.raises(TriptychError, match=r"needs source\.path null"):
        build({}, ["reward.twins=3", "source.twins=3", f"source.path={tmp_path}"], "run.yaml")
