"""The question bank: what can be asked of a phantom, in which words, with which answers.

The curriculum of the tiny VLM, the simulated expert and the precision of labels all stand on it.
A generated question is free text; `kind_of` recognises it again, and `oracle.answer_of` gives its
truth. Question types are OmniMedVQA's: modality, anatomy, disease, grading and (other) attribute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from generators.phantoms.base import Truth
from generators.phantoms.kind import Attribute
from generators.phantoms.kinds import KINDS

QUESTION_TYPES = ("modality", "anatomy", "disease", "grading", "attribute")


DIFFICULTIES = ("easy", "medium", "hard")


ANSWER_FORMATS = ("closed", "choice", "open")


PROMPT_STYLES = ("direct", "step", "meta")


OPTIONS_BY_DIFFICULTY = {"easy": 2, "medium": 3, "hard": 4}


MODALITIES = tuple(dict.fromkeys(kind.modality for kind in KINDS.values()))


RADIOLOGY = ("CT", "MR", "X-ray", "ultrasound")  # these are set against each other only


# What else may be offered as a body part, by the one that is shown; never another that is true too.
_BODY = ("head", "brain", "chest", "breast", "abdomen", "hand")


_WITHOUT_BRAIN = tuple(a for a in _BODY if a != "brain")


_INSTEAD = {
    **dict.fromkeys(("head", "chest", "breast", "abdomen"), _WITHOUT_BRAIN),
    "brain": tuple(a for a in _BODY if a != "head"),
    "eye": ("eye", "skin", "colon", "chest", "breast", "hand"),
    "skin": ("skin", "eye", "brain", "colon"),
    "colon": ("colon", "skin", "eye", "brain", "breast"),
}


ANATOMIES = {
    kind.anatomy: _INSTEAD.get(kind.anatomy, (kind.anatomy, *_WITHOUT_BRAIN))
    for kind in KINDS.values()
}


SIDES = ("left", "right")


COUNTS = ("1", "2", "3", "4")


# kind of phantom -> its findings -> what can be told of each
SUBJECTS = {name: kind.findings for name, kind in KINDS.items()}


FINDINGS = {name: tuple(kind.findings) for name, kind in KINDS.items()}


NO_ARTICLE = frozenset[str]().union(*(kind.no_article for kind in KINDS.values()))


PLURAL = frozenset[str]().union(*(kind.plural for kind in KINDS.values()))


def _attributes() -> dict[str, Attribute]:
    """What can be asked of some kind; of one name the words are the same, the findings joined."""
    found: dict[str, Attribute] = {}
    for kind in KINDS.values():
        for name, attribute in kind.attributes.items():
            known = found.setdefault(name, attribute)
            if replace(known, of={}) != replace(attribute, of={}):
                raise ValueError(f"{kind.name} asks about {name} in words of its own")
            found[name] = replace(known, of={**known.of, **attribute.of})
    return found


ATTRIBUTES = _attributes()


# kind of phantom -> its attributes
SHOWN = {name: tuple(kind.attributes) for name, kind in KINDS.items() if kind.attributes}


_NAMES = {(kind.modality, kind.anatomy): name for name, kind in KINDS.items()}


def shown_kind(truth: Truth) -> str:
    """The name of the kind that draws images of a truth's modality and body part."""
    return _NAMES[truth.modality, truth.anatomy]


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
        verb = "Are" if finding in PLURAL else "Is"
        return template.replace("{a} ", "").replace("Is there", f"{verb} there").format(f=finding)
    return template.format(f=finding, a="an" if finding[:1] in tuple("aeiou") else "a")


def kind_of(question: str) -> tuple[str, str | None] | None:
    """The kind of a question of the bank and the finding it names; None for any other text."""
    return _index().get(question.strip())


def told_of_lesion(truth: Truth) -> tuple[str, ...]:
    """What can be told of the finding that the image shows: of side, count and size."""
    return SUBJECTS[shown_kind(truth)].get(truth.finding, ())


def applicable(truth: Truth) -> set[str]:
    """The kinds of questions about a lesion that this image's has an answer to."""
    return {kind for kind, need in _NEEDS.items() if need in told_of_lesion(truth)}
