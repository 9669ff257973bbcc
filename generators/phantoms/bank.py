"""The question bank: what can be asked of a phantom, in which words, with which answers.

The curriculum of the tiny VLM, the simulated expert and the precision of labels all stand on it.
A generated question is free text; `kind_of` recognises it again, and `oracle.answer_of` gives its
truth. Question types are OmniMedVQA's: modality, anatomy, disease, grading and (other) attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from generators.phantoms.base import Truth

QUESTION_TYPES = ("modality", "anatomy", "disease", "grading", "attribute")


DIFFICULTIES = ("easy", "medium", "hard")


ANSWER_FORMATS = ("closed", "choice", "open")


PROMPT_STYLES = ("direct", "step", "meta")


OPTIONS_BY_DIFFICULTY = {"easy": 2, "medium": 3, "hard": 4}


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
                index[fill(template, finding or "")] = (kind, finding)
    return index


def fill(template: str, finding: str) -> str:
    """A template with a finding in its place, its article and verb fitting."""
    if finding in NO_ARTICLE and "{f}" in template:
        verb = "Are" if finding == "drusen" else "Is"
        return template.replace("{a} ", "").replace("Is there", f"{verb} there").format(f=finding)
    return template.format(f=finding, a="an" if finding[:1] in tuple("aeiou") else "a")


def kind_of(question: str) -> tuple[str, str | None] | None:
    """The kind of a question of the bank and the finding it names; None for any other text."""
    return _index().get(question.strip())


def told_of_lesion(truth: Truth) -> tuple[str, ...]:
    """What can be told of the finding that the image shows: of side, count and size."""
    return SUBJECTS[truth.kind].get(truth.finding, ())


def applicable(truth: Truth) -> set[str]:
    """The kinds of questions about a lesion that this image's has an answer to."""
    return {kind for kind, need in _NEEDS.items() if need in told_of_lesion(truth)}
