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


def check_told(where: str, kinds: Iterable[str], private: bool) -> None:
    """Raise ValueError for what cannot be told, or would be told to a server that is not ours."""
    kinds = list(kinds)
    check_kinds(kinds)
    if kinds and not private:
        raise ValueError(
            f"{where}knowledge is private, and would be sent to a server: set "
            f"{where}backend.private=true if the server is yours and may be told it"
        )
