"""Which rows teach: one of a kept question, a reason for each, a share that is kept."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.select import Select
from engine.records import Decision, Judgement, Triplet, content_id, to_arrow
from reward_model.threshold import (
    BELOW,
    KEPT,
    Weighed,
    choose,
    confidences,
    decide,
    decisions,
    duplicate_key,
)

OPTIONS = ("left", "right")
RULES = Select()
BEATEN = {"same answer as the chosen row", "another answer was judged better"}
REASONS = BEATEN | {
    KEPT,
    "below the threshold",
    "below the probability floor",
    "exact duplicate",
}


def row(
    question: int = 0,
    answer: str = "left",
    sample: int = 0,
    logprob: float = -0.5,
    problem: str | None = None,
    round: int = 1,
) -> Triplet:
    return Triplet(
        id=content_id(question, answer, sample, problem, round),
        image_id=content_id("image", question),
        generator_id="g",
        task_id="t",
        prompt_hash="p",
        seed=0,
        sample=sample,
        round=round,
        question="On which side is the cyst?",
        options=OPTIONS,
        answer=answer,
        rationale="",
        raw="",
        logprob=logprob,
        problem=problem,
    )


def opinion(triplet: Triplet, overall: float, probability: float = 0.9) -> Judgement:
    return Judgement(
        id=content_id("j", triplet.id),
        triplet_id=triplet.id,
        judge_id="judge",
        factuality=overall,
        reasoning=overall,
        relevance=overall,
        overall=overall,
        probability=probability,
    )


def judged(*scored: tuple[Triplet, float]) -> dict[str, Judgement]:
    return {triplet.id: opinion(triplet, overall) for triplet, overall in scored}


def reasons(decisions: list[Decision]) -> dict[str, str]:
    return {d.triplet_id: d.reason for d in decisions}


# Halves and quarters add up without rounding, so that an order cannot change a last digit.
steps = st.integers(-12, 12).map(lambda n: n / 4)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[Triplet], dict[str, Judgement], Select]:
    """A round's triplets, some that did not parse, their judgements, and rules."""
    triplets = []
    for question in range(draw(st.integers(0, 8))):
        for sample in range(draw(st.integers(1, 4))):
            answer = draw(st.sampled_from(["left", "right", "Left.", "B", "b) right"]))
            problem = draw(st.sampled_from([None, None, None, "answer: empty answer"]))
            triplets.append(row(question, answer, sample, draw(steps) - 4, problem))
    opinions = {
        t.id: opinion(t, draw(steps), draw(st.sampled_from([0.25, 0.5, 1.0])))
        for t in triplets
        if t.problem is None
    }
    rules = Select(
        logprob=draw(st.sampled_from([0.0, 1.0])),
        agreement=draw(st.sampled_from([0.0, 1.0])),
        keep=draw(st.sampled_from([0.25, 0.5, 0.75, 1.0])),
        min_probability=draw(st.sampled_from([0.0, 0.5])),
    )
    return triplets, opinions, rules


# A round


@given(rounds())
def test_every_triplet_has_one_decision_with_a_reason(case: tuple) -> None:
    triplets, opinions, rules = case
    decisions = decide(triplets, opinions, rules, 1)
    assert [d.triplet_id for d in decisions] == [t.id for t in triplets]
    for triplet, decision in zip(triplets, decisions):
        form = triplet.problem is not None
        assert decision.reason == f"form: {triplet.problem}" if form else decision.reason in REASONS
        assert decision.keep == (decision.reason == KEPT)
    assert len({d.id for d in decisions}) == len(decisions)


@given(rounds())
def test_a_question_keeps_one_row_at_most_and_is_decided_as_a_whole(case: tuple) -> None:
    triplets, opinions, rules = case
    decided = reasons(decide(triplets, opinions, rules, 1))
    for key in {t.question_key for t in triplets}:
        parsed = [t for t in triplets if t.question_key == key and t.problem is None]
        chosen = [t for t in parsed if decided[t.id] not in BEATEN]
        assert len(chosen) == (1 if parsed else 0)


@given(rounds())
def test_the_threshold_keeps_the_configured_share_of_the_questions(case: tuple) -> None:
    triplets, opinions, rules = case
    decided = decide(triplets, opinions, rules.model_copy(update={"min_probability": 0.0}), 1)
    questions = {t.question_key for t in triplets if t.problem is None}
    kept = sum(d.keep for d in decided)
    wanted = math.ceil(rules.keep * len(questions))
    at_threshold = sum(
        d.score == d.threshold and d.reason in (KEPT, "below the threshold") for d in decided
    )
    assert wanted <= kept <= wanted + max(at_threshold - 1, 0)


@pytest.mark.parametrize(("keep", "kept"), [(0.1, 1), (0.3, 3), (0.55, 6), (0.7, 7), (1.0, 10)])
def test_of_ten_questions_the_surest_are_kept(keep: float, kept: int) -> None:
    rows = [row(q) for q in range(10)]
    opinions = {t.id: opinion(t, 0.0, 0.05 + q * 0.1) for q, t in enumerate(rows)}
    decided = decide(rows, opinions, Select(keep=keep), 1)
    assert [d.keep for d in decided] == [False] * (10 - kept) + [True] * kept
    assert {d.reason for d in decided} <= {KEPT, "below the threshold"}


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_share_of_a_hundred_questions_is_that_many(percent: int) -> None:
    rows = [row(q) for q in range(100)]
    opinions = {t.id: opinion(t, 0.0, (q + 1) / 200) for q, t in enumerate(rows)}
    assert sum(d.keep for d in decide(rows, opinions, Select(keep=percent / 100), 1)) == percent


@given(rounds(), st.randoms(use_true_random=False))
def test_the_order_of_the_triplets_does_not_matter(case: tuple, random: object) -> None:
    triplets, opinions, rules = case
    shuffled = list(triplets)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = decide(triplets, opinions, rules, 1), decide(shuffled, opinions, rules, 1)
    assert sorted(one, key=lambda d: d.id) == sorted(two, key=lambda d: d.id)


def test_one_question_with_other_options_keeps_the_same_row_in_any_order() -> None:
    one = row()
    two = replace(one, id=content_id("other"), options=("right", "left"))
    opinions = judged((one, 1.0), (two, 1.0))
    decided = [reasons(decide(rows, opinions, RULES, 1)) for rows in ([one, two], [two, one])]
    assert sorted(decided[0].values()) == ["exact duplicate", KEPT]
    assert decided[0] == decided[1]


def test_no_triplets_no_decisions() -> None:
    assert decide([], {}, RULES, 1) == []


def test_a_row_that_did_not_parse_is_rejected_with_its_reason_and_needs_no_judgement() -> None:
    bad = row(problem="answer: more than one answer")
    [decision] = decide([bad], {}, RULES, 1)
    assert (decision.keep, decision.reason) == (False, "form: answer: more than one answer")


def test_a_calibrated_floor_rejects_whatever_the_share() -> None:
    sure, unsure = row(0), row(1)
    opinions = {sure.id: opinion(sure, 0, 0.9), unsure.id: opinion(unsure, 0, 0.4)}
    decided = reasons(decide([sure, unsure], opinions, Select(keep=1, min_probability=0.5), 1))
    assert decided == {sure.id: KEPT, unsure.id: "below the probability floor"}


def test_a_row_kept_in_an_earlier_round_is_not_kept_again() -> None:
    old, new = row(round=1), row(answer="A) Left", sample=3, round=2)
    other = row(1, round=2)
    decided = decide(
        [new, other], judged((new, 1), (other, 1)), Select(keep=1), 2, {duplicate_key(old)}
    )
    assert reasons(decided) == {new.id: "exact duplicate", other.id: KEPT}


def test_another_answer_to_an_old_question_is_no_duplicate() -> None:
    old, new = row(round=1), row(answer="right", round=2)
    [decision] = decide([new], judged((new, 1)), RULES, 2, {duplicate_key(old)})
    assert decision.keep


# A question


def test_the_judge_decides_between_two_answers() -> None:
    left, right = row(answer="left"), row(answer="right")
    assert choose([left, right], judged((left, 0), (right, 2)), RULES).triplet == right
    decided = reasons(decide([left, right], judged((left, 0), (right, 2)), Select(keep=1), 1))
    assert decided == {left.id: "another answer was judged better", right.id: KEPT}


def test_spellings_of_one_answer_are_one_answer() -> None:
    spelt = [row(answer=a, sample=n) for n, a in enumerate(["left", "Left.", "A", "(a) left"])]
    choice = choose(spelt, judged(*((t, 0.0) for t in spelt)), RULES)
    assert choice.confidence == pytest.approx(0.9)
    decided = decide(spelt, judged(*((t, 0.0) for t in spelt)), Select(keep=1), 1)
    assert sorted(d.reason for d in decided) == [KEPT, *["same answer as the chosen row"] * 3]


def test_agreement_counts_by_its_weight() -> None:
    rows = [row(answer="left", sample=n) for n in range(3)] + [row(answer="right", sample=3)]
    opinions = judged(*((t, 0.5 if t.answer == "right" else 0.0) for t in rows))
    assert choose(rows, opinions, Select(agreement=0)).triplet.answer == "right"
    assert choose(rows, opinions, Select(agreement=1)).triplet.answer == "left"


def test_the_generators_logprob_counts_by_its_weight() -> None:
    left, right = row(answer="left", logprob=-3.0), row(answer="right", logprob=-0.1)
    opinions = judged((left, 1.0), (right, 0.0))
    assert choose([left, right], opinions, Select(logprob=0)).triplet == left
    assert choose([left, right], opinions, Select(logprob=1)).triplet == right


def test_confidence_is_the_chosen_answers_share_times_its_probability() -> None:
    left, right = row(answer="left"), row(answer="right")
    opinions = {left.id: opinion(left, 2.0, 0.8), right.id: opinion(right, 0.0, 0.1)}
    choice = choose([left, right], opinions, RULES)
    assert choice.confidence == pytest.approx(0.8 / (1 + math.exp(-2)))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_confidence_is_a_probability_for_any_scores(one: float, two: float) -> None:
    left, right = row(answer="left"), row(answer="right")
    choice = choose([left, right], judged((left, one), (right, two)), RULES)
    assert 0 <= choice.confidence <= 0.9 + 1e-9


# The reasoning

LEFT, RIGHT = "The cyst is on the left.", "The cyst is on the right."


def reasoned(text: str, sample: int, answer: str = "left") -> Triplet:
    return replace(row(answer=answer, sample=sample), rationale=text)


def of_reasoning(triplet: Triplet, logit: float) -> Judgement:
    return replace(opinion(triplet, 1.0 - triplet.sample / 10), reasoning=logit)


def test_of_the_chosen_answers_samples_one_is_kept_whose_reasoning_is_sound() -> None:
    against, unsound, sound = reasoned(RIGHT, 0), reasoned(LEFT, 1), reasoned("It is thin.", 2)
    rows = [against, unsound, sound]
    opinions = {t.id: of_reasoning(t, 0.0 if t is unsound else 9.0) for t in rows}
    decided = decide(rows, opinions, RULES, 1, reasoning=1.0)
    assert reasons(decided)[sound.id] == KEPT
    assert {reasons(decided)[t.id] for t in (against, unsound)} == {"same answer as the chosen row"}
    without = decide(rows, opinions, RULES.model_copy(update={"reasoning": 0.0}), 1, reasoning=1.0)
    assert reasons(without)[against.id] == KEPT  # the judge's first, where nobody looks at it


@pytest.mark.parametrize(
    ("text", "logit", "reason"),
    [
        (RIGHT, 9.0, "reasoning: a step contradicts the answer"),
        ("It is dark. There is a mass. There is no mass.", 9.0,
         "reasoning: a step contradicts an earlier step"),
        (LEFT, 0.9, "reasoning: judged unsound"),
        (LEFT, math.nan, "reasoning: judged unsound"),
        (LEFT, 1.0, KEPT),
        ("", -9.0, KEPT),
    ],
)  # fmt: skip
def test_a_question_without_sound_reasoning_is_out_with_the_reason(
    text: str, logit: float, reason: str
) -> None:
    only, other = reasoned(text, 0), reasoned(LEFT, 1, answer="right")
    opinions = {only.id: of_reasoning(only, logit), other.id: opinion(other, -9.0)}
    decided = decide([only, other], opinions, Select(keep=1), 1, reasoning=1.0)
    assert reasons(decided) == {only.id: reason, other.id: "another answer was judged better"}


def test_a_judge_at_chance_has_no_say_in_the_reasoning_and_rules_have() -> None:
    sound, against = reasoned(LEFT, 0), replace(reasoned(RIGHT, 1), image_id="another")
    opinions = {t.id: of_reasoning(t, -9.0) for t in (sound, against)}
    decided = decide([sound, against], opinions, Select(keep=1), 1, trusted=False, reasoning=1.0)
    assert [d.keep for d in decided] == [True, False]
    assert decided[1].reason == "reasoning: a step contradicts the answer"


def test_rules_that_name_no_reasoning_have_the_id_that_they_had() -> None:
    def rules_of(rules: Select) -> str:
        return decide([row()], judged((row(), 0.0)), rules, 1)[0].rules_id

    assert rules_of(Select()) == rules_of(Select(reasoning=0.5)) != rules_of(Select(reasoning=0.6))


def test_a_row_that_waits_for_others_is_out_for_that_and_no_question_less_counts() -> None:
    found = to_arrow(
        Weighed,
        [
            Weighed(id=f"{n}", triplet_id=f"{n}", image_id="", reason=KEPT, score=own,
                    confidence=confidence, own=own if held else None, held=held)
            for n, (own, confidence, held) in enumerate(
                [(0.9, 0.9, None), (0.8, -1.0, "balance: a"), (0.7, 0.6, "balance: b"),
                 (0.6, 0.6, None), (0.5, -1.0, "balance: c")]
            )
        ],
    )  # fmt: skip
    assert confidences(found).tolist() == [0.9, 0.8, 0.7, 0.6, 0.5]

    def of(least: float) -> list[str]:
        return decisions(found, least, RULES, 1, True)["reason"].to_pylist()

    assert of(0.65) == [KEPT, "balance: a", "balance: b", BELOW, BELOW]
    assert of(0.55) == [KEPT, "balance: a", KEPT, KEPT, BELOW]
    assert of(math.nan) == ["no threshold is certified"] * 5
    assert decisions(found, 0.55, RULES, 1, True)["score"].to_pylist()[1] == 0.8
