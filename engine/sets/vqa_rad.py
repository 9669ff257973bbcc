"""VQA-RAD in the exact fields that it is published with, and other JSON of that form, cleaned.

A row that cannot be gold is left out and named; the others are used. A question or an answer says
what it says or is not used: with a word masked it would ask or mean something else. So a row of a
hospital's own JSON of which anything would be masked (`engine.imaging.reports`) is left out too.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.answers.gold import NotText, gold_problem, text_of
from engine.answers.spelling import normalise, normalise_question
from engine.config.source import Source
from engine.errors import TriptychError
from engine.imaging.reports import harmless
from engine.sets.benchmark import Benchmark, GoldQuestion, LeftOut

VQA_RAD_ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}


NAMES = ("image_name", "qid")  # by which a row that is left out is told


# VQA-RAD's question types (Lau et al. 2018) in OmniMedVQA's five.
VQA_RAD_TYPES = {
    "MODALITY": "modality",
    "ORGAN": "anatomy",
    "PLANE": "anatomy",
    "PRES": "disease",
    "ABN": "disease",
    "SIZE": "grading",
}


def load_vqa_rad(folder: Path) -> list[GoldQuestion]:
    """The questions of `read_vqa_rad`."""
    return read_vqa_rad(folder).questions


def read_vqa_rad(folder: Path, may_enter: Callable[[str], bool] | None = None) -> Benchmark:
    """VQA-RAD's own JSON (`*.json` beside `images/`), one row a question.

    Patients are MedPix cases (`image_case_url`). Left out are rows whose image, patient, question
    or answer is no text or cannot be gold (`engine.answers.gold`), rows that answer one question
    about one image differently, and where `may_enter` is given rows with a text that may not.
    Raises TriptychError where the file is no list or no row can be used.
    """
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        raise TriptychError(f"{folder} must hold VQA-RAD's one JSON file beside images/")
    try:
        rows = json.loads(found[0].read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TriptychError(f"{found[0]} is not VQA-RAD's JSON: {error}") from None
    if not isinstance(rows, list):
        raise TriptychError(f"{found[0]} is not VQA-RAD's JSON: it must be a list of rows")
    read = [_allowed(_vqa_rad(row), may_enter) for row in rows]
    reasons = _contradictions(read) | {n: r for n, r in enumerate(read) if isinstance(r, str)}
    left_out = [
        LeftOut(f"{found[0].name}#/{n}", reasons[n], *(_named(rows[n], k) for k in NAMES))
        for n in sorted(reasons)
    ]
    used = [q for n, q in enumerate(read) if isinstance(q, GoldQuestion) and n not in reasons]
    if not used:
        first = f": {left_out[0].place}: {left_out[0].reason}" if left_out else ""
        raise TriptychError(f"{found[0]} has no row that can be used{first}")
    images = [shown for row in rows if (shown := _shown(row))]
    return Benchmark(found[0].name, images, used, left_out)


def _allowed(
    read: GoldQuestion | str, may_enter: Callable[[str], bool] | None
) -> GoldQuestion | str:
    """A question as it was read, or which of its texts may not enter."""
    if may_enter is None or isinstance(read, str):
        return read
    told = {"question": (read.question,), "answer": (read.answer, *read.options)}
    wrong = [name for name, texts in told.items() if not all(map(may_enter, texts))]
    return f"{wrong[0]} has words or numbers that are not known to be harmless" if wrong else read


def _named(row: object, field: str) -> str:
    value = row.get(field, "") if isinstance(row, dict) else ""
    return str(value) if isinstance(value, str | int) else ""


def _shown(row: object) -> tuple[str, str, str] | None:
    """A row's image, patient and anatomy, where the first two are texts."""
    if not isinstance(row, dict):
        return None
    try:
        image, patient = (text_of(row.get(name)) for name in ("image_name", "image_case_url"))
    except NotText:
        return None
    return image, patient, VQA_RAD_ORGANS.get(str(row.get("image_organ")).strip(), "unknown")


def _vqa_rad(row: object) -> GoldQuestion | str:
    """A row as a question, or why it is none."""
    if not isinstance(row, dict):
        return "is no object with VQA-RAD's fields"
    said = {}
    for name in ("image_name", "image_case_url", "question", "answer"):
        if name not in row:
            return f"{name} is missing"
        try:
            said[name] = text_of(row[name])
        except NotText as problem:
            return f"{name} {problem}"
    answer, question = said["answer"], said["question"]
    closed = normalise(answer) in ("yes", "no")
    options = ("yes", "no") if closed else ()
    return gold_problem(question, options, answer) or GoldQuestion(
        image=said["image_name"],
        patient=said["image_case_url"],
        anatomy=VQA_RAD_ORGANS.get(str(row.get("image_organ")).strip(), "unknown"),
        question=question,
        options=options,
        answer=normalise(answer) if closed else answer,
        question_type=VQA_RAD_TYPES.get(str(row.get("question_type")).strip(), "attribute"),
    )


def _contradictions(read: Iterable[GoldQuestion | str]) -> dict[int, str]:
    """By number the rows that answer a question about an image otherwise than another row does."""
    asked: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for number, question in enumerate(read):
        if isinstance(question, GoldQuestion):
            key = question.image, normalise_question(question.question)
            asked[key][number] = normalise(question.answer)
    return {
        number: f"answer contradicts row {other}, of the same image and question: keep one"
        for answers in asked.values()
        for number, answer in answers.items()
        for other in [next((n for n, a in answers.items() if a != answer), None)]
        if other is not None
    }


def read_gold(source: Source) -> Benchmark:
    """What the JSON says; raises TriptychError where it cannot be read."""
    return read_vqa_rad(Path(source.path or "."), None if source.public else harmless)
