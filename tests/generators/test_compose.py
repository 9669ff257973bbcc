"""Composed questions: what computes them, that they are true, and that they tell no answer."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from benchmarks.compose import EVEN, Made, told_by_words
from benchmarks.compose import from_truth as composed_of
from engine.answers.matching import is_correct
from engine.config import build
from engine.errors import TriptychError
from engine.records import Image
from generators import phantoms
from generators.compose.balance import Balance
from generators.compose.composer import CONTRADICT, TOO_FEW, compose
from generators.compose.facts import agreed, of_labels, of_row
from generators.compose.measures import measured
from generators.compose.program import (
    COUNT,
    DIAMETER,
    NUMBER,
    SIDE,
    SIZE,
    WORD,
    Apply,
    Fact,
    Given,
    Look,
    Program,
)
from generators.compose.rows import COMPOSED, row_of
from generators.compose.words import noun, singular
from generators.compose.writer import question, rationale
from generators.filters import reason
from generators.phantoms import oracle
from generators.phantoms.bank import FINDINGS
from generators.phantoms.base import Phantom
from generators.phantoms.oracle import is_true, reasons_truly, share_true
from reward_model.process import flaw_of, steps_of
from tests.drawn_workspace import answered

OF_EACH = 20


def image_of(kind: str) -> Image:
    return oracle.image_of(phantoms.draw(kind, 1, 64).truth, "a" * 32)


def from_truth() -> tuple[Made, ...]:
    """Two questions each of phantoms of every kind, in two sets that are balanced apart."""
    return composed_of(OF_EACH)


# The answer to a question's words, from the truth's record and the mask, without the program


def holds(clause: str, phantom: Phantom) -> bool:
    """Whether a clause is true of a phantom; raises where it is in no known words."""
    truth = phantom.truth
    told = truth.attributes
    if found := re.fullmatch(r"there (?:is|are) (no |a |an |)([a-z -]+)", clause):
        if found[2] in FINDINGS_ALL:
            return (truth.finding == found[2]) == (found[1] != "no ")
    if re.fullmatch(r"there is more than one [a-z -]+", clause):
        return regions(phantom) > 1
    if found := re.fullmatch(r"there (?:is|are) (\d) [a-z -]+", clause):
        return regions(phantom) == int(found[1])
    if found := re.fullmatch(r"the (left|right) side is affected", clause):
        return truth.side == found[1]
    if found := re.fullmatch(r"the (?:[a-z -]+ size|size of the [a-z -]+) is (\w+)", clause):
        return truth.size == found[1]
    named = {
        r"the CT is (\w+)": "contrast",
        r"the MR sequence is (\w+)": "sequence",
        r"the margin of the \w+ is (\w+)": "margin",
        r"the (\w+) eye is shown": "eye",
        r"the cup-to-disc ratio is ([\d.]+)": "cup_disc",
        r"the (\w+) branch is occluded": "quadrant",
        r"the disease is (mild|moderate|severe)": "severity",
        r"the disease is (focal|diffuse)": "extent",
        r"the central retina is (\w+)": "thickness",
        r"the vitreous is (\w+)": "vitreous",
        r"the lesion is (benign|malignant)": "malignancy",
        r"the border of the lesion is (\w+)": "border",
        r"the lesion has (\d) colours?": "colours",
        r"the lesion shows (?:a )?([a-z -]+)": "structure",
        r"the tumor is (\w+ differentiated)": "differentiation",
        r"the dysplasia is (\w+ grade)": "dysplasia",
        r"the nuclei are (\w+)": "cellularity",
    }
    for pattern, attribute in named.items():
        if found := re.fullmatch(pattern, clause):
            return told[attribute] == found[1]
    if found := re.fullmatch(r"hair is (not )?in view", clause):
        return (told["hair"] == "yes") == (found[1] is None)
    raise AssertionError(f"unknown words: {clause}")


FINDINGS_ALL = {finding for findings in FINDINGS.values() for finding in findings}


def areas(mask: np.ndarray) -> list[int]:
    """Pixels of each region, by filling from a pixel to its eight neighbours."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        waiting, size = [left.pop()], 0
        while waiting:
            y, x = waiting.pop()
            size += 1
            near = {(y + b, x + a) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            waiting += near
        found.append(size)
    return sorted(found, reverse=True)


def regions(phantom: Phantom) -> int:
    return len(areas(phantom.mask))


def widths(phantom: Phantom) -> list[float]:
    spacing = phantom.pixel_spacing_mm
    return [2 * (area * spacing**2 / 3.141592653589793) ** 0.5 for area in areas(phantom.mask)]


def named(name: str, phantom: Phantom) -> str:
    """The value of what a question asks for by name."""
    truth = phantom.truth
    name = name.removesuffix(" (small, medium or large)")
    if name.startswith("the number of ") and "colours" not in name:
        return str(regions(phantom))
    if name == "the affected side":
        return str(truth.side)
    if re.fullmatch(r"the (?:[a-z -]+ size|size of the [a-z -]+)", name):
        return str(truth.size)
    attribute = {
        "the MR sequence": "sequence",
        "the cup-to-disc ratio": "cup_disc",
        "the severity of the disease": "severity",
        "the thickness of the central retina": "thickness",
        "the border of the lesion": "border",
        "the number of colours of the lesion": "colours",
        "the structure that the lesion shows": "structure",
        "the differentiation of the tumor": "differentiation",
        "the grade of the dysplasia": "dysplasia",
        "the density of the nuclei": "cellularity",
        "the margin of the nodule": "margin",
        "the margin of the lesion": "margin",
    }[name]
    return truth.attributes[attribute]


def clauses_of(joined: str) -> list[str]:
    return [
        part.strip() for part in re.split(r", and |, (?!or else)| and (?=the|there|hair)", joined)
    ]


def read(asked: str, phantom: Phantom) -> tuple[str, float | None]:
    """The answer in words, or the number that it has to lie near."""
    if found := re.search(r"\(1\).*", asked):
        parts = re.split(r"; \(\d\) ", found[0].removeprefix("(1) ").rstrip("?."))
        true = sum(holds(part, phantom) for part in parts)
        if asked.startswith(("How many", "Count")):
            return str(true), None
        every = asked.startswith(("Are both", "Are all", "Do both", "Do all"))
        return ("yes" if (true == len(parts) if every else true) else "no"), None
    if found := re.fullmatch(r"Is it true of this image that (.+)\?", asked):
        return ("yes" if all(holds(c, phantom) for c in clauses_of(found[1])) else "no"), None
    for form in (
        r"If (?P<if>.+), give (?P<then>.+); otherwise give (?P<else>.+)\.",
        r"What is (?P<then>.+?) if (?P<if>.+), or else (?P<else>.+)\?",
        r"If (?P<if>.+), what is (?P<then>.+)\? Otherwise, what is (?P<else>.+)\?",
    ):
        if found := re.fullmatch(form, asked):
            met = all(holds(clause, phantom) for clause in clauses_of(found["if"]))
            return named(found["then" if met else "else"], phantom), None
    sizes = widths(phantom)
    if found := re.search(r"was ([\d.]+) mm across", asked):
        assert len(sizes) == 1
        return "", sizes[0] - float(found[1])
    if found := re.search(r"more than ([\d.]+) mm\?", asked):
        return ("yes" if sum(sizes) > float(found[1]) else "no"), None
    if "add up" in asked or "sum" in asked:
        return "", sum(sizes)
    if "How many times" in asked:
        return "", sizes[0] / sizes[-1]
    assert re.search(r"wider than|difference", asked), asked
    return "", sizes[0] - sizes[-1]


def test_what_is_composed_from_truth_is_true_by_truth_and_mask() -> None:
    rows = from_truth()
    assert len(rows) > 350
    wrong = []
    for phantom, _, one, _ in rows:
        words, number = read(one.question, phantom)
        if number is None:
            right = one.answer == words
        else:
            right = abs(float(one.answer.split()[0]) - number) <= 0.21  # of terms to 0.1 each
        if not right:
            wrong.append((one.question, one.answer, words, number))
    assert wrong == []


def test_the_oracle_knows_a_composed_answer_and_its_reasons() -> None:
    known = Counter(is_true(image, row) for _, image, _, row in from_truth())
    assert known[False] == 0
    assert known[True] > 0.8 * known.total()
    unknown = {one.form for _, i, one, row in from_truth() if is_true(i, row) is None}
    assert {"grown", "sum"} <= unknown <= {"grown", "difference", "ratio", "sum", "exceeds"}
    assert all(reasons_truly(i, row) for _, i, _, row in from_truth() if is_true(i, row))
    images = {image.id: image for _, image, _, _ in from_truth()}
    assert share_true(images, [row for *_, row in from_truth()]) == 1.0


def test_the_oracle_refuses_another_answer_and_a_false_premise() -> None:
    for _, image, _, row in from_truth():
        for option in row.options:
            if option != row.answer:
                assert is_true(image, replace(row, answer=option)) is not True
    sick = next(i for p, i, _, _ in from_truth() if p.truth.finding == "cyst")
    fact = Fact(SIDE, "infarct", "left", "kept", "t")
    size = Fact(SIZE, "infarct", "small", "kept", "t")
    claims = tuple(Apply("is", (Look(f), Given(f.value, WORD))) for f in (fact, size))
    program = Program(Apply("all", claims))
    row = answered(sick, question(program, 0), "yes", program=program.to_json())
    assert program.answer == "yes"
    assert is_true(sick, row) is False
    assert not reasons_truly(sick, row)


def test_a_fact_that_is_not_so_makes_the_stored_answer_wrong() -> None:
    """As a kept row with a wrong answer does."""
    found = 0
    for _, image, one, row in from_truth():
        if one.form == "counting":
            first = one.program.facts[0]
            if first.value not in ("left", "right"):
                continue
            other = {"left": "right", "right": "left"}[str(first.value)]
            changed = {first: other}
            false = one.program.on(lambda f, to=changed: to.get(f, f.value))
            assert false is not None
            if false.answer != one.answer:
                lie = replace(row, answer=false.answer, program=false.to_json())
                assert is_true(image, lie) is False
                found += 1
    assert found


# Programs


def test_a_stored_program_gives_the_stored_answer_again() -> None:
    for _, _, one, row in from_truth():
        assert row.program is not None
        again = Program.from_json(row.program)
        assert again == one.program
        assert again.answer == row.answer
        assert rationale(again) == row.rationale
        assert again.to_json() == row.program
        assert len(again.run()[1]) == one.steps
        assert 2 <= one.steps <= 5


ONE = Fact(COUNT, "cyst", 1, "kept", "a")
LEFT = Fact(SIDE, "cyst", "left", "kept", "b", confidence=0.8)
SMALL = Fact(SIZE, "cyst", "small", "kept", "c", confidence=0.6)
SEVERAL_OR = Apply("more", (Look(ONE), Given(1, NUMBER)))


def test_the_issues_own_example() -> None:
    """If there is more than one lesion, its side, else its size."""
    program = Program(Apply("if", (SEVERAL_OR, Look(LEFT), Look(SMALL))))
    assert program.answer == "small"
    assert question(program, 0) == (
        "If there is more than one cyst, give the affected side; otherwise give the cyst size "
        "(small, medium or large)."
    )
    assert rationale(program) == (
        "The condition does not hold: there is 1 cyst. "
        "So the cyst size is asked for: the cyst size is small."
    )
    two = program.on(lambda fact: 2 if fact.about == COUNT else fact.value)
    assert two is not None
    assert two.answer == "left"
    assert rationale(two).startswith("The condition holds: there are 2 cysts.")


def test_the_branch_that_is_not_taken_is_not_run() -> None:
    program = Program(Apply("if", (SEVERAL_OR, Look(LEFT), Look(SMALL))))
    _, steps = program.run()
    assert [step.fact for step in steps] == [ONE, SMALL]


WIDE = [
    Fact(DIAMETER, "cyst", value, "segmentation", "i", which)
    for value, which in ((12.0, "largest"), (7.5, "second largest"), (4.0, "smallest"))
]


@pytest.mark.parametrize(
    ("op", "facts", "answer", "said"),
    [
        ("sum", WIDE, "23.5 mm", "12.0, 7.5 and 4.0 mm add up to 23.5 mm."),
        ("difference", WIDE[::2], "8.0 mm", "The difference is 12.0 - 4.0 = 8.0 mm."),
        ("ratio", WIDE[::2], "3.0 times", "The ratio is 12.0 / 4.0 = 3.0 times."),
    ],
)
def test_arithmetic_on_widths(op: str, facts: list[Fact], answer: str, said: str) -> None:
    program = Program(Apply(op, tuple(map(Look, facts))), 100.0)
    assert program.answer == answer
    assert rationale(program).endswith(said)
    assert question(program, 0).startswith("The image is 100 mm wide.")


@pytest.mark.parametrize(
    "tree",
    [
        Apply("more", (Look(LEFT), Given("right", WORD))),  # words are not more
        Apply("is", (Look(LEFT), Given(1, NUMBER))),
        Apply("all", (Look(LEFT), Look(SMALL))),
        Apply("all", (SEVERAL_OR,)),
        Apply("if", (Look(LEFT), Look(ONE), Look(SMALL))),
        Apply("sum", (Look(WIDE[0]), Given(1, NUMBER))),
        Apply("power", (Look(WIDE[0]), Look(WIDE[1]))),
        Apply("is", (Look(replace(ONE, value=True)), Given(1, NUMBER))),
        Look(replace(WIDE[0], value="wide")),
    ],
)
def test_a_tree_without_a_type_is_no_program(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"take|compares|is no|called"):
        Program(tree)


@pytest.mark.parametrize("text", ["", "{}", '{"facts":[],"tree":["look",0]}', "[1]", '{"tree":[]}'])
def test_what_is_no_stored_program_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"program|Expecting"):
        Program.from_json(text)


# What is written


def test_every_row_passes_the_filters_and_contradicts_itself_nowhere() -> None:
    refused = Counter(found for *_, row in from_truth() if (found := reason(row)))
    # A sum with itself ("44.5 - 22.5 = 22.0") reads as a loop to the filter of reasoning.
    assert set(refused) <= {"reasoning: the same words again and again"}
    assert refused.total() < 0.02 * len(from_truth())
    assert {flaw_of(row, None, -np.inf) for *_, row in from_truth()} == {None}


def test_the_rationale_has_a_sentence_a_step_and_says_every_fact_that_was_looked_at() -> None:
    for *_, one, row in from_truth():
        assert len(steps_of(row.rationale)) == one.steps
        for step in one.program.run()[1]:
            if step.fact and isinstance(step.fact.value, float):
                assert f"{step.fact.value:.1f} mm" in row.rationale


def test_numbers_articles_and_verbs_agree() -> None:
    text = " ".join(f"{row.question} {row.rationale}" for *_, row in from_truth())
    assert not re.search(r"\b1 (?:lesions|cysts|nodules|infarcts|statements are)", text)
    assert not re.search(r"\b[2-9] (?:lesion|cyst|nodule|infarct|plaque)\b", text)
    assert not re.search(r"\bthere (?:is [2-9]|are 1)\b", text)
    assert not re.search(r"\ba (?=[aeio])|\ban (?=[^aeio])", text)
    assert not re.search(r"\ban? (?:consolidation|hydronephrosis|drusen|glaucoma|colitis)", text)
    assert "there is drusen" not in text
    assert not re.search(r"[{}]|  |\bNone\b|\bTrue\b|\bFalse\b|\.\.", text)


def test_names_in_other_numbers() -> None:
    words = ["cyst", "metastasis", "liver metastasis", "opacity", "mass", "solid mass", "fracture"]
    many = ["cysts", "metastases", "liver metastases", "opacities", "masses", "solid masses"]
    assert [noun(word).many for word in words] == [*many, "fractures"]
    assert [singular(word) for word in [*many, "fractures"]] == words
    assert [singular(word) for word in words] == words
    assert noun("pneumonia").there() == "there is pneumonia"
    assert noun("infarct").there() == "there is an infarct"
    assert noun("drusen").there(present=False) == "there are no drusen"
    assert noun("stenosis").there() == "there is a stenosis"


def test_a_finding_is_not_named_where_it_is_asked_whether_it_is_there() -> None:
    for *_, one, row in from_truth():
        for fact in one.program.facts:
            if fact.about == "presence":
                said = row.question.replace(noun(fact.subject).there(), "")
                said = said.replace(noun(fact.subject).there(present=False), "")
                assert fact.subject not in said


# Options and balance


def test_options_hold_the_answer_once_and_are_apart() -> None:
    for *_, row in from_truth():
        assert sum(is_correct(option, row.answer, row.options) for option in row.options) == 1
        assert len(set(row.options)) == len(row.options) >= 2
        lengths = [len(option) for option in row.options]
        assert max(lengths) - min(lengths) <= 20
        if row.answer.endswith(("mm", "times")):
            values = [float(option.split()[0]) for option in row.options]
            assert values == sorted(values)
            assert all(1.25 <= b / a <= 1.45 for a, b in pairwise(values))


def test_a_condition_offers_two_of_each_branch() -> None:
    for *_, one, row in from_truth():
        if one.form == "condition":
            _, then, otherwise = one.program.tree.args
            assert {str(then.fact.value), str(otherwise.fact.value)} < set(row.options)
            assert len(row.options) == 4


def test_neither_answer_nor_place_is_taken_more_often() -> None:
    answers: dict[Any, Counter[str]] = defaultdict(Counter)
    places: dict[Any, Counter[int]] = defaultdict(Counter)
    for *_, one, row in from_truth():
        if one.closed or one.form == "counting":
            answers[one.form, one.steps][row.answer] += 1
        places[one.form, len(row.options)][row.options.index(row.answer)] += 1
    for (form, steps), counts in answers.items():
        possible = steps if form == "counting" else 2
        least = min(counts.values()) if len(counts) == possible else 0
        assert max(counts.values()) - least <= 6, (form, steps, counts)
    for (form, number), counts in places.items():
        if form == "counting":
            continue  # the place is the number
        least = min(counts.values()) if len(counts) == number else 0
        assert max(counts.values()) - least <= 2 * (1 + (number == 2)), (form, number, counts)


def test_one_who_reads_the_words_alone_does_not_know_the_answer() -> None:
    """Of closed questions, and of conditions which branch is asked for; and of counts."""
    told = told_by_words(from_truth())
    forms = ("both", "either", "exceeds", "condition")
    right, number = (sum(told[form][n] for form in forms) for n in (0, 1))
    assert number > 220
    assert right / number < 0.5 + 2 * (0.25 / number) ** 0.5, told
    counts = {int(form[-1]): of for form, of in told.items() if form.startswith("counting")}
    chance = sum(of[1] / (n + 1) for n, of in counts.items())
    assert sum(of[0] for of in counts.values()) < chance + 2 * chance**0.5, told


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
