"""What is known of an image beside its pixels, for whoever writes or verifies rows about it.

A report, labels, kept DICOM attributes, a phantom's truth. None of it is for a policy: no question
and no training prompt has it, and `generators.filters.leak` refuses rows that quote it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.knowledge import KINDS
from engine.records import Image
from engine.sql import Scan
from engine.workspace import Workspace

_DRAWING = ("modality", "anatomy", "cnr")  # of a truth: what the picture's row says, or how drawn
_HEADINGS = {"labels": "Labels", "truth": "What was drawn"}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one image: a report's text, and facts as (kind, name, value).

    A fact's kind is `labels`, `truth` or, of DICOM, the attribute's name.
    """

    report: str = ""
    facts: tuple[tuple[str, str, str], ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which kinds there are of this image, in the order of `KINDS`, then by name."""
        there = {kind for kind, _, _ in self.facts} | ({"report"} if self.report else set())
        return tuple(sorted(there, key=lambda k: (KINDS.index(k) if k in KINDS else len(KINDS), k)))

    def told(self) -> str:
        """All of it in lines, as a prompt has it; empty where there is nothing."""
        lines = [f"Report: {self.report}"] if self.report else []
        for kind in self.kinds:
            said = [f"{name}: {value}" for of, name, value in self.facts if of == kind]
            if said:
                lines.append(f"{_HEADINGS.get(kind, 'DICOM')}: {'; '.join(said)}")
        return "\n".join(lines)


NOTHING = Known()


def known_of(image: Image, kinds: Sequence[str]) -> Known:
    """Of the asked kinds what is known of an image."""
    facts: list[tuple[str, str, str]] = []
    if "labels" in kinds:
        facts += _facts("labels", json.loads(image.labels or "{}"))
    if "truth" in kinds:
        truth = json.loads(image.truth or "{}")
        facts += _facts("truth", {k: v for k, v in truth.items() if k not in _DRAWING})
    header = json.loads(image.rendering or "{}").get("facts") or {}
    for kind in kinds:
        if kind not in KINDS:
            facts += [
                (kind, name, value) for _, name, value in _facts("", {kind: header.get(kind)})
            ]
    return Known((image.report or "") if "report" in kinds else "", tuple(facts))


def _facts(kind: str, values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Names with values, those of a mapping inside by their own names, without what is empty."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _facts(kind, value)
        elif isinstance(value, list):
            found += _facts(kind, {name: ", ".join(_number(v) for v in value)})
        elif value is not None and str(value).strip():
            found.append((kind, name, _number(value)))
    return found


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def knowing(root: Path, kinds: Sequence[str]) -> Callable[[Iterable[str]], dict[str, Known]]:
    """What gives the asked kinds of knowledge of images by their ids, from a workspace's rows.

    It is read for the images that are asked about, so that a process holds no more than these.
    """
    if not kinds:
        return lambda _: {}
    shards = [path for _, path, _ in Workspace(root).shards(Image.table)]

    def known(ids: Iterable[str]) -> dict[str, Known]:
        asked = sorted(set(ids))
        with Scan() as scan:
            scan.table(Image.table, Image, shards)
            query = f"SELECT * FROM {Image.table} WHERE id IN (SELECT unnest(?))"
            images = scan.rows(Image, query, [asked])
        return {image.id: known_of(image, kinds) for image in images}

    return known
