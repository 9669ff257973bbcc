"""Readers of public VQA benchmarks, in the exact fields that they are published with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from engine.spelling import normalise
from engine.errors import TriptychError

VQA_RAD_ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}
# VQA-RAD's question types (Lau et al. 2018) in OmniMedVQA's five.
VQA_RAD_TYPES = {
    "MODALITY": "modality",
    "ORGAN": "anatomy",
    "PLANE": "anatomy",
    "PRES": "disease",
    "ABN": "disease",
    "SIZE": "grading",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One benchmark question; `options` is empty for open questions."""

    image: str  # file name
    patient: str
    anatomy: str
    question: str
    options: tuple[str, ...]
    answer: str
    question_type: str


def load_vqa_rad(folder: Path) -> list[Question]:
    """VQA-RAD's own JSON (`*.json` beside `images/`), one row a question, as published.

    Patients are MedPix cases (`image_case_url`). Raises TriptychError where the JSON is missing or
    lacks a field.
    """
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        raise TriptychError(f"{folder} must hold VQA-RAD's one JSON file beside images/")
    try:
        rows = json.loads(found[0].read_text(encoding="utf-8"))
        return [_vqa_rad(row) for row in rows if str(row["answer"]).strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise TriptychError(f"{found[0]} is not VQA-RAD's JSON: {error!r}") from None


def _vqa_rad(row: dict[str, object]) -> Question:
    answer = str(row["answer"]).strip()
    closed = normalise(answer) in ("yes", "no")
    return Question(
        image=str(row["image_name"]),
        patient=str(row["image_case_url"]),
        anatomy=VQA_RAD_ORGANS.get(str(row["image_organ"]).strip(), "unknown"),
        question=" ".join(str(row["question"]).split()),
        options=("yes", "no") if closed else (),
        answer=normalise(answer) if closed else answer,
        question_type=VQA_RAD_TYPES.get(str(row["question_type"]).strip(), "attribute"),
    )
