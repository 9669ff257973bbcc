"""What experts said, as rows, by hand."""

from __future__ import annotations

from typing import Any

from engine.records import Triplet, Verdict, content_id


def verdict(of: Triplet, said: str, reader: str = "a", **more: Any) -> Verdict:
    told: dict[str, Any] = {
        "item_id": "", "reasons": (), "correction": "", "comment": "", "at": "", "seconds": None,
        "stream": "informative", "round": 1, "repeat": False,
    }  # fmt: skip
    return Verdict(
        id=content_id(of.id, said, reader, str(more)), triplet_id=of.id, image_id=of.image_id,
        verdict=said, expert=reader, **told | more,
    )  # fmt: skip
