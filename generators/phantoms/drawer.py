"""The drawer of phantoms: a layout is rendered, recounted from what was drawn, and honoured.

Finding, side, count, size and most attributes are asked of the kind (`generators.phantoms.asked`).
What follows from the rendering, such as a number of colours or a retina's thickness, is looked for
over seeds; and whatever was asked, what is returned has it by its truth, told from the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generators.layout import NO_FINDING, Drawn, Layout
from generators.phantoms import draw, to_display
from generators.phantoms.asked import Asked, CannotDraw
from generators.phantoms.bank import ATTRIBUTES, FINDINGS, SHOWN, SIDES, SUBJECTS
from generators.phantoms.base import GENERATOR, VERSION, Phantom, Truth
from generators.phantoms.dicom import write_dicom
from generators.phantoms.kinds import KINDS

TRIES = 60  # seeds that are looked at for what cannot be asked
LESION = ("side", "count", "size")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPhantom(Drawn):
    """The phantom itself, with its exact truth."""

    phantom: Phantom


class PhantomDrawer:
    """Draws phantoms; a `Drawer`."""

    def draw(self, layout: Layout, seed: int, size: int) -> DrawnPhantom:
        """A phantom that shows the layout. Raises CannotDraw with the reason in one line."""
        kind = kind_of(layout)
        why = refusal(layout)
        if why:
            raise CannotDraw(f"{layout}: {why}")
        asked = Asked(layout.side, layout.count, layout.size, layout.attributes)
        for place in range(TRIES):
            used = seed if not place else _seed(seed, place)
            try:
                phantom = draw(kind, used, size, layout.difficulty, layout.finding, asked)
            except CannotDraw as error:
                raise CannotDraw(f"{layout}: {error}") from None
            if not (why := unlike(layout, phantom.truth)):
                made = {"generator": GENERATOR, "version": VERSION, "layout": layout.to_dict()}
                return DrawnPhantom(
                    pixels=to_display(phantom),
                    mask=phantom.mask,
                    layout=layout,
                    provenance=made | {"seed": seed, "size": size},
                    phantom=phantom,
                )
        raise CannotDraw(f"{layout}: none of {TRIES} seeds shows it, of the last {why}")

    def write(self, layout: Layout, seed: int, size: int, path: Path, patient: str) -> DrawnPhantom:
        """The same as DICOM, with its truth beside it."""
        drawn = self.draw(layout, seed, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(drawn.phantom, path, patient, seed, drawn.provenance)
        return drawn


def _seed(seed: int, place: int) -> int:
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0]) >> 1


def kind_of(layout: Layout) -> str:
    """The name of the kind of phantoms that shows a layout's modality and body part."""
    for kind in KINDS.values():
        if (kind.modality, kind.anatomy) == (layout.modality, layout.anatomy):
            return kind.name
    known = ", ".join(f"{kind.modality} {kind.anatomy}" for kind in KINDS.values())
    raise CannotDraw(f"no phantom is drawn of {layout.modality} {layout.anatomy}, only of {known}")


def refusal(layout: Layout) -> str | None:
    """Why a layout cannot be drawn whatever the seed, None where nothing speaks against it."""
    kind, finding = kind_of(layout), layout.finding
    findings = (NO_FINDING, *FINDINGS[kind])
    if finding not in findings:
        return f"{finding} is none of its findings: {', '.join(findings)}"
    if not 0 <= layout.difficulty <= 1:
        return f"difficulty {layout.difficulty:g} is not from 0 to 1"
    told = SUBJECTS[kind].get(finding, ())
    for what in LESION:
        if getattr(layout, what) is not None and what not in told:
            return f"a {what} is not told of it"
    if layout.side not in (None, *SIDES):
        return f"side cannot be {layout.side}, only {', '.join(SIDES)}"
    for name, value in layout.attributes.items():
        known = ATTRIBUTES[name].allowed(finding) if name in SHOWN.get(kind, ()) else ()
        if value not in known:
            return f"{name} cannot be {value}" + (f", only {', '.join(known)}" if known else "")
    return None


def unlike(layout: Layout, truth: Truth) -> str | None:
    """In what an image differs from its layout, None where it shows it."""
    wanted = {"finding": layout.finding} | {n: getattr(layout, n) for n in LESION}
    for what, value in wanted.items():
        if value is not None and getattr(truth, what) != value:
            return f"{what} is {getattr(truth, what)}"
    for name, value in layout.attributes.items():
        if truth.attributes.get(name) != value:
            return f"{name} is {truth.attributes.get(name)}"
    return None
