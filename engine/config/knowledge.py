"""What may be known of an image beside its pixels, by name."""

from __future__ import annotations

from collections.abc import Iterable

KINDS = ("report", "labels", "truth")


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise ValueError for a kind of knowledge that no image has."""
    for kind in kinds:
        if kind in KINDS:
            continue
        from engine.imaging.deidentify import KEPT, SEQUENCES  # reads DICOM's dictionary

        if kind not in KEPT or kind in SEQUENCES:
            raise ValueError(
                f"knowledge: {kind} is none of {', '.join(KINDS)} and no DICOM attribute that is "
                "kept, such as ViewPosition (engine/imaging/deidentify.py lists them)"
            )
