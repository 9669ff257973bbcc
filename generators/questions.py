"""The question bank: what can be asked of a phantom, and the exact answer to each question.

The curriculum of the tiny VLM, the simulated expert and the purity audit all stand on this file.
A generated question is free text; `kind_of` recognises it again, and `answer_of` gives its truth.
Question types are OmniMedVQA's: modality, anatomy, disease, grading and (other) attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from engine.answers import is_correct
from generators.phantoms.base import SIZES, Truth

QUESTION_TYPES = ("modality", "anatomy", "disease", "grading", "attribute")
DIFFICULTIES = ("easy", "medium", "hard")
ANSWER_FORMATS = ("closed", "choice", "open")
PROMPT_STYLES = ("direct", "step", "meta")
_OPTIONS_BY_DIFFICULTY = {"easy": 2, "medium": 3, "hard": 4}

MODALITIES = ("CT", "MR", "X-ray", "ultrasound", "fundus", "OCT", "dermoscopy", "histology")
RADIOLOGY = MODALITIES[:4]  # these are set against each other only
# What else may be offered as a body part, by the one that is shown; never another that is true too.
_BODY = ("head", "brain", "chest", "breast", "abdomen", "hand")
_WITHOUT_BRAIN = tuple(a for a in _BODY if a != "brain")
ANATOMIES = {
    **dict.fromkeys(("head", "chest", "breast", "abdomen"), _WITHOUT_BRAIN),
    "brain": tuple(a for a in _BODY if a != "head"),
    "eye": ("eye", "skin", "colon", "chest", "breast", "hand"),
    "skin": ("skin", "eye", "brain", "colon"),
    "colon": ("colon", "skin", "eye", "brain", "breast"),
}
SEQUENCES = ("T1", "T2", "FLAIR")
SIDES = ("left", "right")
COUNTS = ("1", "2", "3", "4")
EACH = ("side", "count", "size")  # what can be told of a lesion
# kind of phantom -> its findings -> what can be told of each
SUBJECTS: dict[str, dict[str, tuple[str, ...]]] = {
    "CT": dict.fromkeys(("hemorrhage", "infarct"), EACH),
    "CT-chest": dict.fromkeys(("nodule", "consolidation", "effusion", "pneumothorax"), EACH),
    "CT-abdomen": {
        "liver metastasis": ("count", "size"),
        **dict.fromkeys(("kidney cyst", "kidney stone", "hydronephrosis"), EACH),
    },
    "MR": dict.fromkeys(("tumor", "infarct", "plaque"), EACH),
    "X-ray": dict.fromkeys(("nodule", "effusion", "pneumothorax"), EACH),
    "ultrasound": dict.fromkeys(("cyst", "solid mass"), EACH),
    "fundus": dict.fromkeys(
        ("diabetic retinopathy", "macular degeneration", "vein occlusion", "glaucoma"), ()
    ),
    "OCT": {
        **dict.fromkeys(("macular edema", "subretinal fluid", "drusen"), ("count", "size")),
        "epiretinal membrane": (),
    },
    "dermoscopy": dict.fromkeys(
        ("nevus", "melanoma", "seborrheic keratosis", "basal cell carcinoma"), ("size",)
    ),
    "histology": dict.fromkeys(("adenocarcinoma", "adenoma", "colitis"), ()),
}
FINDINGS = {kind: tuple(findings) for kind, findings in SUBJECTS.items()}
NO_ARTICLE = {
    "diabetic retinopathy", "macular degeneration", "vein occlusion", "glaucoma", "macular edema",
    "subretinal fluid", "drusen", "adenocarcinoma", "colitis", "hydronephrosis", "consolidation",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something else to ask of an image: the values it may take, told in a report by `phrase`.

    `of` gives the values by finding, for what only some findings have; empty: every image has it.
    """

    question_type: str
    templates: tuple[str, ...]
    values: tuple[str, ...]
    phrase: str = "{}"
    of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def allowed(self, finding: str) -> tuple[str, ...]:
        """The values it can have beside a finding, none where it does not exist."""
        return self.of.get(finding, ()) if self.of else self.values


_SEVERITY = ("mild", "moderate", "severe")
_DIFFERENTIATION = tuple(f"{how} differentiated" for how in ("well", "moderately", "poorly"))
_REGULARITY = ("regular", "irregular")
_BENIGN_OR_NOT = {
    **dict.fromkeys(("nevus", "seborrheic keratosis"), ("benign",)),
    **dict.fromkeys(("melanoma", "basal cell carcinoma"), ("malignant",)),
}
ATTRIBUTES: dict[str, Attribute] = {
    "sequence": Attribute("attribute", ("Which MR sequence is this?",), SEQUENCES),
    "contrast": Attribute(
        "attribute", ("Is the CT enhanced or unenhanced?",), ("enhanced", "unenhanced")
    ),
    "margin": Attribute(
        "attribute",
        ("What margin does the nodule have?",),
        ("smooth", "spiculated"),
        of={"nodule": ("smooth", "spiculated")},
    ),
    "eye": Attribute("attribute", ("Which eye is this?",), SIDES, "{}"),
    "cup_disc": Attribute(
        "attribute", ("What is the cup-to-disc ratio?",), ("0.2", "0.4", "0.6", "0.8"), "cup {}",
        {**dict.fromkeys(("none", *FINDINGS["fundus"][:3]), ("0.2", "0.4")),
         "glaucoma": ("0.6", "0.8")},
    ),
    "quadrant": Attribute(
        "attribute",
        ("Is the superior or the inferior branch occluded?",),
        ("superior", "inferior"),
        of={"vein occlusion": ("superior", "inferior")},
    ),
    "severity": Attribute(
        "grading",
        ("How severe is the disease?", "What is the grade of severity?"),
        _SEVERITY,
        of=dict.fromkeys(("diabetic retinopathy", "macular degeneration", "colitis"), _SEVERITY),
    ),
    "thickness": Attribute(
        "grading", ("How thick is the central retina?",), ("thin", "normal", "thickened")
    ),
    "vitreous": Attribute(
        "attribute",
        ("Is the vitreous attached or detached?",),
        ("attached", "detached"),
        "vitreous {}",
    ),
    "malignancy": Attribute(
        "grading",
        ("Is the lesion benign or malignant?",),
        ("benign", "malignant"),
        of=_BENIGN_OR_NOT,
    ),
    "border": Attribute(
        "attribute",
        ("Is the border of the lesion regular or irregular?",),
        _REGULARITY,
        "{} border",
        dict.fromkeys(FINDINGS["dermoscopy"], _REGULARITY),
    ),
    "colours": Attribute(
        "attribute",
        ("How many colours does the lesion have?",),
        ("1", "2", "3", "4", "5"),
        "{} colours",
        {"nevus": ("1", "2", "3"), "melanoma": ("2", "3", "4", "5"),
         "seborrheic keratosis": ("1", "2"), "basal cell carcinoma": ("1", "2", "3")},
    ),
    "structure": Attribute(
        "attribute",
        ("Which structure does the lesion show?",),
        ("pigment network", "globules", "streaks", "milia-like cysts", "arborizing vessels"),
        of={"nevus": ("pigment network", "globules"),
            "melanoma": ("pigment network", "globules", "streaks"),
            "seborrheic keratosis": ("milia-like cysts",),
            "basal cell carcinoma": ("arborizing vessels",)},
    ),
    "hair": Attribute("attribute", ("Is hair in view?",), ("yes", "no"), "hair {}"),
    "differentiation": Attribute(
        "grading",
        ("How well is the tumor differentiated?",),
        _DIFFERENTIATION,
        of={"adenocarcinoma": _DIFFERENTIATION},
    ),
    "dysplasia": Attribute(
        "grading",
        ("Is the dysplasia low grade or high grade?",),
        ("low grade", "high grade"),
        of={"adenoma": ("low grade", "high grade")},
    ),
    "extent": Attribute(
        "attribute",
        ("Is the disease focal or diffuse?",),
        ("focal", "diffuse"),
        of=dict.fromkeys(FINDINGS["histology"], ("focal", "diffuse")),
    ),
    "cellularity": Attribute(
        "grading", ("How dense are the nuclei?",), ("sparse", "moderate", "dense"), "{} nuclei"
    ),
}  # fmt: skip

# kind of phantom -> its attributes
SHOWN: dict[str, tuple[str, ...]] = {
    "CT-chest": ("contrast", "margin"),
    "CT-abdomen": ("contrast",),
    "MR": ("sequence",),
    "fundus": ("eye", "cup_disc", "quadrant", "severity"),
    "OCT": ("thickness", "vitreous"),
    "dermoscopy": ("malignancy", "border", "colours", "structure", "hair"),
    "histology": ("severity", "differentiation", "dysplasia", "extent", "cellularity"),
}

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
    **{kind: (a.question_type, a.templates) for kind, a in ATTRIBUTES.items()},
}
CLOSED = {"presence", "larger", "several", "hair"}
# What a question about the lesion needs to be told of it.
_NEEDS = {"size": "size", "larger": "size", "side": "side", "count": "count", "several": "count"}


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
    if finding in NO_ARTICLE and "{f}" in template:
        verb = "Are" if finding == "drusen" else "Is"
        return template.replace("{a} ", "").replace("Is there", f"{verb} there").format(f=finding)
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
    if kind == "modality":
        return truth.modality
    if kind == "anatomy":
        return truth.anatomy
    if kind == "presence":
        return "yes" if truth.finding == finding else "no"
    if kind == "finding":
        return truth.finding
    if kind in ATTRIBUTES:
        return truth.attributes.get(kind)
    if kind not in _applicable(truth) or (finding is not None and finding != truth.finding):
        return None
    if kind == "several":
        return "yes" if truth.count > 1 else "no"
    if kind == "count":
        return str(truth.count)
    if kind == "larger":
        return "no" if truth.size == "small" else "yes"
    return truth.size if kind == "size" else truth.side


def _told_of_lesion(truth: Truth) -> tuple[str, ...]:
    return SUBJECTS[truth.kind].get(truth.finding, ())


def _applicable(truth: Truth) -> set[str]:
    """The kinds of questions about a lesion that this image's has an answer to."""
    return {kind for kind, need in _NEEDS.items() if need in _told_of_lesion(truth)}


def askable(truth: Truth, question_type: str) -> list[str]:
    """The kinds of one question type that have an answer on this image."""
    able = {"modality", "anatomy", "presence", "finding", *truth.attributes} | _applicable(truth)
    return [k for k, (qtype, _) in TEMPLATES.items() if qtype == question_type and k in able]


def _candidates(truth: Truth, kind: str) -> tuple[str, ...]:
    if kind in CLOSED:
        return ("yes", "no")
    if kind in ATTRIBUTES:
        return ATTRIBUTES[kind].values
    if kind == "modality":
        return RADIOLOGY if truth.kind in RADIOLOGY else MODALITIES
    if kind == "anatomy":
        return ANATOMIES[truth.anatomy]
    if kind == "finding":
        return ("none", *FINDINGS[truth.kind])
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
        others = [f for f in FINDINGS[truth.kind] if f != truth.finding]
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


def difficulty_of(qa: QA) -> str | None:
    """The difficulty that a question's number of options tells; None where it tells none.

    Yes or no is two options in any case, and an open question has none to count.
    """
    told = {n: name for name, n in _OPTIONS_BY_DIFFICULTY.items()}
    return told.get(len(qa.options)) if qa.answer_format == "choice" else None


def wrong_answer(truth: Truth, qa: QA, rng: np.random.Generator) -> str:
    """A plausible wrong answer of the right type."""
    pool = [
        option
        for option in qa.options or _candidates(truth, qa.kind)
        if not is_correct(option, qa.answer, qa.options)
    ]
    return str(pool[rng.integers(len(pool))])


def describe(truth: Truth) -> str:
    """A one-sentence report: modality, anatomy, count, size, finding and side, attributes."""
    known = {k: v for k, v in truth.attributes.items() if k in ATTRIBUTES}
    image = [ATTRIBUTES[k].phrase.format(v) for k, v in known.items() if not ATTRIBUTES[k].of]
    lesion = [ATTRIBUTES[k].phrase.format(v) for k, v in known.items() if ATTRIBUTES[k].of]
    values = {"count": str(truth.count), "size": truth.size, "side": truth.side}
    told = _told_of_lesion(truth)
    before = [values[f] or "" for f in ("count", "size") if f in told]
    after = [values["side"] or ""] if "side" in told else []
    shown = ", ".join([" ".join([*before, truth.finding, *after]), *lesion])
    return f"{' '.join([truth.modality, truth.anatomy, *image])}: {shown}."


def rationale(truth: Truth, style: str, rng: np.random.Generator) -> str:
    """What an expert would write before the answer in a prompt style; empty for `direct`."""
    if style == "direct":
        return ""
    if style == "step":
        return describe(truth)
    other = corrupt(truth, rng)
    return f"{describe(truth)} Not {other.finding if other.finding != truth.finding else 'sure'}."


def corrupt(truth: Truth, rng: np.random.Generator) -> Truth:
    """The truth of a different image of the same kind: the finding, or one thing told of it."""
    lesion: dict[str, Any] = {"side": truth.side, "count": truth.count, "size": truth.size}
    attributes, finding = dict(truth.attributes), truth.finding
    own = [k for k in attributes if _alternatives(k, truth)]
    fields = ["finding", *_told_of_lesion(truth), *own]
    which = fields[rng.integers(len(fields))] if finding != "none" else "finding"
    if which == "finding":
        others = [f for f in ("none", *FINDINGS[truth.kind]) if f != finding]
        finding = others[rng.integers(len(others))]
        attributes = _suited(truth, finding, rng)
    elif which == "side":
        lesion["side"] = "left" if truth.side == "right" else "right"
    elif which == "count":
        lesion["count"] = int(rng.choice([c for c in range(1, 5) if c != truth.count]))
    elif which == "size":
        lesion["size"] = str(rng.choice([s for s in SIZES if s != truth.size]))
    else:
        attributes[which] = str(rng.choice(_alternatives(which, truth)))
    told = SUBJECTS[truth.kind].get(finding, ())
    for name, draw in (("side", lambda: SIDES[rng.integers(2)]),
                       ("size", lambda: SIZES[rng.integers(3)]),
                       ("count", lambda: int(rng.integers(1, 4)))):  # fmt: skip
        if name not in told:
            lesion[name] = 0 if name == "count" else None
        elif not lesion[name]:
            lesion[name] = draw()
    return Truth(truth.modality, truth.anatomy, finding, **lesion, attributes=attributes)


def _alternatives(kind: str, truth: Truth) -> list[str]:
    """Other values that an attribute of the finding itself could have."""
    attribute = ATTRIBUTES.get(kind)
    if attribute is None or not attribute.of:
        return []
    return [v for v in attribute.allowed(truth.finding) if v != truth.attributes[kind]]


def _suited(truth: Truth, finding: str, rng: np.random.Generator) -> dict[str, str]:
    """The attributes of an image that shows another finding instead."""
    attributes = dict(truth.attributes)
    for kind in SHOWN.get(truth.kind, ()):
        allowed = ATTRIBUTES[kind].allowed(finding)
        if not allowed:
            attributes.pop(kind, None)
        elif ATTRIBUTES[kind].of and attributes.get(kind) not in allowed:
            attributes[kind] = allowed[rng.integers(len(allowed))]
    return attributes
