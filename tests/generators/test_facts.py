"""What composes: facts of rows and labels, measures of masks, the section of the configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.compose import EVEN
from engine.config import build
from engine.errors import TriptychError
from generators.compose.balance import Balance
from generators.compose.composer import CONTRADICT, TOO_FEW, compose
from generators.compose.facts import agreed, of_labels, of_row
from generators.compose.measures import measured
from generators.compose.program import (
    Fact,
)
from generators.compose.rows import COMPOSED, row_of
from tests.drawn_workspace import answered
from tests.generators.composed import LEFT, ONE, SMALL, WIDE, image_of

# Facts


def of(question_: str, answer: str, options: tuple[str, ...] = ()) -> tuple[Any, ...] | None:
    row = answered(image_of("CT"), question_, answer, options)
    fact = of_row(row, "kept", 0.7)
    return fact and (fact.about, fact.subject, fact.value)


@pytest.mark.parametrize(
    ("asked", "answer", "options", "told"),
    [
        ("Is there an infarct?", "No", ("yes", "no"), ("presence", "infarct", False)),
        ("Is there any pleural effusion?", "yes", (), ("presence", "pleural effusion", True)),
        ("Which finding is shown?", "b", ("none", "infarct"), ("finding", "", "infarct")),
        ("How many lesions are there?", "two", (), ("count", "lesion", 2)),
        ("How many cysts are seen?", "3", ("2", "3"), ("count", "cyst", 3)),
        ("On which side is the infarct?", "Left.", ("left", "right"), ("side", "infarct", "left")),
        ("How large is the lesion?", "small", (), ("size", "lesion", "small")),
        ("Is there more than one lesion?", "no", ("yes", "no"), ("several", "lesion", False)),
        ("Which MR sequence is this?", "FLAIR", (), ("sequence", "", "FLAIR")),
        ("What margin does the nodule have?", "smooth", (), ("margin", "lesion", "smooth")),
        ("How many lesions are there?", "many", (), None),
        ("On which side is the infarct?", "both sides", (), None),
        ("Is there a lesion on the left?", "yes", (), None),
        ("Is there an infarct?", "maybe", (), None),
        ("What is abnormal?", "infarct", (), None),
    ],
)
def test_what_a_row_says(asked: str, answer: str, options: Any, told: Any) -> None:
    assert of(asked, answer, options) == told


def test_a_row_with_a_problem_and_a_composed_one_say_nothing() -> None:
    image = image_of("CT")
    row = answered(image, "Is there an infarct?", "no")
    assert of_row(row, "kept") is not None
    assert of_row(replace(row, problem="form: cut"), "kept") is None
    assert of_row(replace(row, program="{}"), "kept") is None


def test_labels_say_what_their_columns_are_called() -> None:
    image = image_of("CT")
    labels = {"Diagnosis": "infarct", "laterality": "Left", "age": "60", "count": "2", "size": "?"}
    told = list(of_labels(replace(image, labels=json.dumps(labels))))
    facts, against = agreed(told)
    assert against is None
    assert {(f.about, f.subject, f.value) for f in facts} == {
        ("presence", "infarct", True),
        ("side", "infarct", "left"),
        ("count", "infarct", 2),
    }
    assert {f.source for f in facts} == {image.id}


def known(*told: tuple[str, str, Any]) -> list[Fact]:
    return [Fact(*one, "kept", f"t{n}") for n, one in enumerate(told)]


@pytest.mark.parametrize(
    "told",
    [
        [("count", "cyst", 1), ("count", "cyst", 2)],
        [("count", "lesion", 1), ("presence", "cyst", True), ("count", "cyst", 2)],
        [("several", "lesion", True), ("count", "lesion", 1)],
        [("presence", "cyst", False), ("side", "cyst", "left")],
        [("count", "cyst", 0), ("size", "cyst", "small")],
        [("larger", "cyst", True), ("size", "cyst", "small")],
        [("finding", "", "none"), ("presence", "cyst", True)],
        [("finding", "", "cyst"), ("presence", "cyst", False)],
        [("modality", "", "CT"), ("modality", "", "MR")],
    ],
)
def test_nothing_is_composed_of_facts_that_contradict(told: list[tuple[str, str, Any]]) -> None:
    more = known(("side", "cyst", "left"), ("eye", "", "left"), ("hair", "", "no"))
    facts = [*known(*told), *more]
    made, why = compose(facts, None, 2, EVEN, Balance(), np.random.default_rng(0))
    assert made == []
    assert why is not None
    assert why.startswith(CONTRADICT)
    assert "kept" in why  # it names both


def test_too_few_facts_are_too_few() -> None:
    facts = known(("side", "cyst", "left"))
    made, why = compose(facts, None, 2, EVEN, Balance(), np.random.default_rng(0))
    assert (made, why) == ([], TOO_FEW)


def test_without_the_width_of_the_image_no_width_is_asked_for() -> None:
    made, why = compose(WIDE, None, 1, EVEN, Balance(), np.random.default_rng(0))
    assert (made, why) == ([], TOO_FEW)
    made, _ = compose(WIDE, 100.0, 1, EVEN, Balance(), np.random.default_rng(0))
    assert made


def test_a_composed_row_is_as_sure_as_the_least_of_its_facts() -> None:
    facts = [ONE, LEFT, SMALL]
    made, _ = compose(facts, None, 1, {4: 1.0}, Balance(), np.random.default_rng(0))
    (one,) = made
    assert one.confidence == 0.6
    row, task = row_of(image_of("ultrasound"), one, 0, 0, 1)
    assert row.derived_from == ("a", "b", "c")
    assert row.generator_id == COMPOSED
    assert (task.difficulty, task.prompt_style) == ("hard", "step")


def test_only_the_steps_that_are_wanted_are_composed() -> None:
    facts = [ONE, LEFT, SMALL]
    for steps in (2, 3, 4):
        shares = dict.fromkeys(EVEN, 0.0) | {steps: 1.0}
        made, _ = compose(facts, None, 2, shares, Balance(), np.random.default_rng(1))
        assert made
        assert {one.steps for one in made} == {steps}


def test_the_same_question_is_not_asked_again() -> None:
    facts = [ONE, LEFT, SMALL]
    asked: set[str] = set()
    for seed in range(5):
        made, _ = compose(facts, None, 3, EVEN, Balance(), np.random.default_rng(seed), asked)
        assert not asked & {one.question for one in made}
        asked |= {one.question for one in made}


# Measures


def test_a_written_segmentation_measures_what_the_mask_does(tmp_path: Any) -> None:
    pytest.importorskip("highdicom", reason="needs the extra [seg]")
    from generators.phantoms.dicom import write_cohort

    counts = {"CT": 3, "MR": 2, "X-ray": 2, "ultrasound": 1}
    masks = tmp_path / "seg"
    paths = list(write_cohort(tmp_path / "p", counts, 64, 0, 0.3, masks))
    found = 0
    for path in paths:
        mask = masks / path.parent.name / path.name
        if mask.exists():
            told = json.loads(path.with_name(path.name + ".truth.json").read_text())
            sizes = measured(mask)
            assert sizes is not None
            assert sizes.finding == told["finding"]
            assert sizes.number == told["count"]
            assert len(sizes.diameters) in (0, sizes.number)  # an ultrasound has no spacing
            if path.parent.name in ("CT", "MR"):  # whose truth has the mean of the same
                mean = float(np.sqrt(np.mean(np.square(sizes.diameters))))
                assert mean == pytest.approx(told["size_mm"], abs=0.11)
            found += 1
    assert found >= 4


def test_a_file_that_is_no_segmentation_is_named(tmp_path: Any) -> None:
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    with pytest.raises(TriptychError, match=r"x\.dcm cannot be read"):
        measured(tmp_path / "x.dcm")


# Configuration


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("compose.steps={1: 1}", "compose.steps"),
        ("compose.steps={2: 0}", "steps"),
        ("compose.facts=[]", "facts"),
        ("compose.facts=[rumours]", "compose.facts"),
        ("compose.questions=-1", "compose.questions"),
    ],
)
def test_a_section_that_composes_nothing_is_refused(bad: str, said: str) -> None:
    with pytest.raises(TriptychError, match=said):
        build({}, [bad], "the test")


def test_segmentations_have_to_be_written_to_be_measured() -> None:
    wanted = ["compose.questions=5", "compose.facts=[segmentation]"]
    with pytest.raises(TriptychError, match=r"source\.segmentations"):
        build({}, wanted, "the test")
    build({}, [*wanted, "source.segmentations=true"], "the test")


def test_a_configuration_that_was_written_down_is_read_again() -> None:
    config = build({}, ["compose.steps={3: 1, 5: 2}"], "the test")
    again = build(json.loads(json.dumps(config.recorded())), [], "the test")
    assert again.compose.steps == {3: 1.0, 5: 2.0}
