"""How far apart different images are and how close copies stay, to place the duplicate thresholds.

    python -m benchmarks.duplicates [--images 400] [--data ../shared/data]

Two tables and a line of JSON. For each set: pairs of different images that would be joined, the
largest correlation among pairs that pHash alone would join; the share of altered copies that are
found, by kind of change.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from engine.imaging.duplicates import MAX_BITS, correlation, near_pairs, signature
from generators.phantoms import MODULES, draw, to_display

COPIES = 40


def copies(
    picture: PIL.Image.Image, rng: np.random.Generator
) -> Iterator[tuple[str, PIL.Image.Image]]:
    """The picture as others publish it again."""
    pixels, (width, height) = np.asarray(picture.convert("L"), np.float64), picture.size
    out = io.BytesIO()
    picture.convert("L").save(out, "JPEG", quality=60)
    yield "JPEG 60", PIL.Image.open(out)
    yield "half size", picture.resize((width // 2, height // 2), PIL.Image.Resampling.LANCZOS)
    changed = {
        "other window": pixels * 0.8 + 20,
        "gamma 0.8": 255 * (pixels / 255) ** 0.8,
        "noise": pixels + rng.normal(0, 6, pixels.shape),
        "cropped 2 %": pixels[height // 50 : -(height // 50), width // 50 : -(width // 50)],
        "mirrored": pixels[:, ::-1],
    }
    for name, values in changed.items():
        yield name, PIL.Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def main() -> None:
    """Print both tables and their line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    sets = {
        name: [PIL.Image.fromarray(to_display(draw(name, s, 128))) for s in range(options.images)]
        for name in MODULES
    }
    files = sorted((options.data / "vqa_rad" / "images").glob("*.jpg"))
    if files:
        sets["VQA-RAD"] = [PIL.Image.open(f).convert("L") for f in files]
    rng = np.random.default_rng(0)
    rows = [{"images": name} | of_set(pictures, rng) for name, pictures in sets.items()]
    table(["images", "n", "pairs", "alike by pHash alone", "joined", "highest correlation"],
          [[r["images"], r["n"], r["pairs"], r["alike"], r["joined"], r["highest"]]
           for r in rows])  # fmt: skip
    table(["copies found", *rows[0]["found"]],
          [[r["images"], *(f"{share:.0%}" for share in r["found"].values())]
           for r in rows])  # fmt: skip
    print(json.dumps({"benchmark": "duplicates", "sets": rows}))


def of_set(pictures: list[PIL.Image.Image], rng: np.random.Generator) -> dict[str, Any]:
    """Pairs of different pictures that look alike, and shares of altered copies that are found."""
    signatures = [signature(p) for p in pictures]
    alike = [
        correlation(a, b)
        for a, b in combinations(signatures, 2)
        if (a.bits ^ b.bits).bit_count() <= MAX_BITS
    ]
    found: dict[str, list[bool]] = {}
    for picture, own in zip(pictures[:COPIES], signatures):
        for change, copy in copies(picture, rng):
            found.setdefault(change, []).append(bool(list(near_pairs([own, signature(copy)]))))
    return {
        "n": len(pictures), "pairs": len(pictures) * (len(pictures) - 1) // 2,
        "alike": len(alike), "joined": len(list(near_pairs(signatures))),
        "highest": round(max(alike, default=0.0), 3),
        "found": {change: float(np.mean(hits)) for change, hits in found.items()},
    }  # fmt: skip


def table(heads: list[str], rows: list[list[Any]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(heads)} |\n| --- |{' ---: |' * (len(heads) - 1)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print()


if __name__ == "__main__":
    main()
