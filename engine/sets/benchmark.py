"""What a published benchmark says: its images, its questions, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoldQuestion:
    """One benchmark question; `options` is empty for open questions."""

    image: str  # file name
    patient: str
    anatomy: str
    question: str
    options: tuple[str, ...]
    answer: str
    question_type: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that was not used: its place as a JSON Pointer (RFC 6901), and why.

    `image` and `qid` are its image and its own id, empty where it has none.
    """

    place: str
    reason: str
    image: str
    qid: str


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What a benchmark's file says: of images, whatever became of their questions, and the rows."""

    file: str  # its name, empty where there is none
    images: list[tuple[str, str, str]]  # file name, patient, anatomy
    questions: list[GoldQuestion]
    left_out: list[LeftOut]


NOTHING = Benchmark("", [], [], [])
