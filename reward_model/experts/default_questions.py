"""Questions for a column that nobody wrote any for, from its name and the values that it has.

`triptych init` writes them into a file, to be read and changed. Of the table's values only words
for yes, no and nothing come into a question: the others are looked up when it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.config.templates import QuestionType, Template, key_of

YES = ("yes", "y", "true", "1", "present", "positive", "pos", "+")
NO = ("no", "n", "false", "0", "absent", "negative", "neg", "-")
UNSURE = ("-1", "?", "uncertain", "unknown", "unclear", "equivocal", "u", "unk")
NOTHING = (
    "no finding",
    "no findings",
    "no abnormality",
    "none",
    "normal",
    "unremarkable",
    "negative",
)
SIDES = {
    **dict.fromkeys(("left", "l", "lt", "os"), "left"),
    **dict.fromkeys(("right", "r", "rt", "od"), "right"),
    **dict.fromkeys(("both", "b", "bilateral", "ou"), "both sides"),
}
SEPARATORS = ("|", ";", ",")
UNITS = ("mm", "cm", "ml", "cc", "hu", "mm2", "cm2", "mm3", "cm3", "kg", "mg", "%", "degrees")
FEW, GRADES = 24, 8  # different values that are a choice; of numbers
_COMMON = {key_of(word) for word in (*YES, *NO, *UNSURE, *SIDES)}
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_MEASURE = re.compile(rf"{_NUMBER.pattern}\s*([a-zA-Z%]+\d?)?")
_QUALITY = re.compile(r"(?:ab|sub)?normal|malignant|benign|\w+(?:ic|ed|ous)", re.I)
_WORDINGS: tuple[tuple[str, str, QuestionType], ...] = (
    (r"side|laterality", "On which side is it?", "attribute"),
    (r"(?:view|projection|plane|orientation)(?: position)?", "In which {} is it taken?", "anatomy"),
    (r"(?:body part|organ|anatomy)(?: examined)?", "Which body part is shown?", "anatomy"),
    (r"location|site|lobe|quadrant|region|position", "What is the {}?", "attribute"),
    (r"labels?|class|categor(?:y|ies)|target", "Which finding is shown?", "disease"),
    (r"findings?|diagnos[ie]s|disease|patholog(?:y|ies)|abnormality", "What is the {}?", "disease"),
    (r"grade|stage|severity|score|size|diameter|volume|bi-?rads|ti-?rads", "What is the {}?",
     "grading"),
)  # fmt: skip


def default_questions(column: str, cells: Mapping[str, int]) -> list[Template]:
    """Templates for a column, by how often each of its cells is there; none where none is."""
    found = [cell.strip() for cell in cells if cell.strip()]
    if not found:
        return []
    name = words_of(column)
    words, kind = _wording(name)
    graded = kind == "grading" and all(map(_NUMBER.fullmatch, found))
    if not graded and (answers := _yes_or_no(found)):
        return [Template(question=_whether(name), options=["yes", "no"], answers=answers)]
    if sided := _sides(name, found):
        return [sided]
    if measured := _numbers(column, name, found):
        return [measured]
    separator = _separator(found)
    parts = [p.strip() for cell in found for p in (cell.split(separator) if separator else [cell])]
    different = {key_of(part): part for part in parts if part}
    total = sum(cells.values())
    choice = 2 <= len(different) <= FEW and (separator or total >= 2 * len(different))
    nothing = sorted(p for key, p in different.items() if key in map(key_of, NOTHING))
    common = {"separator": separator, "question_type": kind}
    asked = [
        Template(
            question="Which of these is shown?" if separator and choice else words,
            options="seen" if choice else None,
            nothing=nothing if separator else [],
            **common,
        )
    ]
    if choice and kind == "disease":
        present = Template(question="Is there any {value}?", nothing=nothing, **common)
        asked.append(present)
    return asked


def is_common(column: str, cell: str) -> bool:
    """Whether a cell is a word for yes, no or a side, or a short number with a common unit."""
    short = re.fullmatch(rf"[+-]?\d{{1,3}}(?:[.,]\d{{1,2}})?\s*(?:{'|'.join(UNITS)})", cell, re.I)
    return bool(short) or key_of(cell) in _COMMON


def words_of(column: str) -> str:
    """A column's name in words: "pleuralEffusion_mm" is pleural effusion."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"[\W_]+", " ", column)).split()
    words = [p if p.isupper() and len(p) > 1 else p.lower() for p in parts]
    while len(words) > 1 and words[-1].lower() in UNITS:
        words.pop()
    return " ".join(words) or "value"


def _yes_or_no(cells: list[str]) -> dict[str, str]:
    """What each cell says where all say yes, no or that it is not known; else nothing."""
    known = {key_of(word): "yes" for word in YES}
    known |= {key_of(word): "no" for word in NO} | {key_of(word): "" for word in UNSURE}
    if not all(key_of(cell) in known for cell in cells):
        return {}
    answers = {cell: known[key_of(cell)] for cell in sorted(cells)}
    return answers if any(answers.values()) else {}


def _sides(name: str, cells: list[str]) -> Template | None:
    """The question about a column of sides, None of any other."""
    if not all(key_of(cell) in SIDES for cell in cells):
        return None
    said = {cell: SIDES[key_of(cell)] for cell in sorted(cells)}
    words = "Which eye is it?" if "eye" in name else "On which side is it?"
    short = {cell: word for cell, word in said.items() if cell.casefold() != word}
    return Template(question=words, question_type="attribute", options="seen", answers=short)


def _whether(name: str) -> str:
    first, _, rest = name.partition(" ")
    if first in ("is", "has") and rest:
        return f"Is it {rest}?" if first == "is" else f"Is there any {rest}?"
    return f"Is it {name}?" if _QUALITY.fullmatch(name) else f"Is there any {name}?"


def _numbers(column: str, name: str, cells: list[str]) -> Template | None:
    """The question about a column of numbers, None of any other."""
    found = [_MEASURE.fullmatch(cell) for cell in cells]
    units = sorted({match[1] for match in found if match and match[1]})
    if not all(found) or not {unit.lower() for unit in units} <= set(UNITS):
        return None
    last = re.split(r"[\W_]+", column.strip("_ "))[-1].lower()
    common = units or [unit for unit in UNITS if unit == last]
    unit = common[0] if len(common) == 1 else ""
    words, kind = _wording(name)
    if unit:
        stem = words.removesuffix("?")
        return Template(question=f"{stem} in {unit}?", unit=unit, question_type=kind or "grading")
    few = not units and 2 <= len(set(map(key_of, cells))) <= GRADES
    return Template(question=words, options="seen" if few else None, question_type=kind)


def _separator(cells: list[str]) -> str:
    """What parts the values of a cell: the same values stand alone elsewhere, or more than once."""
    for mark in SEPARATORS:
        several = [cell for cell in cells if mark in cell]
        parts = [part.strip() for cell in several for part in cell.split(mark)]
        alone = {cell for cell in cells if mark not in cell}
        if several and all(len(p.split()) <= 4 for p in parts):
            if mark != "," or alone & set(parts) or len(set(parts)) < len(parts):
                return mark
    return ""


def _wording(name: str) -> tuple[str, QuestionType | None]:
    for pattern, words, kind in _WORDINGS:
        if re.fullmatch(rf"(?:.* )?(?:{pattern})", name, re.I):
            return words.format(name), kind
    return f"What is the {name}?", None
