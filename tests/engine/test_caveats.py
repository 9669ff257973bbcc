"""A judge at chance and a round that keeps nothing are said, and the loop goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.caveats import at_chance, of_judge, of_selection
from engine.config import build
from engine.config.select import Select
from engine.config.training import Grpo, PaperReward, RewardWeights
from engine.hub.card import card
from engine.hub.model_card import model_card
from engine.lineage.opening import writing
from engine.records import Decision, Model, Triplet
from engine.statistics import auc, auc_interval
from engine.workspace import Workspace
from pipelines import grpo, select, sft
from pipelines.context import Context
from pipelines.progress import Display, summary
from pipelines.report.page import write_report
from reward_model.measure import measure, scored
from reward_model.threshold import KEPT, KEPT_BY_AGREEMENT, choose, decide
from tests.judge_rows import example, write
from tests.reward_model.test_select import judged, opinion, reasons, row
from tests.round_workspace import commit, make_image, make_model

CHANCE: dict[str, Any] = {
    "auc": 0.52,
    "gate": {"auc": 0.52, "auc_low": 0.44, "auc_high": 0.6, "n": 70, "on": "pairs"},
}
ABOVE: dict[str, Any] = {
    "auc": 0.72,
    "gate": {"auc": 0.72, "auc_low": 0.61, "auc_high": 0.8, "n": 70, "on": "pairs"},
}


class Told(Display):
    """Keeps what a run says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str, style: str = "") -> None:
        self.lines.append(text)


def test_a_judge_at_chance_has_no_part_in_the_reward_of_grpo() -> None:
    section = Grpo(reward=RewardWeights(process=0.2))
    for metrics, weight in ((CHANCE, 0.0), ({}, 0.0), (ABOVE, section.reward.judge)):
        judge = replace(
            make_model("judge", "judge", "reward", 0, None), metrics=json.dumps(metrics)
        )
        assert grpo.rewards_of(section, judge).weights["judge"] == weight
        assert bool(grpo.rewards_of(section, judge).weights["process"]) == bool(weight)
        assert grpo.rewards_of(section, judge).weights["correct"] == 1.0
        paper = grpo.rewards_of(Grpo(reward=PaperReward()), judge)
        assert paper.weights == {"correct": 0.2, "judge": 0.8 if weight else 0.0}


# The interval


def two_sided(images: int, each: int, shift: float, rng: np.random.Generator) -> tuple[Any, ...]:
    """Scores of accepted and rejected rows; all rows of an image share how well it is judged."""
    image = np.repeat(np.arange(images), each)
    skill = rng.normal(shift, 1, images)[image]
    noise = rng.normal(0, 0.3, (2, images * each))
    scores = np.concatenate([skill + noise[0], -skill + noise[1]])
    return scores, np.repeat([True, False], images * each), np.tile(image, 2)


def test_rows_of_one_image_do_not_narrow_the_interval() -> None:
    scores, accepted, image = two_sided(15, 20, 0.0, np.random.default_rng(0))
    low, high = auc_interval(scores, accepted, image, seed=0)
    alone = auc_interval(scores, accepted, np.arange(image.size), seed=0)
    assert low < auc(scores, accepted) < high
    assert high - low > 3 * (alone[1] - alone[0])


def test_a_judge_that_knows_nothing_is_seldom_taken_for_one_that_does() -> None:
    """At a nominal 2.5 % above; of 200 judges that are right on an image or wrong by a coin."""
    rng = np.random.default_rng(1)
    lows = [auc_interval(*two_sided(30, 4, 0.0, rng), seed=0, resamples=300)[0] for _ in range(200)]
    assert sum(low > 0.5 for low in lows) <= 12
    highs = [auc_interval(*two_sided(30, 4, 1.0, rng), seed=0, resamples=300)[0] for _ in range(20)]
    assert min(highs) > 0.5


@pytest.mark.parametrize(("images", "proven"), [(1, False), (3, False), (12, True)])
def test_a_few_images_that_are_all_right_prove_little(images: int, proven: bool) -> None:
    accepted = np.repeat([True, False], images)
    low, high = auc_interval(accepted * 1.0, accepted, np.tile(np.arange(images), 2), seed=0)
    assert (low > 0.5) == proven
    assert high > 0.9


def test_without_one_of_the_classes_nothing_is_excluded() -> None:
    assert auc_interval([1.0, 2.0], [1, 1], [0, 1], seed=0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "chance"),
    [(0.44, True), (0.5, True), (0.5001, False), (float("nan"), True), (None, True)],
)
def test_a_judge_is_at_chance_unless_the_lower_bound_is_above_a_half(
    low: float | None, chance: bool
) -> None:
    assert at_chance({"gate": ABOVE["gate"] | {"auc_low": low}}) is chance


class Scores:
    """A judge that gives the scores it is told, by text."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.given = scores

    def scores(self, requests: list[Any]) -> np.ndarray:
        return np.array([[self.given[r.text]] * 3 for r in requests])

    def overall(self, scores: np.ndarray) -> np.ndarray:
        return scores[:, 0]


def measured(tmp_path: Path, scores: dict[str, float], pairs: int) -> dict[str, Any]:
    rows = [example(f"good{n}", f"bad{n}", image_id=f"i{n}", patient=f"p{n}") for n in range(pairs)]
    write(tmp_path, rows)
    pixels = {f"i{n}": b"" for n in range(pairs)}
    judge: Any = Scores(scores)
    return measure(scored(judge, tmp_path, pixels)).to_dict()


def test_what_is_measured_of_a_judge_has_its_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = {f"{side}{n}": float(rng.normal()) for side in ("good", "bad") for n in range(40)}
    found = measured(tmp_path / "noise", noise, 40)
    assert found["auc_low"] < found["auc"] < found["auc_high"]
    assert at_chance(found)
    skill = {text: score + 2 * text.startswith("good") for text, score in noise.items()}
    assert not at_chance(measured(tmp_path / "skill", skill, 40))


def test_a_frozen_pair_without_a_score_counts_as_wrong_and_is_counted(tmp_path: Path) -> None:
    scores = {f"{side}{n}": float(side == "good") for side in ("good", "bad") for n in range(4)}
    found = measured(tmp_path, scores | {"bad3": float("nan")}, 4)
    assert (found["pairwise"], found["auc"], found["unscored"]) == (0.75, 1.0, 1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# Selection without the judge


def rows_of_two_answers() -> list[Triplet]:
    """Three samples say left and one says right."""
    return [row(answer="left", sample=n) for n in range(3)] + [row(answer="right", sample=3)]


def test_without_the_judge_the_answer_on_which_samples_agree_is_kept() -> None:
    rows = rows_of_two_answers()
    opinions = judged(*((t, 50.0 if t.answer == "right" else -50.0) for t in rows))
    assert choose(rows, opinions, Select()).triplet.answer == "right"
    found = decide(rows, opinions, Select(keep=1), 1, trusted=False)
    kept = [d for d in found if d.keep]
    assert [d.reason for d in kept] == [KEPT_BY_AGREEMENT]
    assert kept[0].triplet_id in {t.id for t in rows[:3]}
    assert reasons(found)[rows[3].id] == "samples agree on another answer"


def test_without_the_judge_a_question_of_unknown_logprob_is_not_the_surest() -> None:
    agreed = [row(0, "left", n, logprob=-1.0) for n in range(3)]
    unknown = [
        replace(row(1, answer, n), logprob=None)
        for n, answer in enumerate(("left", "left", "right"))
    ]
    found = decide(agreed + unknown, {}, Select(keep=0.5), 1, trusted=False)
    assert {d.triplet_id for d in found if d.keep} <= {t.id for t in agreed}
    assert any(d.keep for d in found)


def test_without_the_judge_its_scores_change_nothing() -> None:
    rows = [
        row(q, answer, n) for q in range(4) for n, answer in enumerate(("left", "left", "right"))
    ]
    rng = np.random.default_rng(0)
    some, other = (judged(*((t, float(rng.normal())) for t in rows)) for _ in range(2))
    one, two, none = (decide(rows, o, Select(), 1, trusted=False) for o in (some, other, {}))
    assert one == two == none


def test_the_rules_of_a_decision_say_that_it_was_made_without_the_judge() -> None:
    opinions = judged((row(), 1.0))
    [with_judge] = decide([row()], opinions, Select(), 1)
    [without] = decide([row()], opinions, Select(), 1, trusted=False)
    assert with_judge.rules_id != without.rules_id
    assert (with_judge.reason, without.reason) == (KEPT, KEPT_BY_AGREEMENT)


def test_of_questions_on_which_all_agree_the_generators_surest_are_kept() -> None:
    rows = [row(q, logprob=-q - 0.1) for q in range(4)]
    kept = {d.triplet_id for d in decide(rows, {}, Select(keep=0.5), 1, trusted=False) if d.keep}
    assert kept == {rows[0].id, rows[1].id}


def test_without_judge_and_weights_the_vote_decides() -> None:
    rows = rows_of_two_answers()
    rules = Select(logprob=0, agreement=0)
    assert choose(rows, {}, rules, trusted=False).triplet.answer == "left"


def test_where_a_log_probability_is_not_known_votes_count_alone() -> None:
    left, right = row(answer="left", logprob=-9.0), row(answer="right", sample=1, logprob=-0.1)
    unknown = replace(left, logprob=None)  # type: ignore[arg-type]
    equal = judged((left, 0.0), (right, 0.0))
    assert choose([left, right], equal, Select()).confidence > 0.8
    assert choose([unknown, right], equal, Select()).confidence == pytest.approx(0.45)


def test_the_floor_stands_without_the_judge_too() -> None:
    opinions = {row().id: opinion(row(), 0.0, 0.5)}
    [decision] = decide([row()], opinions, Select(min_probability=0.6), 1, trusted=False)
    assert decision.reason == "below the probability floor"


# The stages


def begun(root: Path, judge: dict[str, Any], overrides: tuple[str, ...] = ()) -> Context:
    """A workspace with one round's judged rows: of each question, samples agree on `left`."""
    config = build({"expert": {"kind": "none"}}, list(overrides), "x")
    with writing(root, config.name, config.recorded()) as workspace:
        model = replace(make_model("judge", "judge", "reward", 0, None), metrics=json.dumps(judge))
        commit(workspace, "reward", 0, judge, [model])
        images = [make_image(n, f"g{n}", "train") for n in range(6)]
        commit(workspace, "ingest", 0, {}, images)
        said = ("left", "left", "right")
        rows = [
            replace(row(q, answer, n), image_id=image.id)
            for q, image in enumerate(images)
            for n, answer in enumerate(said)
        ]
        commit(workspace, "generate", 1, {}, rows)
        scores = judged(*((t, 9.0 if t.answer == "right" else -9.0) for t in rows))
        commit(workspace, "judge", 1, {}, [replace(j, judge_id=model.id) for j in scores.values()])
    return Context(Workspace.existing(root), config, Told())


def selected(context: Context) -> tuple[dict[str, Any], list[Decision]]:
    stage = context.workspace.begin("select", 1, "select")
    select.select(context, stage)
    context.workspace.commit(stage)
    return stage.metrics, context.rows(Decision)


def test_a_judge_at_chance_has_no_say_in_the_run(tmp_path: Path) -> None:
    context = begun(tmp_path / "w", CHANCE)
    metrics, decisions = selected(context)
    answers = {t.id: t.answer for t in context.rows(Triplet)}
    assert {answers[d.triplet_id] for d in decisions if d.keep} == {"left"}
    assert metrics["by"] == "agreement"
    line = "AUC 0.520 [0.440, 0.600] on 70 frozen pairs"
    told = " ".join(context.display.lines)  # type: ignore[attr-defined]
    assert "the judge was at chance" in told
    page = write_report(context.workspace, tmp_path / "report").read_text()
    readme = card(context.workspace, "demo")
    of_the_judge = model_card(context.workspace, context.model("judge").id)
    for text in (told, page, readme, of_the_judge):
        assert "at chance" in text
        assert line in text
    assert "by agreement of samples" in readme


def test_a_judge_above_chance_selects_and_nothing_is_said(tmp_path: Path) -> None:
    context = begun(tmp_path / "w", ABOVE)
    metrics, decisions = selected(context)
    answers = {t.id: t.answer for t in context.rows(Triplet)}
    assert {answers[d.triplet_id] for d in decisions if d.keep} == {"right"}
    assert metrics["by"] == "judge"
    assert context.display.lines == []  # type: ignore[attr-defined]
    page = write_report(context.workspace, tmp_path / "report").read_text()
    readme = card(context.workspace, "demo")
    of_the_judge = model_card(context.workspace, context.model("judge").id)
    assert not any("at chance" in text for text in (page, readme, of_the_judge))


def test_a_round_that_keeps_nothing_is_said(tmp_path: Path) -> None:
    context = begun(tmp_path / "w", ABOVE, ("select.min_probability=1",))
    metrics, decisions = selected(context)
    assert metrics["kept"] == 0
    assert not any(d.keep for d in decisions)
    line = "no row was kept; most often: below the probability floor"
    texts = [" ".join(context.display.lines)]  # type: ignore[attr-defined]
    texts.append(write_report(context.workspace, tmp_path / "report").read_text())
    texts.append(card(context.workspace, "demo"))
    assert all(line in text for text in texts)


def test_sft_and_grpo_without_a_row_are_left_out_with_a_line(tmp_path: Path) -> None:
    context = begun(tmp_path / "w", ABOVE, ("select.min_probability=1",))
    selected(context)
    for name, body in (("sft", sft.sft), ("grpo", grpo.grpo)):
        stage = context.workspace.begin(name, 1, name)
        body(context, stage)
        assert "skipped" in stage.metrics
        context.workspace.commit(stage)
        assert f"{name}, round 1: no " in context.display.lines[-1]  # type: ignore[attr-defined]
    assert {m.role for m in context.rows(Model)} == {"judge"}


def test_the_summary_marks_a_round_without_the_judge(tmp_path: Path) -> None:
    context = begun(tmp_path / "w", CHANCE)
    selected(context)
    table = summary(context.workspace.commits())
    judge = next(column for column in table.columns if column.header == "judge")
    assert list(judge.cells) == ["0.520\nat chance"]
    assert "at chance: rows were selected by agreement" in str(table.caption)


def test_words_are_only_said_where_they_are_true() -> None:
    assert of_judge(ABOVE) == []
    assert of_selection({"by": "judge", "kept": 3}) == []
    assert of_selection({"kept": 0, "why_none": None}) == ["nothing was generated"]
    assert len(of_judge(CHANCE)) == 1
