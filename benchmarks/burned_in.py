"""What the detector of burned-in text finds, how often it cries wolf and what it costs.

    python -m benchmarks.burned_in [--images 60] [--data ../shared/data]

Every image is tried as it is (a find is a false alarm, unless the image carries printed text, which
is said) and with a stamp as scanners make it: a name, a number and a date in one of five sizes and
places, in an ink that a person can read there: white, grey, yellow or black.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import list_files
from engine.imaging.text import text_lines
from generators.phantoms import MODULES, draw, to_display

STAMP = ("DOE^JANE", "MRN 4711023", "1961-04-05")
SIZES = (9, 11, 14, 18, 24)
INKS = {"white": (255,) * 3, "grey": (190,) * 3, "yellow": (255, 255, 0), "black": (0,) * 3}


def stamped(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with three lines of text somewhere on it."""
    size = int(rng.choice(SIZES))
    font = PIL.ImageFont.load_default(size)
    picture = PIL.Image.fromarray(pixels).convert("RGB")
    pen = PIL.ImageDraw.Draw(picture)
    text_width = int(max(pen.textlength(line, font) for line in STAMP))
    x = int(rng.integers(0, max(1, picture.width - text_width)))
    y = int(rng.integers(0, max(1, picture.height - 3 * (size + 2))))
    under = float(np.asarray(picture)[y : y + 3 * (size + 2), x : x + text_width].mean())
    legible = [name for name, ink in INKS.items() if abs(float(np.mean(ink)) - under) >= 90]
    ink = INKS[str(rng.choice(legible))]
    for number, line in enumerate(STAMP):
        pen.text((x, y + number * (size + 2)), line, fill=ink, font=font)
    return np.asarray(picture)


def phantoms(count: int, size: int) -> dict[str, list[np.ndarray]]:
    """Drawn images of every modality."""
    return {
        f"{name} (phantoms)": [to_display(draw(name, seed, size)) for seed in range(count)]
        for name in MODULES
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
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    sets = phantoms(options.images, options.size)
    sets |= real(options.data / "dicom", options.images)
    published = real(options.data / "vqa_rad" / "images", options.images)
    printed = [image for images in published.values() for image in images]
    sets["VQA-RAD, credits printed on each"] = printed
    sets["VQA-RAD, the middle only"] = [middle(image) for image in printed]
    rng = np.random.default_rng(0)
    print("| images | n | stamped text found | found without a stamp | CPU ms an image |")
    print("| --- | ---: | ---: | ---: | ---: |")
    rows = []
    for name, images in ((name, images) for name, images in sets.items() if images):
        hits = [text_lines(stamped(image, rng)) > 0 for image in images]
        started = time.process_time()
        alarms = [text_lines(image) > 0 for image in images]
        cost = (time.process_time() - started) / len(images) * 1000
        row = {"images": name, "n": len(images), "found": round(float(np.mean(hits)), 3),
               "alarms": round(float(np.mean(alarms)), 3), "cpu_ms": round(cost, 1)}  # fmt: skip
        rows.append(row)
        print("| {images} | {n} | {found:.0%} | {alarms:.0%} | {cpu_ms:.0f} |".format(**row))
    print(json.dumps({"benchmark": "burned_in", "size": options.size, "sets": rows}))


if __name__ == "__main__":
    main()
