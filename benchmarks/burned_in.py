"""What the detectors of burned-in text find, how often they cry wolf and what they cost.

    python -m benchmarks.burned_in [--images 60] [--ocr] [--data ../shared/data]

Every image is tried as it is (a find is a false alarm, unless the image carries printed text, which
is said) and with a stamp as scanners make it: a name, a number and a date in one of five sizes and
places, in an ink that a person can read there: white, grey, yellow or black. A second table has
stamps of other kinds: turned, askew, large, faint, letter-spaced. With --ocr RapidOCR looks where
our own detector finds nothing, as in `engine.imaging.ocr`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import list_files
from engine.imaging.ocr import printed_text
from engine.imaging.text import text_lines
from generators.phantoms import KINDS as PHANTOMS
from generators.phantoms import draw, to_display

Finder = Callable[[np.ndarray], bool]
STAMP = ("DOE^JANE", "MRN 4711023", "1961-04-05")
SIZES = (9, 11, 14, 18, 24)
INKS = {"white": (255,) * 3, "grey": (190,) * 3, "yellow": (255, 255, 0), "black": (0,) * 3}


KINDS = {
    "level": {}, "turned 90°": {"turn": 90}, "turned 180°": {"turn": 180},
    "turned 270°": {"turn": 270}, "askew 3°": {"turn": 3}, "askew 10°": {"turn": -10},
    "60–120 px": {"sizes": (60, 90, 120)}, "faint": {"contrast": 30}, "spaced": {"gap": 1.0},
}  # fmt: skip


def stamped(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with three lines of text somewhere on it."""
    return put(pixels, text_mask(int(rng.choice(SIZES))), rng)


def of_kind(pixels: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """The picture with a stamp of one of the KINDS; for large print it is made four times as large.

    A faint ink differs by 30 grey levels from what is under it, any other by 90 or more.
    """
    form = KINDS[kind]
    if "sizes" in form:
        pixels = np.repeat(np.repeat(pixels, 4, axis=0), 4, axis=1)
    size = int(rng.choice(form.get("sizes", (14, 18, 24))))
    mask = text_mask(size, form.get("gap", 0.0))
    mask = mask.rotate(form.get("turn", 0), PIL.Image.Resampling.BICUBIC, expand=True)
    return put(pixels, mask, rng, form.get("contrast"))


def text_mask(size: int, gap: float = 0.0) -> PIL.Image.Image:
    """The stamp as how much ink is where, 0 to 255; `gap` is put after each letter, in its size."""
    font = PIL.ImageFont.load_default(size)
    step = [[font.getlength(c) + gap * size for c in line] for line in STAMP]
    width = int(max(map(sum, step))) + 2
    mask = PIL.Image.new("L", (width, len(STAMP) * (size + 2) + size // 3))
    pen = PIL.ImageDraw.Draw(mask)
    for number, line in enumerate(STAMP):
        at = 0.0
        for letter, run in zip(line, step[number]):
            pen.text((at, number * (size + 2)), letter, fill=255, font=font)
            at += run
    return mask


def put(
    pixels: np.ndarray,
    mask: PIL.Image.Image,
    rng: np.random.Generator,
    contrast: float | None = None,
) -> np.ndarray:
    """The picture with ink where the mask says, at a random place, cut at the border."""
    picture = PIL.Image.fromarray(pixels).convert("RGB")
    x = int(rng.integers(0, max(1, picture.width - mask.width)))
    y = int(rng.integers(0, max(1, picture.height - mask.height)))
    under = float(np.asarray(picture)[y : y + mask.height, x : x + mask.width].mean())
    if contrast is None:
        legible = [i for i in INKS.values() if abs(float(np.mean(i)) - under) >= 90]
        ink = legible[int(rng.integers(len(legible)))]
    else:
        ink = (int(under + contrast if under < 200 else under - contrast),) * 3
    picture.paste(PIL.Image.new("RGB", mask.size, ink), (x, y), mask)
    return np.asarray(picture)


def phantoms(count: int, size: int) -> dict[str, list[np.ndarray]]:
    """Drawn images of every modality."""
    return {
        f"{name} (phantoms)": [to_display(draw(name, seed, size)) for seed in range(count)]
        for name in PHANTOMS
    }


def real(folder: Path, count: int) -> dict[str, list[np.ndarray]]:
    """Rendered files of a folder by the modality in their headers."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    with Decoder() as decoder:
        for path in list_files(folder):
            try:
                frame = decoder.decode(path, "middle").frames[0]
            except ImagingError:
                continue
            name = f"{frame.facts.get('Modality', 'no modality')} ({folder.name})"
            if len(found[name]) < count and min(frame.pixels.shape[:2]) >= 64:
                found[name].append(frame.pixels)
    return dict(found)


def middle(pixels: np.ndarray) -> np.ndarray:
    """The central half of each side, where no marker or credit is printed."""
    height, width = pixels.shape[:2]
    return pixels[height // 4 : -(height // 4), width // 4 : -(width // 4)]


def main() -> None:
    """Print a table, a row a set of images, and its line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--ocr", action="store_true", help="with RapidOCR, which must be there")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    sets = phantoms(options.images, options.size)
    sets |= real(options.data / "dicom", options.images)
    published = real(options.data / "vqa_rad" / "images", options.images)
    printed = [image for images in published.values() for image in images]
    sets["VQA-RAD, credits printed on each"] = printed
    sets["VQA-RAD, the middle only"] = [middle(image) for image in printed]
    finders: dict[str, Finder] = {"ours": lambda image: text_lines(image) > 0}
    if options.ocr:
        finders["with RapidOCR"] = lambda image: printed_text(image) is not None
    rows = [
        row | {"detector": found_by}
        for found_by, find in finders.items()
        for name, images in sets.items() if images
        for row in [measured(name, images, find)]
    ]  # fmt: skip
    table(rows)
    kinds = [of_kinds(found_by, find, sets) for found_by, find in finders.items()]
    table(kinds)
    print(json.dumps(
        {"benchmark": "burned_in", "size": options.size, "sets": rows, "kinds": kinds}
    ))  # fmt: skip


def measured(name: str, images: list[np.ndarray], find: Finder) -> dict[str, object]:
    """How often a stamp is found, how often a picture without one, and what the latter costs."""
    rng = np.random.default_rng(0)
    hits = [find(stamped(image, rng)) for image in images]
    started = time.process_time()
    alarms = [find(image) for image in images]
    cost = (time.process_time() - started) / len(images) * 1000
    return {"images": name, "n": len(images), "found": round(float(np.mean(hits)), 3),
            "alarms": round(float(np.mean(alarms)), 3), "CPU ms": round(cost)}  # fmt: skip


def of_kinds(name: str, find: Finder, sets: dict[str, list[np.ndarray]]) -> dict[str, object]:
    """The share of stamps of each kind that is found, over the drawn images."""
    rng = np.random.default_rng(1)
    drawn = [i for title, images in sets.items() if "phantoms" in title for i in images]
    row: dict[str, object] = {"detector": name, "n of each": len(drawn)}
    for kind in KINDS:
        hits = [find(of_kind(image, kind, rng)) for image in drawn]
        row[kind] = round(float(np.mean(hits)), 3)
    return row


def table(rows: list[dict[str, object]]) -> None:
    """Print rows as a Markdown table, shares in per cent."""
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows:
        shown = [f"{v:.0%}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(shown) + " |", flush=True)
    print()


if __name__ == "__main__":
    main()
