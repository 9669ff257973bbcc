"""A benchmark's questions and answers as they enter: published ones as they are, others cleaned.

A question or an answer says what it says or is not used: with a word masked it would ask or mean
something else. So a row of a hospital's own JSON of which anything would be masked
(`engine.imaging.reports`) is left out, and `questions-report.csv` names it, without its text.
"""

from __future__ import annotations

import csv
from collections import Counter
from functools import cache
from pathlib import Path

from engine.config import Source
from engine.hub.benchmarks import Question, load_vqa_rad
from engine.imaging.ingest import Rules
from engine.imaging.reports import harmless

REPORT = "questions-report.csv"
REASON = "{} has words or numbers that are not known to be harmless"


def gold_questions(source: Source) -> list[Question]:
    """The questions that may be used; raises TriptychError where the JSON cannot be read."""
    return [q for q in load_vqa_rad(Path(source.path or ".")) if source.public or not refusal(q)]


@cache
def refusal(question: Question) -> str:
    """Why a question of unpublished images is left out, "" where it may be used."""
    if not harmless(question.question):
        return REASON.format("the question")
    said = (question.answer, *question.options)
    return "" if all(map(harmless, said)) else REASON.format("the answer")


def report_questions(source: Source, rules: Rules, root: Path) -> int:
    """Write which questions are left out, by image and by their number there; how many they are.

    Of published images, of which none is left out, nothing is written.
    """
    if source.public:
        return 0
    numbers: Counter[str] = Counter()
    rows = []
    for question in load_vqa_rad(Path(source.path or ".")):
        numbers[question.image] += 1
        reason = refusal(question)
        if reason:
            name = rules.name(f"images/{question.image}")
            rows.append((name, numbers[question.image], reason))
    with (root / REPORT).open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("path", "question", "reason"), *rows])
    return len(rows)
