"""Composed questions of phantoms are true, read by their words from truth and mask."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from generators.compose.program import (
    SIDE,
    SIZE,
    WORD,
    Apply,
    Fact,
    Given,
    Look,
    Program,
)
from generators.compose.writer import question
from generators.phantoms.bank import FINDINGS
from generators.phantoms.base import Phantom
from generators.phantoms.oracle import is_true, reasons_truly, share_true
from tests.drawn_workspace import answered
from tests.generators.composed import from_truth

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
