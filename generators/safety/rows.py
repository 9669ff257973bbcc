"""A lesson as a row, and a picture with a text as an image of its own."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import PIL.Image

from engine.answers.parsing import render_completion, render_question
from engine.imaging.ingest import picture_of
from engine.pixels import pixels_id
from engine.question_types import UNKNOWN, found_format, found_type
from engine.records import Image, Picture, Task, Triplet, canonical, content_id
from generators.safety.inscription import Inscription, lay_out, written
from generators.safety.lessons import Lesson

SAFETY = "safety"  # who wrote it: no model
STYLE = "step"
TEXT = "text"  # what is changed of an image that a text is written into


def row_of(lesson: Lesson, seed: int, number: int, round: int) -> tuple[Triplet, Task]:
    """The row of a lesson, whose text is written in already, with its task.

    `program` holds what it teaches, `prompt_hash` is the policy's.
    """
    kind = found_type(lesson.question)
    task = Task.make(
        lesson.image.modality,
        "attribute" if kind == UNKNOWN else kind,
        "easy",
        found_format(lesson.options, lesson.answer),
        STYLE,
    )
    raw = render_question(lesson.question, lesson.options)
    raw += render_completion(lesson.rationale, lesson.answer)
    row = Triplet(
        id=content_id(SAFETY, lesson.image.id, raw, lesson.rule),
        image_id=lesson.image.id,
        generator_id=SAFETY,
        task_id=task.id,
        prompt_hash=str(json.loads(lesson.rule)["policy"]),
        seed=seed,
        sample=number,
        round=round,
        question=lesson.question,
        options=lesson.options,
        answer=lesson.answer,
        rationale=lesson.rationale,
        raw=raw,
        logprob=None,
        derived_from=lesson.takes,
        program=lesson.rule,
        known=lesson.known,
    )
    return row, task


def inscribed(
    lesson: Lesson, png: bytes, mask: np.ndarray | None, rng: np.random.Generator
) -> tuple[Lesson, Picture]:
    """A lesson about its image with the text written into it, and that image's picture.

    `png` is the image as it was. The new one is of the same patient, group and split, and a twin of
    the old one, which withdraws it too.
    """
    how = lay_out(_pixels(png), lesson.text, rng, mask)
    image, picture = with_text(lesson.image, png, how)
    takes = tuple(sorted({*lesson.takes, lesson.image.id}))
    return replace(lesson, image=image, takes=takes), picture


def with_text(image: Image, png: bytes, how: Inscription) -> tuple[Image, Picture]:
    """An image with a text written into it, and its picture."""
    pixels = written(_pixels(png), how)
    height, width = pixels.shape[:2]
    change = {"change": {"what": TEXT, "from": None, "to": " ".join(how.lines)}}
    new = replace(
        image,
        id=pixels_id(pixels),
        width=width,
        height=height,
        twin_of=image.id,
        drawn=canonical(change | {"inscription": how.to_dict()}),
    )
    return new, picture_of(new.id, pixels)


def has_text(image: Image) -> bool:
    """Whether a text was written into an image."""
    return bool(image.drawn) and "inscription" in json.loads(image.drawn or "{}")


def again(original: Image, png: bytes, image: Image) -> Image:
    """An image with a text made again from its original, as its row says."""
    how = Inscription.from_dict(json.loads(image.drawn or "{}")["inscription"])
    return with_text(original, png, how)[0]


def _pixels(png: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture)
