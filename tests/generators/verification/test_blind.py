"""A question answered with its image and without it, by a VLM that is told what to say."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import PIL.Image
import pytest

from engine.config.select import Verified
from engine.prompts import answer_prompt
from engine.records import Verification
from engine.vlm.protocol import Request, Sample, Sampling
from generators.filters import blind, refused
from generators.verification.blind import Answering, answered, answered_blind, grey, shares_of
from generators.verification.votes import counted, questions_of
from tests.generators.verification.replies import IMAGES, SIDE, SIDES, Answers, rows_of
from tests.pictures import PNG

ALL = ("none", "blank", "other")
GREEDY = Sampling(1, 0.0, 12, 7)
OTHERS = {IMAGES[0].id: IMAGES[1].id}


def shown(request: Request) -> str:
    """What a request shows."""
    names = {None: "none", PNG[IMAGES[0].id]: "image", PNG[IMAGES[1].id]: "other"}
    return names.get(request.png, "blank")


def measured(
    says: dict[str, str | list[str]],
    without: tuple[str, ...] = ALL,
    sampling: Sampling = GREEDY,
    others: dict[str, str] = OTHERS,
) -> tuple[Verification, Answers]:
    """The verification of a question whose answer is left; `says` is by what is shown."""

    def reply(request: Request, number: int) -> str:
        said = says[shown(request)]
        return said if isinstance(said, str) else said[number]

    rows = rows_of("left", "left", "right")
    vlm = Answers(reply)
    (found,) = answered(
        vlm,
        counted(questions_of(rows), 1),
        {row.id: row for row in rows},
        PNG,
        others,
        Answering("solver", "compact", without, sampling),
    )
    return found, vlm


def test_a_question_is_asked_in_the_same_words_of_four_pictures() -> None:
    found, vlm = measured(dict.fromkeys(("image", *ALL), "<answer>left</answer>"))
    assert [shown(request) for request in vlm.asked] == ["image", *ALL]
    assert {r.text for r in vlm.asked} == {answer_prompt("compact", SIDE, SIDES, "direct")}
    assert vlm.sampling == [GREEDY]
    assert (found.blind_id, found.other_id) == ("solver", IMAGES[1].id)


def test_the_blank_picture_is_mid_grey_and_of_the_same_size() -> None:
    out = io.BytesIO()
    PIL.Image.new("RGB", (30, 20), (200, 0, 0)).save(out, "PNG")
    with PIL.Image.open(io.BytesIO(grey(out.getvalue()))) as image:
        assert image.size == (30, 20)
        assert image.convert("L").getextrema() == (128, 128)


@pytest.mark.parametrize(
    ("without", "margin"),
    [
        (("right", "right", "right"), 1.0),
        (("left", "right", "right"), 0.0),  # the best of the three counts
        (("right", "right", "left"), 0.0),
        (("no words", "", "left or right"), 1.0),  # what cannot be read gives no answer
    ],
)
def test_the_margin_is_over_the_best_of_what_is_said_without(
    without: tuple[str, ...], margin: float
) -> None:
    found, _ = measured({"image": "left"} | dict(zip(ALL, without)))
    assert found.margin == margin
    assert blind.reason(rows_of("left")[0], found, Verified()) == (
        None if margin else "blind: answered as well without the image"
    )


def test_a_model_that_sees_nothing_makes_every_question_blind() -> None:
    found, _ = measured(dict.fromkeys(("image", *ALL), "left"))
    assert found.margin == 0.0
    assert refused(rows_of("left")[0], found, Verified()) is not None


def test_what_nobody_can_answer_is_hard_and_not_blind() -> None:
    found, _ = measured(dict.fromkeys(("image", *ALL), "right"))
    assert found.margin == 0.0
    assert blind.reason(rows_of("left")[0], found, Verified()) is None
    # of the same question the other answer is the one that is given blind
    assert blind.reason(rows_of("right")[0], found, Verified()) is not None


def test_of_several_samples_the_shares_count_and_unreadable_ones_are_among_them() -> None:
    says: dict[str, str | list[str]] = {
        "image": ["left", "left", "left", "right"],
        "none": ["left", "", "right", "right"],
        "blank": ["left", "left", "??", "right"],
        "other": ["right"] * 4,
    }
    found, vlm = measured(says, sampling=Sampling(4, 0.8, 12, 7))
    assert shares_of(found, "left") == {"image": 0.75, "none": 0.25, "blank": 0.5, "other": 0}
    assert found.margin == 0.25
    assert json.loads(found.blind)["none"] == {
        "answers": {"left": 1, "right": 2},
        "unreadable": 1,
    }
    row = rows_of("left")[0]
    assert blind.reason(row, found, Verified(margin=0.2)) is None
    assert blind.reason(row, found, Verified(margin=0.25)) is not None  # more than, not as much
    assert len({request.seed for request in vlm.asked}) == 4


def test_no_other_patient_of_the_modality_is_no_other_picture() -> None:
    found, vlm = measured(dict.fromkeys(("image", "none", "blank"), "left"), others={})
    assert [shown(request) for request in vlm.asked] == ["image", "none", "blank"]
    assert found.other_id == ""
    alone, _ = measured({"image": "left"}, ("other",), others={})
    assert alone.margin is None
    assert blind.reason(rows_of("left")[0], alone, Verified()) is None


def test_a_request_that_cannot_be_answered_is_no_answer() -> None:
    rows = rows_of("left")
    vlm = Answers(lambda request, n: Sample("", None, 0, "the server is gone"))
    (found,) = answered(
        vlm, counted(questions_of(rows), 1), {r.id: r for r in rows}, PNG, OTHERS,
        Answering("solver", "compact", ALL, GREEDY),
    )  # fmt: skip
    assert found.margin == 0.0
    assert not answered_blind(shares_of(found, "left"))


def test_what_was_not_measured_refuses_nothing() -> None:
    rows = rows_of("left")
    (one,) = counted(questions_of(rows), 1)
    assert blind.reason(rows[0], one, Verified()) is None
    assert replace(one, blind="").margin is None
