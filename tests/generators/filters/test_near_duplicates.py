"""Near-duplicates: which of two rows about one picture stays, and what is none."""

from __future__ import annotations

from dataclasses import replace

from engine.reasons import kind_of, other_row
from generators.filters.near_duplicates import Seen, repeated

ONE = Seen("a" * 32, "i" * 32, "Is there a cyst?", ("yes", "no"), "yes")
SIDE = replace(ONE, question="On which side is it?", options=("left", "right"), answer="left")


def of(*rows: Seen) -> dict[str, str]:
    named = [replace(row, id=f"{n:032x}") for n, row in enumerate(rows)]
    return {str(int(name, 16)): reason for name, reason in repeated(named)}


def test_the_first_stays_and_is_named() -> None:
    found = of(ONE, replace(ONE, question="Can you see a cyst?"), ONE)
    assert found.keys() == {"1", "2"}
    assert {other_row(reason) for reason in found.values()} == {f"{0:032x}"}
    assert {kind_of(reason) for reason in found.values()} == {"near-duplicate"}


def test_options_in_another_order_are_the_same_and_other_options_are_not() -> None:
    assert of(SIDE, replace(SIDE, options=("right", "left"))).keys() == {"1"}
    assert not of(SIDE, replace(SIDE, options=("left", "right", "both")))
    assert not of(SIDE, replace(SIDE, options=()))


def test_a_contradiction_on_the_same_image_goes_and_is_told() -> None:
    found = of(ONE, replace(ONE, answer="no"))
    assert found["1"].endswith("of the same image, and answers otherwise")


def test_a_side_on_a_mirrored_copy_is_no_repetition_and_the_same_answer_is() -> None:
    mirrored = replace(SIDE, image_id="m" * 32, orientation=1)
    assert not of(SIDE, replace(mirrored, answer="right"))
    assert of(SIDE, mirrored)["1"].endswith("a mirrored or turned copy")
    copy = replace(SIDE, image_id="c" * 32, answer="right")
    assert "a near copy" in of(SIDE, copy)["1"]


def test_a_row_of_an_earlier_round_is_never_refused() -> None:
    assert not of(replace(ONE, kept_before=True), replace(ONE, kept_before=True))


def test_rows_that_a_similarity_of_texts_would_merge_all_stay() -> None:
    texts = (
        "Is the left lesion larger than 3 cm?", "Is the right lesion larger than 3 cm?",
        "Is the left lesion smaller than 3 cm?", "Is the left lesion larger than 4 cm?",
        "Is the left lesion not larger than 3 cm?",
    )  # fmt: skip
    assert not of(*(replace(ONE, question=text) for text in texts))
