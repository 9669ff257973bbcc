"""A row of given words, to put before a filter."""

from __future__ import annotations

from dataclasses import replace

from engine.records import Triplet
from tests.lineage_workspace import make_image, make_triplet

ROW = replace(make_triplet(make_image(1, "g"), "g", 0, 1), rationale="")


def row(question: str = "Which finding is shown?", answer: str = "cyst", *options: str) -> Triplet:
    return replace(ROW, question=question, answer=answer, options=options)
