"""The composite reward of GRPO: a wrong answer never outscores a right one."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.answers.matching import is_correct
from engine.answers.parsing import parse_completion, render_completion
from engine.config.training import Grpo
from engine.errors import TriptychError
from engine.vlm.protocol import Request
from pipelines.training.composite_reward import Reward, mixed, opinion
from reward_model.scoring import Judge
from reward_model.settings import JudgeSettings

OPTIONS = ("left", "right", "both sides")
weight = st.floats(0, 1e6, allow_nan=False)
weights = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("judge", "correct", "process", "format"), weight)
)
logits = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1e300, -1e300, 0.0])
)
texts = st.one_of(
    st.text(max_size=40),
    st.builds(
        render_completion,
        st.sampled_from(["", "I see it.", "MR brain: none."]),
        st.sampled_from([*OPTIONS, "Left.", "B", "B. right", "left or right", "", "elsewhere"]),
    ),
)


class Told:
    """A judge that says what it is told of the whole, and nothing of the steps."""

    def __init__(self, logit: float) -> None:
        self.settings = JudgeSettings(criteria={}, prompts="compact", max_pixels=1)
        self.logit = logit

    def scores(self, requests: list[Request]) -> np.ndarray:
        return np.full((len(requests), 3), self.logit)

    def overall(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores[:, 0])


def composite_reward(
    text: str, gold: str, options: tuple[str, ...], judged: float, chosen: dict[str, float]
) -> float:
    """One completion's reward, as TRL adds up the parts."""
    columns = {"gold": [gold], "options": [options], "image_id": [""], "question": [""]}
    judge = cast(Judge, Told(judged))
    asked = [Reward(name, judge, {"": b""}) for name in ("judge", "process")]
    parts = [Reward("correct"), *asked, Reward("format")]
    return sum(chosen.get(p.__name__, 0.0) * p([text], **columns)[0] for p in parts)


def accepted(values: dict[str, float]) -> dict[str, float] | None:
    """The weights as the configuration holds them, None where it refuses them."""
    try:
        return Grpo.model_validate({"reward": values}).reward.weights
    except ValidationError:
        return None


@st.composite
def accepted_weights(draw: st.DrawFn) -> dict[str, float]:
    judge, process, form = draw(weight), draw(weight), draw(weight)
    others = judge + process + form
    above = draw(st.sampled_from([math.nextafter(others, math.inf), others + 1]))
    values = accepted({"judge": judge, "process": process, "format": form, "correct": above})
    assert values is not None
    return values


def is_right(text: str, gold: str) -> bool:
    parsed = parse_completion(text)
    return parsed.problem is None and is_correct(parsed.answer, gold, OPTIONS)


@st.composite
def right_texts(draw: st.DrawFn, gold: str) -> str:
    """A completion that is right, in one of the spellings that are."""
    letter = "ABC"[OPTIONS.index(gold)]
    said = draw(st.sampled_from([gold, gold.title(), letter, f"({letter})", f"{letter}. {gold}"]))
    text = render_completion(draw(st.sampled_from(["", "Because.", "CT head: none."])), said)
    return text if is_right(text, gold) else render_completion("", gold)


@given(st.data(), texts, st.sampled_from(OPTIONS), logits, logits, accepted_weights())
def test_a_wrong_answer_never_reaches_a_right_one(
    data: st.DataObject,
    other: str,
    gold: str,
    first: float,
    second: float,
    chosen: dict[str, float],
) -> None:
    assume(not is_right(other, gold))
    right = composite_reward(data.draw(right_texts(gold)), gold, OPTIONS, first, chosen)
    assert right > composite_reward(other, gold, OPTIONS, second, chosen)


@given(st.sampled_from(OPTIONS), st.data(), accepted_weights(), logits, logits)
def test_the_judges_praise_does_not_buy_a_wrong_answer(
    gold: str, data: st.DataObject, chosen: dict[str, float], low: float, high: float
) -> None:
    wrong = data.draw(st.sampled_from([o for o in OPTIONS if o != gold]))
    right_text, wrong_text = render_completion("", gold), render_completion("", wrong)
    assert composite_reward(right_text, gold, OPTIONS, low, chosen) > composite_reward(
        wrong_text, gold, OPTIONS, high, chosen
    )


@given(texts, st.sampled_from(OPTIONS), logits, accepted_weights())
def test_a_reward_is_between_nothing_and_the_sum_of_the_weights(
    text: str, gold: str, judged: float, chosen: dict[str, float]
) -> None:
    reward = composite_reward(text, gold, OPTIONS, judged, chosen)
    assert 0 <= reward <= sum(chosen.values()) * (1 + 1e-12)


@given(st.text(max_size=40), st.sampled_from(OPTIONS), logits, accepted_weights())
def test_a_text_that_is_not_in_form_earns_nothing(
    text: str, gold: str, judged: float, chosen: dict[str, float]
) -> None:
    assume(parse_completion(text).problem is not None)
    assert composite_reward(text, gold, OPTIONS, judged, chosen) == 0


@given(st.sampled_from(OPTIONS), logits, logits, accepted_weights())
def test_among_right_answers_the_judge_decides(
    gold: str, one: float, two: float, chosen: dict[str, float]
) -> None:
    text = render_completion("", gold)
    low, high = sorted((one, two))
    assert composite_reward(text, gold, OPTIONS, low, chosen) <= composite_reward(
        text, gold, OPTIONS, high, chosen
    )


@given(weights)
def test_weights_are_accepted_exactly_where_right_beats_wrong(values: dict[str, float]) -> None:
    values = {"judge": 0.3, "correct": 1.0, "process": 0.0, "format": 0.1} | values  # the defaults
    best_wrong = values["judge"] + values["process"] + values["format"]
    assert (accepted(values) is not None) == (values["correct"] > best_wrong)


@pytest.mark.parametrize(
    "values",
    [
        {"judge": 0.8, "correct": 0.2},  # MedGR2's own
        {"judge": 0.5, "correct": 0.5},
        {"judge": -0.1, "correct": 1.0},
        {"correct": 1.0, "format": 1.0},
        {"correct": 1.0, "style": 0.1},
        {"correct": math.nan},
        {"correct": math.inf},
        {"correct": 1.0, "judge": math.nan},
    ],
)
def test_weights_that_could_reward_a_wrong_answer_are_refused(values: dict[str, float]) -> None:
    assert accepted(values) is None


@pytest.mark.parametrize(
    ("answers", "teaches"),
    [
        (["left", "Left.", "A"], False),
        (["right", "both sides", "elsewhere"], False),
        (["left", "right", "left"], True),
        (["left", "left or right"], True),
    ],
)
def test_a_group_teaches_where_some_answers_are_right_and_others_wrong(
    answers: list[str], teaches: bool
) -> None:
    texts = [render_completion("", answer) for answer in answers]
    assert mixed(texts, "left", OPTIONS) == teaches


@pytest.mark.parametrize("judged", [math.nan, math.inf, -math.inf])
def test_a_judge_without_a_score_is_an_error(judged: float) -> None:
    with pytest.raises(TriptychError, match=r"reward\.lr"):
        opinion(judged)
