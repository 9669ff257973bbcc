"""Swapped pairs: each text is right as often as wrong, so that a judge must look at the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.config import build
from engine.records import Image, Preference, Triplet, content_id
from engine.statistics import auc
from generators import phantoms
from generators.phantoms.oracle import is_true, reasons_truly
from reward_model.blind import blind_scores
from reward_model.experts.expert import Pairs
from reward_model.experts.simulated import SimulatedExpert
from reward_model.patient_sets import is_frozen, set_of
from reward_model.preferences import derived
from reward_model.swaps import (
    Met,
    gold_pairs,
    swapped_answers,
    swapped_questions,
    swapped_reasoning,
    twins,
)
from tests.generators.test_generators import image_of
from tests.lineage_workspace import make_image, make_triplet


def asked(number: int, question: str, answer: str, options: tuple[str, ...] = ()) -> Triplet:
    row = make_triplet(make_image(number, f"g{number}"), "expert", number, 0)
    return replace(
        row,
        id=content_id(row.id, question, answer),
        question=question,
        answer=answer,
        options=options,
        rationale="",
    )


def texts(told: Sequence[tuple[Triplet, Triplet]]) -> tuple[Counter[object], Counter[object]]:
    """How often each text was better, and how often worse."""

    def words(row: Triplet) -> object:
        return row.question, row.options, row.answer, row.rationale

    return Counter(words(a) for a, _ in told), Counter(words(b) for _, b in told)


def of(pairs: Pairs, criterion: str | None = None) -> list[tuple[Triplet, Triplet]]:
    made, told = pairs
    known = {row.id: row for row in made}
    return [
        (known[p.chosen_id], known[p.rejected_id]) for p in told if criterion in (None, p.criterion)
    ]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_each_image_gets_the_others_answer_in_the_words_of_one_of_them() -> None:
    one = asked(0, "Is it there?", "yes", ("yes", "no"))
    other = asked(1, "is it there", "No.", ("no", "yes"))
    [(first, second)] = swapped_answers([one, other], lambda row: 0, rng())
    said = {t.chosen.image_id: (t.chosen.answer, t.rejected.answer) for t in (first, second)}
    assert said == {one.image_id: ("yes", "no"), other.image_id: ("no", "yes")}
    told = [(t.chosen, t.rejected) for t in (first, second)]
    better, worse = texts(told)
    assert better == worse
    assert {t.rejected.image_id for t in (first, second)} == {one.image_id, other.image_id}
    assert {t.criterion for t in (first, second)} == {"factuality"}


@pytest.mark.parametrize(
    "rows",
    [
        [asked(0, "Where?", "left"), asked(1, "Where?", "left")],
        [asked(0, "Where?", "left"), asked(1, "What?", "right")],
        [asked(0, "Where?", "lung"), asked(1, "Where?", "right lung")],
        [asked(0, "Where?", "left"), replace(asked(0, "Where?", "right"), id="x")],
    ],
    ids=["same answer", "other question", "one answer in the other", "one image"],
)
def test_what_has_no_twin_is_left_out(rows: list[Triplet]) -> None:
    assert swapped_answers(rows, lambda row: 0, rng()) == []


def test_twins_are_of_one_stratum() -> None:
    rows = [asked(0, "Where?", "left"), asked(1, "Where?", "right")]
    assert swapped_answers(rows, lambda row: row.image_id, rng()) == []


def test_a_question_goes_where_it_has_no_place_and_what_is_asked_of_all_stays() -> None:
    rows = [
        asked(0, "Is the liver large?", "yes"),
        asked(1, "Is the skull whole?", "yes"),
        asked(0, "Is it normal?", "no"),
        asked(1, "Is it normal?", "yes"),
    ]
    kinds = {rows[0].image_id: "abdomen", rows[1].image_id: "head"}
    found = swapped_questions(rows, lambda r: 0, lambda row: kinds[row.image_id], rng())
    told = [(t.chosen, t.rejected) for twin in found for t in twin]
    assert {(a.question, b.question) for a, b in told} == {
        ("Is the liver large?", "Is the skull whole?"),
        ("Is the skull whole?", "Is the liver large?"),
    }
    assert all(a.image_id == b.image_id for a, b in told)


def test_reasons_are_swapped_where_question_and_answer_are_alike() -> None:
    rows = [
        replace(asked(n, "Where?", "left"), rationale=f"a lesion of {n} cm on the left")
        for n in range(2)
    ]
    [twin] = swapped_reasoning(rows, lambda row: 0, rng(), lambda a, b: True)
    better, worse = texts([(t.chosen, t.rejected) for t in twin])
    assert better == worse
    assert len(better) == 2
    assert swapped_reasoning(rows, lambda row: 0, rng(), lambda a, b: False) == []


def test_a_row_meets_each_other_answer_once() -> None:
    rows = [asked(n, "Where?", "abc"[n % 3]) for n in range(9)]
    found = twins(rows, lambda row: 0, lambda row: row.answer, rng())
    met = Counter((a.id, b.answer) for a, b in [*found, *((b, a) for a, b in found)])
    assert set(met.values()) == {1}
    assert len(found) == 9


@pytest.fixture(scope="module")
def images() -> list[Image]:
    return [
        replace(
            image_of(phantoms.draw(kind, n, 64).truth), id=content_id(kind, n), group=f"{kind}{n}"
        )
        for kind in ("MR", "ultrasound")
        for n in range(60)
    ]


def expert_of(images: list[Image]) -> SimulatedExpert:
    config = build({}, ["expert.error_rate=0"], "x")
    return SimulatedExpert(config.expert, list(config.generator.styles), 0, images)


@pytest.fixture(scope="module")
def gold(images: list[Image]) -> list[Triplet]:
    expert = expert_of(images)
    return [row for image in images for row, _ in expert.rows(image, 5, True)]


def met(images: list[Image]) -> dict[str, Met]:
    return {i.id: Met(is_frozen(i.group), i.modality) for i in images}


def blind_auc(told: Sequence[tuple[Triplet, Triplet]], images: list[Image]) -> tuple[float, float]:
    """Of a judge that reads words alone: on the rows that it learned from, on frozen patients."""
    frozen = {image.id for image in images if is_frozen(image.group)}

    def rows(those: bool) -> list[Triplet]:
        return [row for pair in told for row in pair if (row.image_id in frozen) == those]

    seen, unseen = rows(False), rows(True)
    right = np.tile([1.0, 0.0], len(told))
    found = [blind_scores(seen, list(right[: len(seen)]), some) for some in (seen, unseen)]
    return auc(found[0], right[: len(seen)]), auc(found[1], right[: len(unseen)])


def test_words_tell_nothing_of_swapped_pairs_and_much_of_made_up_ones(
    images: list[Image], gold: list[Triplet]
) -> None:
    """Where texts are balanced not even the rows that it saw can be told."""
    expert = expert_of(images)
    of_gold = of(gold_pairs(gold, met(images), 10**4, 0, "gold"))
    pairs = expert.pairs(gold, 10**4, 0)
    for told in (of_gold, *(of(pairs, c) for c in ("factuality", "reasoning"))):
        better, worse = texts(told)
        assert better == worse
        seen, unseen = blind_auc(told, images)
        assert seen == pytest.approx(0.5, abs=0.01)
        assert unseen == pytest.approx(0.5, abs=0.05)
    implied = of(expert.implied(gold))  # of patients who teach alone
    assert len(implied) > 50
    assert texts(implied)[0] == texts(implied)[1]
    # The same rows, beside answers that their own options lend: what a blind judge lives on.
    drawn = rng()
    made_up = [
        (right, derived(right, "perturbed", answer=wrong[drawn.integers(len(wrong))]))
        for right in (replace(row, rationale="") for row in gold)
        for wrong in [[o for o in right.options if o != right.answer]]
        if wrong
    ]
    assert blind_auc(made_up, images)[1] > 0.6
    shuffled = [
        (row, derived(row, "incoherent", rationale=" ".join(drawn.permutation(words))))
        for row in gold
        for words in [row.rationale.split()]
        if len(words) > 3
    ]
    assert blind_auc(shuffled, images)[1] > 0.95


def test_pairs_are_true_and_frozen_by_the_patient(images: list[Image], gold: list[Triplet]) -> None:
    expert, shown = expert_of(images), {i.id: i for i in images}
    made, pairs = expert.pairs(gold, 300, 0)
    known = {row.id: row for row in made}
    assert len(pairs) == 300
    assert Counter(p.criterion for p in pairs).keys() == {"factuality", "reasoning", "relevance"}
    for pair in pairs:
        image, best = shown[pair.image_id], known[pair.chosen_id]
        assert pair.holdout == is_frozen(image.group)
        assert is_true(image, best)
        if pair.criterion == "reasoning":
            assert reasons_truly(image, best)
            assert not reasons_truly(image, known[pair.rejected_id])
        else:
            assert not is_true(image, known[pair.rejected_id])


def test_twins_of_gold_rows_are_of_one_side_of_the_frozen_line(
    images: list[Image], gold: list[Triplet]
) -> None:
    made, pairs = gold_pairs(gold, met(images), 200, 0, "gold")
    shown, known = {i.id: i for i in images}, {row.id: row for row in made}

    def side(pair: Preference) -> set[bool]:
        sources = {*known[pair.chosen_id].derived_from, *known[pair.rejected_id].derived_from}
        other = [shown[i] for i in sources if i in shown]
        return {set_of(i.group) != "train" for i in [shown[pair.image_id], *other]}

    assert len(pairs) == 200
    assert all(side(pair) == {pair.holdout} for pair in pairs)
    assert {p.expert for p in pairs} == {"gold, perturbed row", "gold, irrelevant row"}
