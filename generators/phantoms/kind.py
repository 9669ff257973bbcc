"""What a module that draws phantoms says of them: their name, what is found, what can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import ndimage

from generators.phantoms.asked import Asked
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


@dataclass(frozen=True, slots=True)
class Spill:
    """How far beyond its mask a finding changes an image, from 128 px on.

    `reach` is in image widths, `wider` of findings that reach further; `columns` says whether it
    changes all "below" it too, or all above and "below" ("all"). Beyond that, pixels are the same,
    or differ as displayed by at most `levels` of 255. `why` names the physics.
    """

    reach: float = 0.08
    wider: Mapping[str, float] = field(default_factory=dict)
    columns: Literal["", "below", "all"] = ""
    levels: int = 0
    why: str = "partial volume at its edge"

    def region(self, mask: np.ndarray, finding: str) -> np.ndarray:
        """Where a finding with a mask, (H, W) bool, may change an image."""
        if not mask.any():
            return mask
        if self.columns == "below":
            mask = np.logical_or.accumulate(mask, axis=0)
        elif self.columns == "all":
            mask = np.broadcast_to(mask.any(0), mask.shape)
        far = ndimage.distance_transform_edt(~mask)
        return np.asarray(far <= self.wider.get(finding, self.reach) * len(mask))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of phantom; each module of `generators.phantoms.kinds` declares one as `KIND`.

    `draw(seed, size, difficulty, finding, asked)` gives a phantom of size x size pixels, the same
    for the same arguments: `difficulty` in [0, 1], `finding` one of `findings`, "none", or None for
    any. What is `asked` besides and not heeded is looked for over seeds.
    """

    name: str  # in configurations and paths: the modality, or modality-body part
    modality: str  # this and the body part are names of `engine.imaging.anatomy`
    anatomy: str
    dicom: str  # DICOM's code of the modality, of which `generators.phantoms.dicom` knows the IOD
    draw: Callable[[int, int, float, str | None, Asked], Phantom]
    findings: Mapping[str, tuple[str, ...]]  # what can be told of each, out of `EACH`
    attributes: Mapping[str, Attribute] = field(default_factory=dict)  # what else can be asked
    spill: Spill = Spill()
    no_article: frozenset[str] = frozenset()  # findings that take none
    plural: frozenset[str] = frozenset()  # findings that are asked about with "are"
