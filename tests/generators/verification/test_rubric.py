"""A rubric answered by a VLM that is told what to say, and what comes of the replies."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.config.rubric import RubricAsks, read_rubric
from engine.config.select import Verified
from engine.config.verify import Rubric
from engine.errors import TriptychError
from engine.knowledge import Known
from engine.records import Triplet, Verification
from engine.vlm.protocol import Request, Sample, Sampling
from generators.filters import rubric
from generators.verification.rubric import Assessing, assessed, replied, scored, words_of
from generators.verification.votes import counted, questions_of
from tests.drawn_workspace import answered
from tests.generators.verification.replies import IMAGES, Answers, rows_of
from tests.pictures import PNG

ASKS = Rubric(model="m").asks
RIGHT = {item.ask: item.passes_on for item in ASKS.items.values()}
OF_QUESTION = [name for name, item in ASKS.items.items() if item.of == "question"]
SHIPPED = Path(__file__).parents[3] / "engine" / "prompts" / "rubrics" / "default.yaml"


def item_of(request: Request) -> str:
    """The name of the item that a request asks."""
    (name,) = [n for n, item in ASKS.items.items() if item.ask in request.text]
    return name


def verified(
    rows: list[Triplet], says: dict[str, str] | None = None, answers: int = 1
) -> tuple[Verification, Answers]:
    """A question verified: each item is replied to as is right, but as `says` has it."""

    def reply(request: Request, number: int) -> str:
        name = item_of(request)
        return (says or {}).get(name, ASKS.items[name].passes_on)

    vlm = Answers(reply)
    questions = questions_of(rows)
    how = Assessing("verifier", ASKS, answers, Sampling(1, 0.0, 8, 0))
    (found,) = assessed(vlm, counted(questions, 1), questions, PNG, how)
    return found, vlm


def reasoned(*answers: str) -> list[Triplet]:
    return rows_of(*answers, rationale="There is a dark spot on the left.")


def test_each_item_is_asked_by_itself_with_what_it_is_about() -> None:
    found, vlm = verified(reasoned("left", "left", "right"))
    assert [item_of(request) for request in vlm.asked] == [
        *OF_QUESTION, "agrees_with_image", "reasoning_follows",
    ]  # fmt: skip
    assert {request.png for request in vlm.asked} == {PNG[IMAGES[0].id]}
    for request in vlm.asked:
        about_answer = ASKS.items[item_of(request)].of == "answer"
        assert ("Proposed answer: left" in request.text) == about_answer
        assert ("dark spot" in request.text) == about_answer
        assert "Options: left | right" in request.text
    assert (found.verifier_id, found.rubric_id, found.score) == ("verifier", ASKS.id, 1.0)
    assert rubric.reason(reasoned("left")[0], found, Verified(rubric=1.0)) is None


def test_what_a_row_has_not_is_not_asked() -> None:
    row = answered(IMAGES[0], "Which finding is shown?", "cyst", ())
    _, vlm = verified([row])
    asked = {item_of(request) for request in vlm.asked}
    assert asked.isdisjoint({"one_right_option", "one_type", "reasoning_follows"})
    assert "agrees_with_image" in asked


@pytest.mark.parametrize("name", [n for n, i in ASKS.items.items() if i.kind == "essential"])
@pytest.mark.parametrize("said", ["wrong", "I cannot say."])
def test_each_essential_must_pass_and_be_readable(name: str, said: str) -> None:
    wrong = "no" if ASKS.items[name].passes_on == "yes" else "yes"
    found, _ = verified(reasoned("left"), {name: wrong if said == "wrong" else said})
    told = name if said == "wrong" else f"{name} (not readable)"
    least = Verified(rubric=0.0)  # whatever the score
    assert rubric.reason(reasoned("left")[0], found, least) == f"rubric: {told}"


def test_pitfalls_count_against_and_bonuses_for_a_row() -> None:
    row = reasoned("left")[0]
    pitfall, _ = verified(reasoned("left"), {"vague": "yes"})
    bonus, _ = verified(reasoned("left"), {"teaches": "no"})
    assert pitfall.score == pytest.approx(6 / 6.5)
    assert bonus.score == pytest.approx(6.25 / 6.5)
    assert rubric.reason(row, pitfall, Verified()) == "rubric: too low a score"
    assert rubric.reason(row, bonus, Verified()) is None
    unread, _ = verified(reasoned("left"), {"vague": "hm"})
    assert unread.score == pitfall.score  # an unreadable pitfall is none that is passed


def test_an_answer_that_was_not_shown_to_the_verifier_has_not_passed() -> None:
    rows = reasoned("left", "left", "right")
    found, _ = verified(rows)
    assert rubric.reason(rows[2], found, Verified()) == "rubric: this answer was not verified"
    both, vlm = verified(rows, {"agrees_with_image": "yes"}, answers=2)
    assert rubric.reason(rows[2], both, Verified()) is None
    of_answers = [r for r in vlm.asked if item_of(r) == "agrees_with_image"]
    assert ["Proposed answer: right" in r.text for r in of_answers] == [False, True]
    assert len(vlm.asked) == len(OF_QUESTION) + 2 * 2  # the question's own items once


def test_a_verdict_on_one_answer_says_nothing_of_another() -> None:
    rows = reasoned("left", "left", "right")

    def reply(request: Request, number: int) -> str:
        name = item_of(request)
        wrong = name == "agrees_with_image" and "Proposed answer: left" in request.text
        return "no" if wrong else ASKS.items[name].passes_on

    questions = questions_of(rows)
    how = Assessing("verifier", ASKS, 2, Sampling(1, 0.0, 8, 0))
    (found,) = assessed(Answers(reply), counted(questions, 1), questions, PNG, how)
    assert rubric.reason(rows[0], found, Verified()) == "rubric: agrees_with_image"
    assert rubric.reason(rows[2], found, Verified()) is None


def test_what_is_known_is_told_with_each_item_and_never_kept() -> None:
    """A verifier that repeats the report instead of a yes or no leaves none of it in the row."""
    rows, report = reasoned("left", "left"), "A dark spot of 7 mm in the left lobe."
    vlm = Answers(lambda request, n: f"The report says: {report}")
    questions = questions_of(rows)
    how = Assessing("verifier", ASKS, 1, Sampling(1, 0.0, 8, 0), ("report",))
    known = {rows[0].image_id: Known(report=report)}
    (found,) = assessed(vlm, counted(questions, 1), questions, PNG, how, known)
    assert all(f"Report: {report}\nQuestion: " in request.text for request in vlm.asked)
    assert report not in found.rubric
    assert rubric.reason(rows[0], found, Verified())
    _, untold = verified(rows)
    assert not any("known of the image" in request.text for request in untold.asked)


def test_a_reply_has_its_probability_or_its_reason() -> None:
    assert replied(Sample("Yes", math.log(0.8) / 2, 2)) == {"yes": True, "p": 0.8}
    assert replied(Sample("no.", math.log(0.9), 1)) == {"yes": False, "p": 0.1}
    assert replied(Sample("yes", None, 1)) == {"yes": True, "p": None}
    assert replied(Sample("Yes, it is.", -0.1, 4)) == {"yes": True, "p": None}
    assert replied(Sample("yes", math.nan, 1)) == {"yes": True, "p": None}
    assert replied(Sample("Well.", -0.1, 2)) == {
        "yes": None, "p": None, "why": "neither yes nor no", "said": "Well.",
    }  # fmt: skip
    assert replied(Sample("", None, 0, "the server refuses it"))["why"] == "the server refuses it"


def test_replies_are_stored_by_item_and_answer() -> None:
    found, _ = verified(reasoned("left"), {"vague": "hm"})
    told = json.loads(found.rubric)
    assert told["items"].keys() == set(OF_QUESTION)
    assert told["items"]["vague"]["why"] == "neither yes nor no"
    assert told["answers"]["left"]["items"].keys() == {"agrees_with_image", "reasoning_follows"}


def test_where_nothing_gives_points_there_is_no_score() -> None:
    assert scored(ASKS.items, {"vague": {"yes": False}}) == (None, [])


def test_a_question_with_braces_is_asked_as_it_stands() -> None:
    row = answered(IMAGES[0], "What is {item} in {0}?", "left", ("left", "right"))
    assert "What is {item} in {0}?" in words_of(ASKS, ASKS.items["vague"], row)


def changed(tmp_path: Path, **more: Any) -> Path:
    path = tmp_path / "mine.yaml"
    values = yaml.safe_load(SHIPPED.read_text()) | more
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def test_a_copied_rubric_replaces_the_shipped_one(tmp_path: Path) -> None:
    items = {"mine": {"ask": "Is it safe?"}, "bad": {"ask": "Is it rude?", "kind": "pitfall"}}
    asks = RubricAsks.model_validate(read_rubric(changed(tmp_path, items=items)))
    assert list(asks.items) == ["mine", "bad"]
    assert [item.passes_on for item in asks.items.values()] == ["yes", "no"]
    assert asks.id != ASKS.id
    assert Rubric.model_validate({"model": "m", "asks": str(SHIPPED)}).asks.id == ASKS.id
    unquoted = {"mine": {"ask": "Is it rude?", "right": False}}
    plain = RubricAsks.model_validate(read_rubric(changed(tmp_path, items=unquoted)))
    assert plain.items["mine"].passes_on == "no"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"items": {}}, "items: "),
        ({"items": {"a": {"ask": "?", "kind": "bonus"}}}, "one at least must be essential"),
        ({"items": {"a": {"ask": "?", "wieght": 2}}}, "items.a.wieght: unknown key"),
        ({"items": {"a": {"ask": "?", "needs": "reasoning"}}}, "of: answer"),
        ({"items": {"a": {"ask": "?", "weight": 0}}}, "items.a.weight"),
        ({"request": "{question}{options}"}, "needs the fields {item} {known} {options}"),
        ({"request": "{known}{question}{options}{item}{answer}"}, "and no others"),
        ({"request": "{known}{question{options}{item}"}, "request"),
    ],
)
def test_a_rubric_with_a_fault_is_one_line(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(TriptychError) as error:
        read_rubric(changed(tmp_path, **change))
    assert told in str(error.value)
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    for text in ("- a list", "a: [", "\x00"):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(TriptychError, match=r"r\.yaml"):
            read_rubric(tmp_path / "r.yaml")
    with pytest.raises(TriptychError, match="cannot be read"):
        read_rubric(tmp_path / "none.yaml")
