"""True questions about a phantom, composed from the bank, with options and wrong answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.answers.matching import is_correct
from generators.phantoms.bank import (
    ANATOMIES,
    ANSWER_FORMATS,
    ATTRIBUTES,
    CLOSED,
    COUNTS,
    DIFFICULTIES,
    FINDINGS,
    MODALITIES,
    OPTIONS_BY_DIFFICULTY,
    QA,
    QUESTION_TYPES,
    RADIOLOGY,
    SIDES,
    TEMPLATES,
    applicable,
    fill,
    shown_kind,
)
from generators.phantoms.base import SIZES, Truth
from generators.phantoms.oracle import answer_of


def askable(truth: Truth, question_type: str) -> list[str]:
    """The kinds of one question type that have an answer on this image."""
    able = {"modality", "anatomy", "presence", "finding", *truth.attributes} | applicable(truth)
    return [k for k, (qtype, _) in TEMPLATES.items() if qtype == question_type and k in able]


def possible_answers(truth: Truth, kind: str) -> tuple[str, ...]:
    """Every answer that a question of a kind may have on an image of this kind."""
    if kind in CLOSED:
        return ("yes", "no")
    if kind in ATTRIBUTES:
        return ATTRIBUTES[kind].values
    if kind == "modality":
        return RADIOLOGY if shown_kind(truth) in RADIOLOGY else MODALITIES
    if kind == "anatomy":
        return ANATOMIES[truth.anatomy]
    if kind == "finding":
        return ("none", *FINDINGS[shown_kind(truth)])
    return {"size": SIZES, "side": SIDES, "count": COUNTS}[kind]


def compose(
    truth: Truth,
    question_type: str,
    rng: np.random.Generator,
    difficulty: str = "hard",
    answer_format: str | None = None,
) -> QA | None:
    """Write one true question of a type about an image, or None where none can be asked.

    `difficulty` is the number of options (2, 3, 4); `answer_format` None lets the kind decide.
    """
    kinds = askable(truth, question_type)
    if answer_format is not None:
        fitting = [k for k in kinds if (k in CLOSED) == (answer_format == "closed")]
        kinds = fitting or kinds
    if not kinds:
        return None
    kind = kinds[rng.integers(len(kinds))]
    templates = TEMPLATES[kind][1]
    template = templates[rng.integers(len(templates))]
    finding = truth.finding
    if kind == "presence" and (finding == "none" or rng.random() < 0.5):
        others = [f for f in FINDINGS[shown_kind(truth)] if f != truth.finding]
        finding = others[rng.integers(len(others))] if others else finding
    question = fill(template, finding)
    answer = answer_of(truth, question)
    if answer is None:
        return None
    if answer_format == "open" and kind not in CLOSED:
        return QA(kind, question, (), answer)
    return QA(kind, question, options_for(truth, kind, answer, rng, difficulty), answer)


TYPE_SHARES = (0.06, 0.06, 0.3, 0.26, 0.32)


def compose_any(
    truth: Truth, rng: np.random.Generator, types: Sequence[str] = QUESTION_TYPES
) -> tuple[dict[str, str], QA]:
    """What was asked for, drawn at random (the easy types seldom), and a true question.

    It is of the type asked for where the image has such a question, else of type disease: asked to
    grade what a normal image does not show, an expert asks what can be asked. Without disease among
    `types` it draws again.
    """
    shares = np.array([TYPE_SHARES[QUESTION_TYPES.index(t)] for t in types])
    while True:
        asked = {
            "modality": truth.modality,
            "question_type": str(rng.choice(list(types), p=shares / shares.sum())),
            "difficulty": str(rng.choice(DIFFICULTIES)),
            "answer_format": str(rng.choice(ANSWER_FORMATS, p=[0.3, 0.6, 0.1])),
        }
        how = (rng, asked["difficulty"], asked["answer_format"])
        qa = compose(truth, asked["question_type"], *how)
        if qa is None and "disease" in types:
            qa = compose(truth, "disease", *how)
        if qa:
            return asked | {"answer_format": qa.answer_format}, qa


def options_for(
    truth: Truth, kind: str, answer: str, rng: np.random.Generator, difficulty: str
) -> tuple[str, ...]:
    """The answer among distractors of its own type, shuffled."""
    candidates = possible_answers(truth, kind)
    wrong = [c for c in candidates if c != answer]
    rng.shuffle(wrong)
    options = [answer, *wrong[: OPTIONS_BY_DIFFICULTY[difficulty] - 1]]
    rng.shuffle(options)
    return tuple(options)


def difficulty_of(qa: QA) -> str | None:
    """The difficulty that a question's number of options tells; None where it tells none.

    Yes or no is two options in any case, and an open question has none to count.
    """
    told = {n: name for name, n in OPTIONS_BY_DIFFICULTY.items()}
    return told.get(len(qa.options)) if qa.answer_format == "choice" else None


def wrong_answer(truth: Truth, qa: QA, rng: np.random.Generator) -> str:
    """A plausible wrong answer of the right type."""
    pool = [
        option
        for option in qa.options or possible_answers(truth, qa.kind)
        if not is_correct(option, qa.answer, qa.options)
    ]
    return str(pool[rng.integers(len(pool))])
