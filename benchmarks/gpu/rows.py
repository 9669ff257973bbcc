"""What the stages are given: drawn pictures, and the simulated expert's rows about them."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image

from engine.pixels import pixels_id, to_png
from engine.records import Image, Task, Triplet
from generators.phantoms import draw, to_display
from generators.phantoms.composer import compose_any
from generators.phantoms.oracle import truth_of
from reward_model.experts.simulated import expert_row

SIZES = ((512, 512), (768, 768), (1120, 896), (1001, 1001))  # the largest is max_pixels
KINDS = ("CT", "X-ray", "MR", "ultrasound")
PROMPTS, STYLE = "full", "step"


def pictures(small: bool) -> dict[str, tuple[Image, bytes]]:
    """(image, its PNG) by id: phantoms of `SIZES` in turn, with noise; small ones an eighth."""
    rng = np.random.default_rng(0)
    found = {}
    for number in range(4 if small else 16):
        phantom = draw(KINDS[number // len(SIZES)], number, 128)
        size = [n // 8 if small else n for n in SIZES[number % len(SIZES)]]
        shown = PIL.Image.fromarray(to_display(phantom)).convert("L")
        pixels = np.asarray(shown.resize(size, PIL.Image.Resampling.BICUBIC), float)
        noisy = np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
        image = Image(
            id=pixels_id(noisy), width=size[0], height=size[1], modality=phantom.truth.modality,
            anatomy=phantom.truth.anatomy, group="", split="train", source="", rendering="{}",
            deidentification="", is_synthetic=True, truth=json.dumps(phantom.truth.to_dict()),
        )  # fmt: skip
        found[image.id] = image, to_png(noisy)
    return found


def rows_about(number: int, small: bool) -> tuple[list[Triplet], dict[str, Task], dict[str, bytes]]:
    """(`number` rows about the pictures in turn, their tasks by id, PNG bytes by image id)."""
    rng = np.random.default_rng(0)
    shown = pictures(small)
    images = [image for image, _ in shown.values()]
    rows, tasks = [], {}
    for place in range(number):
        image = images[place % len(images)]
        truth = truth_of(image)
        assert truth is not None
        asked, qa = compose_any(truth, rng)
        row, task = expert_row(image, qa, STYLE, 0, place, asked)
        rows.append(row)
        tasks[task.id] = task
    return rows, tasks, {name: png for name, (_, png) in shown.items()}
