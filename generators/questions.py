"""The question bank: what can be asked of a phantom, and the exact answer to each question.

The curriculum of the tiny VLM, the simulated expert and the purity audit all stand on this file.
A generated question is free text; `kind_of` recognises it again, and `answer_of` gives its truth.
Question types are OmniMedVQA's: modality, anatomy, disease, grading and (other) attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from generators.phantoms.base import SIZES, Truth

MODALITIES = ("CT", "MR", "X-ray", "ultrasound")
QUESTION_TYPES = ("modality", "anatomy", "disease", "grading", "attribute")
DIFFICULTIES = ("easy", "medium", "hard")
ANSWER_FORMATS = ("closed", "choice", "open")
PROMPT_STYLES = ("direct", "step", "meta")
FINDINGS = {
    "CT": ("hemorrhage", "infarct"),
    "MR": ("tumor", "infarct", "plaque"),
    "X-ray": ("nodule", "effusion", "pneumothorax"),
    "ultrasound": ("cyst", "solid mass"),
}
ANATOMIES = ("head", "brain", "chest", "breast", "abdomen", "hand")
SEQUENCES = ("T1", "T2", "FLAIR")
COUNTS = ("1", "2", "3", "4")
_OPTIONS_BY_DIFFICULTY = {"easy": 2, "medium": 3, "hard": 4}

# kind -> (question type, templates)
TEMPLATES: dict[str, tuple[str, tuple[str, ...]]] = {
    "modality": ("modality", ("Which imaging modality is this?", "How was this image taken?")),
    "anatomy": ("anatomy", ("Which body part is shown?", "What anatomy does the image show?")),
    "presence": ("disease", ("Is there {a} {f}?", "Does the image show {a} {f}?")),
    "finding": ("disease", ("Which finding is shown?", "What is the diagnosis?")),
    "size": ("grading", ("How large is the {f}?", "How large is the lesion?")),
    "larger": ("grading", ("Is the {f} larger than small?", "Is the lesion larger than small?")),
    "side": ("attribute", ("On which side is the {f}?", "On which side is the lesion?")),
    "count": ("attribute", ("How many lesions are there?", "Count the lesions.")),
    "several": ("attribute", ("Is there more than one lesion?",)),
    "sequence": ("attribute", ("Which MR sequence is this?",)),
}
CLOSED = {"presence", "larger", "several"}


@dataclass(frozen=True, slots=True)
class QA:
    """A question with its options (empty: open) and its true answer."""

    kind: str
    question: str
    options: tuple[str, ...]
    answer: str

    @property
    def question_type(self) -> str:
        return TEMPLATES[self.kind][0]

    @property
    def answer_format(self) -> str:
        return "closed" if self.kind in CLOSED else "choice" if self.options else "open"


@cache
def _index() -> dict[str, tuple[str, str | None]]:
    every = sorted({f for findings in FINDINGS.values() for f in findings})
    index: dict[str, tuple[str, str | None]] = {}
    for kind, (_, templates) in TEMPLATES.items():
        for template in templates:
            for finding in every if "{f}" in template else [None]:
                index[_fill(template, finding or "")] = (kind, finding)
    return index


def _fill(template: str, finding: str) -> str:
    return template.format(f=finding, a="an" if finding[:1] in tuple("aeiou") else "a")


def kind_of(question: str) -> tuple[str, str | None] | None:
    """The kind of a question of the bank and the finding it names; None for any other text."""
    return _index().get(question.strip())


def answer_of(truth: Truth, question: str) -> str | None:
    """The true answer, or None where the question is not of the bank or has no answer here.

    Asking for the side of a finding that is not there has no answer: a false premise is a mistake.
    """
    known = kind_of(question)
    if known is None:
        return None
    kind, finding = known
    present = truth.finding != "none"
    if kind == "modality":
        return truth.modality
    if kind == "anatomy":
        return truth.anatomy
    if kind == "presence":
        return "yes" if truth.finding == finding else "no"
    if kind == "finding":
        return truth.finding
    if kind == "sequence":
        return truth.attributes.get("sequence")
    if not present or (finding is not None and finding != truth.finding):
        return None
    if kind == "several":
        return "yes" if truth.count > 1 else "no"
    if kind == "count":
        return str(truth.count)
    if kind == "larger":
        return "no" if truth.size == "small" else "yes"
    return truth.size if kind == "size" else truth.side


def askable(truth: Truth, question_type: str) -> list[str]:
    """The kinds of one question type that have an answer on this image."""
    kinds = [kind for kind, (qtype, _) in TEMPLATES.items() if qtype == question_type]
    present = truth.finding != "none"
    absent_ok = {"modality", "anatomy", "presence", "finding"}
    return [
        kind
        for kind in kinds
        if (kind in absent_ok or present or kind == "sequence")
        and (kind != "sequence" or "sequence" in truth.attributes)
    ]


def _candidates(truth: Truth, kind: str) -> tuple[str, ...]:
    if kind in CLOSED:
        return ("yes", "no")
    if kind == "modality":
        return MODALITIES
    if kind == "anatomy":
        # "head" and "brain" are both true of a head image; never offer one against the other.
        other = {"brain": "head"}.get(truth.anatomy, "brain")
        return tuple(a for a in ANATOMIES if a != other)
    if kind == "finding":
        return ("none", *FINDINGS[truth.modality])
    return {"sequence": SEQUENCES, "size": SIZES, "side": ("left", "right"), "count": COUNTS}[kind]


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
        others = [f for f in FINDINGS[truth.modality] if f != truth.finding]
        finding = others[rng.integers(len(others))]
    question = _fill(template, finding)
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
    candidates = _candidates(truth, kind)
    wrong = [c for c in candidates if c != answer]
    rng.shuffle(wrong)
    options = [answer, *wrong[: _OPTIONS_BY_DIFFICULTY[difficulty] - 1]]
    rng.shuffle(options)
    return tuple(options)


def wrong_answer(truth: Truth, qa: QA, rng: np.random.Generator) -> str:
    """A plausible wrong answer of the right type."""
    pool = [o for o in (qa.options or _candidates(truth, qa.kind)) if o != qa.answer]
    return str(pool[rng.integers(len(pool))])


def describe(truth: Truth) -> str:
    """A one-sentence report: modality, anatomy, count, size, finding and side."""
    sequence = truth.attributes.get("sequence")
    head = f"{truth.modality} {truth.anatomy}" + (f" {sequence}" if sequence else "")
    if truth.finding == "none":
        return f"{head}: none."
    return f"{head}: {truth.count} {truth.size} {truth.finding} {truth.side}."


def rationale(truth: Truth, style: str, rng: np.random.Generator) -> str:
    """What an expert would write before the answer in a prompt style; empty for `direct`."""
    if style == "direct":
        return ""
    if style == "step":
        return describe(truth)
    other = corrupt(truth, rng)
    return f"{describe(truth)} Not {other.finding if other.finding != truth.finding else 'sure'}."


def corrupt(truth: Truth, rng: np.random.Generator) -> Truth:
    """The truth of a different image of the same modality: one to three fields changed."""
    finding, side, count, size = truth.finding, truth.side, truth.count, truth.size
    others = [f for f in ("none", *FINDINGS[truth.modality]) if f != finding]
    which = rng.integers(4) if finding != "none" else 0
    if which == 0:
        finding = others[rng.integers(len(others))]
        if finding != "none" and side is None:
            side, size = ("left", "right")[rng.integers(2)], SIZES[rng.integers(3)]
            count = int(rng.integers(1, 4))
    elif which == 1:
        side = "left" if side == "right" else "right"
    elif which == 2:
        count = int(rng.choice([c for c in range(1, 5) if c != count]))
    else:
        size = str(rng.choice([s for s in SIZES if s != size]))
    if finding == "none":
        side, count, size = None, 0, None
    return Truth(
        truth.modality, truth.anatomy, finding, side, count, size, attributes=truth.attributes
    )
