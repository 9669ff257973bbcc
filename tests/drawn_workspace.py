"""Drawn images with their truth, rows about them, and a context without Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.answers.parsing import render_completion, render_question
from engine.config import build
from engine.records import Image, Triplet, canonical, content_id
from engine.workspace import Workspace
from generators import phantoms
from pipelines.context import Context
from tests.lineage_workspace import TASK, make_image
from tests.pictures import shown

YES_NO = ("yes", "no")


def drawn(
    kind: str, number: int, finding: str | None = None, split: str = "train", size: int = 64
) -> Image:
    """A phantom as an ingested image: each of a group of its own."""
    phantom = phantoms.draw(kind, number, size, 0.3, finding)
    pixels = phantoms.to_display(phantom)
    return replace(
        make_image(0, f"{kind}-{number}", split),
        id=shown(pixels),
        width=size,
        height=size,
        modality=phantom.truth.modality,
        anatomy=phantom.truth.anatomy,
        source=f"{kind}/{number:04d}.dcm",
        truth=canonical(phantom.truth.to_dict()),
    )


def answered(
    image: Image,
    question: str,
    answer: str,
    options: tuple[str, ...] = YES_NO,
    *,
    rationale: str = "",
    writer: str = "generator",
    sample: int = 0,
    round: int = 0,
    **more: Any,
) -> Triplet:
    """A row about an image, of the task `lineage_workspace.TASK`."""
    raw = render_question(question, options) + render_completion(rationale, answer)
    values: dict[str, Any] = {
        "task_id": TASK.id,
        "prompt_hash": "",
        "seed": 0,
        "logprob": -0.5,
    }
    return Triplet(
        id=content_id("triplet", image.id, writer, sample, round, raw),
        image_id=image.id,
        generator_id=writer,
        sample=sample,
        round=round,
        question=question,
        options=options,
        answer=answer,
        rationale=rationale,
        raw=raw,
        **(values | more),
    )


def context_of(workspace: Workspace, *overrides: str) -> Context:
    """A context of the default configuration with overrides; stages run in this process."""
    here = ["cluster.address=inline", "cluster.threads=1", *overrides]
    return Context(workspace, build({}, here, "the test"))
