"""The loop's benchmark is fair: what arms are shown, how it goes on, what it calls success."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks import arms, loop
from benchmarks.loop import OutOfTime, Pieces
from benchmarks.loop_report import gains_of, report, verdict
from engine.config import Config, build
from engine.records import Consumption, Decision, Judgement, Model, Task, Triplet
from engine.trainer import read_training_set
from engine.training_job import TrainingJob, TrainingResult
from generators import phantoms
from generators.phantoms import reporter
from generators.phantoms.oracle import is_true
from pipelines import grpo
from pipelines.context import Context
from pipelines.training.grpo import GrpoJob, GrpoResult
from pipelines.training.launch import rows_per_step
from reward_model.experts.simulated import write_rows
from tests.generators.test_generators import image_of

pytestmark = pytest.mark.loop

STEP = 32


@pytest.mark.parametrize("own", [40, 560, 3400])
def test_every_arm_sees_the_expert_as_often_and_as_much_of_its_own(own: int) -> None:
    """A fixed number of steps over all rows would show an expert's row 2 times or 0.4 times."""
    data = arms.exposure([f"e{n}" for n in range(300)], list(range(own)), 2, 1200, 0)
    seen = Counter(data)
    assert len(data) == 2 * 300 + 1200
    assert {seen[f"e{n}"] for n in range(300)} == {2}
    times = [seen[n] for n in range(own)]
    assert sum(times) == 1200
    assert max(times) - min(times) <= 1  # whole passes before any is seen once more


def test_an_arm_without_rows_sees_the_expert_as_often() -> None:
    assert Counter(arms.exposure(["a", "b"], [], 2, 1200, 0)) == {"a": 2, "b": 2}


def rows_and_context() -> tuple[list[Triplet], Context]:
    """Four answers to each of some questions: three agree, and the fourth is sure of itself."""
    image = image_of(phantoms.draw("MR", 1, 64).truth)
    written = write_rows(image, 6, ["step"], 0, False)
    rows = []
    for row, _ in written:
        other = next((o for o in row.options if o != row.answer), "elsewhere")
        for n, (answer, logprob) in enumerate(
            [(row.answer, -0.2), (row.answer, -0.2), (row.answer, -0.2), (other, -0.1)]
        ):
            rows.append(
                replace(row, id=f"{row.id}{n}", answer=answer, logprob=logprob, generator_id="g")
            )
    tables = {Task: [task for _, task in written]}
    context = SimpleNamespace(
        config=Config(), images=lambda: [image], rows=lambda kind: tables[kind]
    )
    return rows, cast(Context, context)


def test_random_questions_are_as_many_questions_and_not_as_many_rows() -> None:
    rows, _ = rows_and_context()
    chosen = arms.random_questions(rows, 4, 0)
    assert len({row.question_key for row in chosen}) == len(chosen) == 4
    assert len(arms.random_questions(rows, 99, 0)) == len({row.question_key for row in rows})
    drawn = {row.answer for seed in range(40) for row in arms.random_questions(rows, 6, seed)}
    assert len(drawn) > len({row.answer for row in rows[::4]})  # wrong answers too


def test_without_a_judge_agreement_chooses_and_logprob_ranks() -> None:
    rows, context = rows_and_context()
    surer = rows[4].question_key
    rows = [replace(r, logprob=-0.01) if r.question_key == surer else r for r in rows]
    chosen = arms.agreed(context, rows, 3)
    assert len({row.question_key for row in chosen}) == 3
    assert chosen[0].question_key == surer
    assert all(row.answer == rows[4 * (i // 4)].answer for row in chosen
               for i, other in enumerate(rows) if other.id == row.id)  # fmt: skip


def test_true_labels_are_true_and_reasoned_in_the_rows_own_style() -> None:
    rows, context = rows_and_context()
    (image,) = context.images()
    told = arms.told_truly(context, [replace(r, answer="nonsense", rationale="") for r in rows])
    assert len(told) == len({row.question_key for row in rows})
    assert all(is_true(image, row) for row in told)
    truth = phantoms.draw("MR", 1, 64).truth
    assert {row.rationale for row in told} == {reporter.describe(truth)}


def test_a_finished_piece_is_used_again_and_none_is_begun_out_of_time(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"accuracy": 0.5}

    first = Pieces(tmp_path, 0, time.time() + 60).made("filtered", make)
    late = Pieces(tmp_path, 0, time.time() - 1)
    assert late.made("filtered", make) == first
    assert len(made) == 1
    with pytest.raises(OutOfTime):
        late.made("unfiltered", make)


def test_success_is_an_interval_above_zero_and_nothing_less() -> None:
    assert verdict([0.02, 0.021, 0.019]) == "**met**"
    assert verdict([0.038, 0.016, 0.012]) == "open"  # 2.2 ± 1.4 with three seeds
    assert verdict([-0.02, -0.021, -0.019]) == "**refuted**"
    assert verdict([0.02, 0.021]).startswith("open")


def test_an_arm_is_compared_with_the_better_of_its_controls_in_seeds_that_have_all() -> None:
    def result(**accuracy: float) -> dict[str, Any]:
        return {"arms": {name: {"accuracy": value} for name, value in accuracy.items()}}

    results = [
        result(g=0.8, low=0.7, high=0.79),
        result(g=0.9, low=0.7),
        result(g=0.7, low=0.5, high=0.75),
    ]
    best, gains = gains_of(results, "g", ("low", "high"))
    assert best == "high"
    assert np.allclose(gains, [0.01, -0.05])


GRPO_SETTINGS = ("grpo.steps=6", "grpo.batch=4", "grpo.accumulate=2", "grpo.group=4",
                 "grpo.lr=1e-5", "sft.batch=5", "sft.accumulate=3", "sft.lr=2e-4")  # fmt: skip


@dataclass(frozen=True)
class Given:
    """A training's job, its rows, and the steps that it took."""

    job: TrainingJob
    rows: list[dict[str, Any]]
    steps: int


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Given]:
    """What each training was given; the trainers alone are stand-ins, which count their steps."""
    given: list[Given] = []

    def sft(job: TrainingJob) -> TrainingResult:
        rows = read_training_set(job.data).to_list()
        steps = math.ceil(len(rows) * job.section.epochs / rows_per_step(job.section))
        given.append(Given(job, rows, steps))
        return TrainingResult(loss=1.0, steps=steps)

    def rewarded(loop: Any, job: GrpoJob, advance: Any) -> GrpoResult:
        steps = job.section.steps
        given.append(Given(job, read_training_set(job.data).to_list(), steps))
        return GrpoResult(steps=steps, reward_first=None, reward=None, rewards=(), teaching=None)

    monkeypatch.setattr(arms, "train_sft", sft)
    monkeypatch.setattr(grpo, "train_on_cluster", rewarded)
    return given


def rounds_context(both: bool = False) -> Context:
    """A second round whose GRPO saw two answers of the first question, none of the last, and one
    of each other; with `both` the first round's saw the same."""
    rows, context = rows_and_context()
    models = [
        Model(id=f"sft{n}", role="sft", stage="sft", round=n, parent_id=None, path=f"sft{n}",
              metrics="{}")
        for n in (1, 2)
    ]  # fmt: skip
    used = [
        Consumption(id=r.id, model_id="policy", row_id=r.id, row_table="triplets", stage="grpo")
        for r in (rows[3], *rows[:-4:4])
    ]
    judged = [
        Judgement(id=r.id, triplet_id=r.id, judge_id="j", factuality=0.0, reasoning=0.0,
                  relevance=0.0, overall=0.0, probability=0.5)
        for r in rows
    ]  # fmt: skip
    kept = [
        Decision(id=r.id, triplet_id=r.id, rules_id="", keep=True, round=1, reason="", score=0.0,
                 threshold=0.0)
        for r in rows[::4]
    ]  # fmt: skip
    (image,) = context.images()

    def read(kind: type, stage: str | None = None, round: int | None = None) -> list[Any]:
        if kind is Consumption:
            return [] if (stage, round) == ("grpo", 1) and not both else used
        if kind is Triplet and stage == "seed":
            return [replace(r, id=f"{r.id}e", generator_id="expert") for r in rows[::4]]
        return {Model: models, Triplet: rows, Judgement: judged, Decision: kept}.get(
            kind
        ) or context.rows(kind)

    made = SimpleNamespace(
        config=build({}, list(GRPO_SETTINGS), "test"),
        images=lambda: [image],
        workspace=SimpleNamespace(root=Path("workspace")),
        path_of=lambda model: model.path,
        display=SimpleNamespace(advance=None),
        model=lambda role: models[0],
        base=lambda: replace(models[0], id="base", role="base", path="base"),
        rows=read,
    )
    return cast(Context, made)


def turns(training: Given, answer: str) -> Counter[tuple[str, str, str]]:
    """How often a training set has each picture, prompt and answer."""
    return Counter((r["image_id"], r["prompt"], r[answer]) for r in training.rows)


@pytest.mark.parametrize("labels", ["", ", true labels"])
def test_beside_grpo_stands_sft_of_the_same_model_rows_and_steps_at_two_rates(
    tmp_path: Path,
    trainings: list[Given],
    capsys: pytest.CaptureFixture[str],
    labels: str,
) -> None:
    context = rounds_context()
    rows = arms.rows_of(context, "grpo", 2)
    given = arms.told_truly(context, rows[2:]) if labels else None
    same = rows if given is None else given
    where = labels or ", round 2"
    found: dict[str, Any] = {}

    def arm(name: str, train: Any) -> None:
        found[name] = {"accuracy": 0.5} | train(tmp_path / f"{len(found)}").shown()

    start = loop.model_of(context, "sft", 2)
    arm(f"GRPO{where}", lambda out: arms.grpo_arm(context, start, start, same, out))
    loop.controls(context, arm, 2, labels, given)

    rewarded, *controls = trainings
    assert [c.job.section.lr for c in controls] == [2e-4, 1e-5]
    golds = turns(rewarded, "gold")
    assert len(golds) == len(same) == len(rows) - 2 * bool(labels)
    for control in controls:
        assert control.job.model == rewarded.job.model == "sft2"
        assert control.steps == rewarded.steps == 6
        asked = turns(control, "completion")
        assert {(i, p, f"<answer>{a}</answer>") for i, p, a in golds} == set(asked)
        assert sum(asked.values()) == 6 * 2  # questions of GRPO: 8 rows a step in groups of 4
        assert max(asked.values()) - min(asked.values()) <= 1

    report([{"arms": found, "rounds": {}, "judges": {}, "questions": 100}])
    lines = [[c.strip() for c in at.split("|")[1:-1]] for at in capsys.readouterr().out.split("\n")]
    head = next(line for line in lines if line[:1] == ["arm"])
    assert head[3:7] == ["steps", "rows", "questions", "passes"]
    shown = {line[0]: line[3:7] for line in lines if line and line[0] in found}
    rates = ("SFT's rate", "GRPO's rate")
    names = [f"GRPO{where}", *(f"SFT on GRPO's rows{where}, {rate}" for rate in rates)]
    questions = len(same) - (not labels)
    told = ["6", str(len(same)), str(questions), f"{12 / len(same):.2f}"]
    assert shown == dict.fromkeys(names, told)


def test_every_arm_is_printed_with_what_it_was_shown_and_every_grpo_with_its_controls(
    tmp_path: Path,
    trainings: list[Given],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the loop and the models the figures are given; which arms there are is not."""
    given = dict.fromkeys(
        ("auc", "pairwise", "logprob_auc", "precision", "precision_before", "precision_after",
         "kept_fraction", "fresh", "mixed", "teaching", "reward_first", "reward",
         "validation", "validation_before"), 0.5,
    )  # fmt: skip
    evaluated = {arm: {"accuracy": 0.5} for arm in ("base", "sft", "policy")}
    metrics = given | {"steps": 6, "accepted": True, "arms": evaluated}
    monkeypatch.setattr(loop, "step", lambda *_: {"metrics": metrics})
    monkeypatch.setattr(loop, "held_out", lambda *_: ["a question"] * 100)
    monkeypatch.setattr(loop, "examine", lambda *_: [SimpleNamespace(correct=True)])
    monkeypatch.setattr(loop, "fresh_triplets", lambda context, kept: kept)

    def kept(context: Context, rounds: int) -> list[Triplet]:
        ids = {decision.triplet_id for decision in context.rows(Decision)}
        return [row for row in context.rows(Triplet, "generate") if row.id in ids]

    monkeypatch.setattr(loop, "kept_triplets", kept)
    left: list[Triplet] = []

    def mixed(
        context: Context, start: Any, rows: list[Triplet], number: int, folder: Path
    ) -> list[Triplet]:
        left.extend(rows)
        return rows[1:]

    monkeypatch.setattr(loop, "mixed_rows", mixed)
    result: dict[str, Any] = {"arms": {}, "rounds": {}, "judges": {}}
    loop.run_arms(rounds_context(both=True), Pieces(tmp_path, 0, time.time() + 60), result)
    assert left  # truly labelled; the first of them divides nobody
    assert result["arms"]["GRPO, true labels"]["rows"] == len(left) - 1
    for where in ("round 1", "round 2", "true labels"):
        one, *controls = (
            result["arms"][name]
            for name in (
                f"GRPO, {where}",
                f"SFT on GRPO's rows, {where}, SFT's rate",
                f"SFT on GRPO's rows, {where}, GRPO's rate",
            )
        )
        for control in controls:
            for count in ("steps", "rows", "questions", "passes"):
                assert control[count] == pytest.approx(one[count], abs=0.01), (where, count)
    capsys.readouterr()
    report([result])
    lines = [[c.strip() for c in at.split("|")[1:-1]] for at in capsys.readouterr().out.split("\n")]
    table = {line[0]: line for line in lines if len(line) == 8}
    assert set(result["arms"]) <= set(table)
    assert all("–" not in table[arm][1:7] for arm in result["arms"] if arm != "base")
