"""What a module that draws phantoms says of them: their name, what is found, what can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from generators.phantoms.base import Phantom

EACH = ("side", "count", "size")  # what can be told of a lesion
SEVERITY = ("mild", "moderate", "severe")


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something else to ask of an image: the values it may take, told in a report by `phrase`.

    `of` gives the values by finding, for what only some findings have; empty: every image has it.
    Kinds that have an attribute of one name ask about it in the same words.
    """

    question_type: str
    templates: tuple[str, ...]
    values: tuple[str, ...]
    phrase: str = "{}"
    of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def allowed(self, finding: str) -> tuple[str, ...]:
        """The values it can have beside a finding, none where it does not exist."""
        return self.of.get(finding, ()) if self.of else self.values


def severity(*findings: str) -> Attribute:
    """How severe these findings are."""
    templates = ("How severe is the disease?", "What is the grade of severity?")
    return Attribute("grading", templates, SEVERITY, of=dict.fromkeys(findings, SEVERITY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of phantom; each module of `generators.phantoms.kinds` declares one as `KIND`.

    `draw(seed, size, difficulty, finding)` gives a phantom of size x size pixels, the same for the
    same arguments: `difficulty` in [0, 1], `finding` one of `findings`, "none", or None for any.
    """

    name: str  # in configurations and paths: the modality, or modality-body part
    modality: str  # this and the body part are names of `engine.imaging.anatomy`
    anatomy: str
    dicom: str  # DICOM's code of the modality, of which `generators.phantoms.dicom` knows the IOD
    draw: Callable[[int, int, float, str | None], Phantom]
    findings: Mapping[str, tuple[str, ...]]  # what can be told of each, out of `EACH`
    attributes: Mapping[str, Attribute] = field(default_factory=dict)  # what else can be asked
    no_article: frozenset[str] = frozenset()  # findings that take none
    plural: frozenset[str] = frozenset()  # findings that are asked about with "are"
