"""What only a row's writer was told: what quotes it is out, what the image shows passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.knowledge import NOTHING, Known, known_of
from generators import filters, phantoms
from generators.filters import leak
from generators.phantoms import bank
from reward_model.experts.simulated import write_rows
from tests.generators.filters.rows import row
from tests.generators.test_generators import image_of

REPORT = (
    "FINDINGS: There is a large right pleural effusion with adjacent compressive atelectasis. The "
    "heart is enlarged. A 23 mm nodule lies in the left upper lobe. IMPRESSION: Effusion, nodule."
)
KNOWN = Known(
    REPORT,
    (
        ("labels", "Pleural_Effusion", "yes"),
        ("labels", "side", "left"),
        ("labels", "dx", "grade2a"),
        ("labels", "noduleType", "solid"),
        ("truth", "size_mm", "20.7"),
        ("ViewPosition", "ViewPosition", "PA"),
    ),
)
QUESTION = "What is seen at the base of the right lung?"
CITES = [
    "According to the report, the lung base is opaque.",
    "The report states that there is fluid.",
    "The radiology report mentions an effusion.",
    "The radiologist's report confirms it.",
    "Fluid is seen, as described in the report.",
    "As reported, there is fluid.",
    "Fluid, as per the clinical report.",
    "Based on the given information, it is fluid.",
    "From the provided labels it is fluid.",
    "The label says effusion.",
    "The annotation indicates that it is fluid.",
    "The ground truth is an effusion.",
    "The metadata specify a PA view.",
    "The DICOM header tells the view.",
    "It is consistent with the impression that fluid is there, as documented in the report.",
    "I was told that there is fluid.",
    "The impression says that there is fluid.",
]
COLUMNS = [
    ("Pleural_Effusion is present.", "Pleural_Effusion"),
    ("The finding is of noduleType solid.", "noduleType"),
    ("It is grade2a by its look.", "grade2a"),
    ("On the film side: left, so the left lung.", "side: left"),
    ("It holds side=left, so the left lung.", "side: left"),
    ("ViewPosition shows it.", "ViewPosition"),
]
QUOTES = [
    "There is a large right pleural effusion with adjacent compressive atelectasis.",
    "I see large right pleural effusion, with adjacent compressive atelectasis now.",
    "Seen is that a 23 mm nodule lies in the left upper lobe.",
]
PASSES = [
    "The right costophrenic angle is blunt and the base is opaque, which is fluid.",
    "There is a large effusion on the right, and the heart is enlarged.",
    "A nodule lies in the left upper lobe, about as wide as a rib.",
    "This would be reported as an effusion.",
    "Effusions of this kind are common, as reported in the literature.",
    "From the position of the heart and the label R on the film, this is the right side.",
    "The image gives the impression of volume loss.",
    "It is known that fluid follows gravity, and the given image shows a meniscus.",
    "On this T1 image the side is left, and type 2 is unlikely.",
    "The pattern is consistent with fluid, based on the density in the image.",
    "Side is left. Location: right lung base.",
]


@pytest.mark.parametrize("text", CITES)
def test_a_row_that_cites_what_only_its_writer_was_told_is_out(text: str) -> None:
    said = "it cites what only the writer was told"
    assert leak.reason(replace(row(QUESTION), rationale=text), KNOWN) == f"reasoning: {said}"
    assert leak.reason(row(f"{text} What is it?"), KNOWN) == f"question: {said}"
    assert leak.reason(row(QUESTION, text), KNOWN) == f"answer: {said}"
    assert leak.reason(row(QUESTION, "cyst", "cyst", text), KNOWN) == f"options: {said}"


@pytest.mark.parametrize(("text", "found"), COLUMNS)
def test_a_label_as_a_column_writes_it_is_out(text: str, found: str) -> None:
    told = leak.reason(replace(row(QUESTION), rationale=text), KNOWN)
    assert told == f"reasoning: it writes {found} as the table does"


@pytest.mark.parametrize("text", QUOTES)
def test_words_of_the_report_in_their_order_are_out(text: str) -> None:
    told = "8 words of the report in their order"
    assert leak.reason(replace(row(QUESTION), rationale=text), KNOWN) == f"reasoning: {told}"
    assert leak.reason(replace(row(QUESTION), rationale=text), KNOWN, 30) is None


@pytest.mark.parametrize("text", PASSES)
def test_what_the_image_shows_passes(text: str) -> None:
    assert leak.reason(replace(row(QUESTION), rationale=text), KNOWN) is None


@pytest.mark.parametrize("text", [*CITES, *QUOTES, *(text for text, _ in COLUMNS)])
def test_where_nothing_was_told_there_is_nothing_to_leak(text: str) -> None:
    assert leak.reason(replace(row(QUESTION), rationale=text), NOTHING) is None


def test_the_answer_may_be_what_was_known_and_the_reasoning_may_say_the_answer() -> None:
    known = "large right pleural effusion with adjacent compressive atelectasis"
    text = f"The base is opaque: {known}."
    assert leak.reason(replace(row(QUESTION, known), rationale=text), KNOWN) is None
    assert leak.reason(replace(row(QUESTION, "fluid"), rationale=text), KNOWN)


@pytest.mark.parametrize("size", ["23 mm", "23mm", "20.7 mm"])
def test_a_size_that_was_told_is_no_part_of_a_question(size: str) -> None:
    asked = f"What is the {size} mass?"
    assert str(leak.reason(row(asked, "nodule"), KNOWN)).startswith("question: it gives ")
    assert leak.reason(row("How wide is the mass?", size), KNOWN) is None
    assert leak.reason(row("Is the mass wider than 30 mm?", "no"), KNOWN) is None
    assert leak.reason(row(asked, size, size, "40 mm"), KNOWN) is None


def test_a_leak_is_the_rows_problem_where_its_writer_was_told() -> None:
    bad = replace(row(QUESTION), rationale=CITES[0])
    assert filters.marked(bad).problem is None
    told = filters.marked(bad, known=KNOWN).problem
    assert told == "reasoning: it cites what only the writer was told"


def test_no_row_of_an_expert_is_a_leak_though_its_writer_knew_the_truth() -> None:
    for kind in bank.SUBJECTS:
        for number in range(4):
            image = image_of(phantoms.draw(kind, number, 64).truth, number)
            known = known_of(image, ["truth"])
            assert known.kinds == ("truth",)
            for made, _ in write_rows(image, 6, ["direct", "step", "meta"], number, True):
                assert leak.reason(made, known) is None, (made.question, made.rationale)
