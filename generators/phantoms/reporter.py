"""What an expert would write about a phantom, and about one that is like it and is not it."""

from __future__ import annotations

from typing import Any

import numpy as np

from generators.phantoms.bank import (
    ATTRIBUTES,
    FINDINGS,
    SHOWN,
    SIDES,
    SUBJECTS,
    shown_kind,
    told_of_lesion,
)
from generators.phantoms.base import SIZES, Truth


def describe(truth: Truth) -> str:
    """A one-sentence report: modality, anatomy, count, size, finding and side, attributes."""
    known = {k: v for k, v in truth.attributes.items() if k in ATTRIBUTES}
    image = [ATTRIBUTES[k].phrase.format(v) for k, v in known.items() if not ATTRIBUTES[k].of]
    lesion = [ATTRIBUTES[k].phrase.format(v) for k, v in known.items() if ATTRIBUTES[k].of]
    values = {"count": str(truth.count), "size": truth.size, "side": truth.side}
    told = told_of_lesion(truth)
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
    fields = ["finding", *told_of_lesion(truth), *own]
    which = fields[rng.integers(len(fields))] if finding != "none" else "finding"
    if which == "finding":
        others = [f for f in ("none", *FINDINGS[shown_kind(truth)]) if f != finding]
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
    told = SUBJECTS[shown_kind(truth)].get(finding, ())
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
    for kind in SHOWN.get(shown_kind(truth), ()):
        allowed = ATTRIBUTES[kind].allowed(finding)
        if not allowed:
            attributes.pop(kind, None)
        elif ATTRIBUTES[kind].of and attributes.get(kind) not in allowed:
            attributes[kind] = allowed[rng.integers(len(allowed))]
    return attributes
