"""Contact sheets: `python -m generators.phantoms docs/phantoms.png`, a row a kind, labelled.

`--twins` draws an image of each kind beside its twin: `docs/twins.png`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from generators.phantoms import KINDS, draw, to_display
from generators.phantoms.base import Phantom
from generators.phantoms.reporter import describe
from generators.phantoms.twins import Change, Recipe, twin_of, value_of

COLUMNS, TILE, LABEL, GAP, MARGIN = 6, 204, 38, 4, 20


def label_of(phantom: Phantom) -> str:
    """Short lines: the report's sentence on the image, and the size in mm."""
    truth = phantom.truth
    size = f" {truth.size_mm:g} mm" if truth.size_mm else ""
    return "\n".join(wrap(describe(truth).removesuffix(".") + size, 40))


def tile(phantom: Phantom) -> Image.Image:
    """One image over its label, on black."""
    shown = to_display(phantom)
    picture = Image.fromarray(shown).convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
    out = Image.new("RGB", (TILE, TILE + LABEL))
    out.paste(picture)
    font = ImageFont.load_default(10)
    ImageDraw.Draw(out).multiline_text((2, TILE + 1), label_of(phantom), "#d8d8d8", font, spacing=1)
    return out


def sheet(size: int, difficulty: float) -> Image.Image:
    """All kinds: the healthy image first, then their findings in turn, each of another seed."""
    high, wide = TILE + LABEL + GAP, TILE + GAP
    out = Image.new("RGB", (MARGIN + COLUMNS * wide, high * len(KINDS)))
    for row, (kind, drawn) in enumerate(KINDS.items()):
        findings = ("none", *drawn.findings)
        for column in range(COLUMNS):
            order = [*findings, *findings[1:], *findings[1:]]
            phantom = draw(kind, 100 * row + 7 * column + 3, size, difficulty, order[column])
            out.paste(tile(phantom), (MARGIN + column * wide, row * high))
        text = Image.new("L", (TILE, MARGIN))
        ImageDraw.Draw(text).text((2, 2), kind, 255, ImageFont.load_default(13))
        out.paste(text.rotate(90, expand=True).convert("RGB"), (0, row * high))
    return out


# One of each kind: seed, finding and what is changed.
TWINS = {
    "CT": (40, "infarct", Change("side", "left")),
    "CT-abdomen": (40, "liver metastasis", Change("finding", "none")),
    "CT-chest": (42, "nodule", Change("count", "1")),
    "MR": (40, "plaque", Change("side", "left")),
    "X-ray": (40, "effusion", Change("size", "small")),
    "ultrasound": (41, "cyst", Change("count", "1")),
    "fundus": (42, "macular degeneration", Change("severity", "mild")),
    "OCT": (40, "macular edema", Change("finding", "none")),
    "dermoscopy": (42, "seborrheic keratosis", Change("border", "irregular")),
    "histology": (42, "colitis", Change("severity", "mild")),
}
PAIRS, SMALL = 5, 118  # in a row; side of a tile in pixels


def twins(difficulty: float) -> Image.Image:
    """An image of each kind beside its twin, with what was changed below, in 128 colours."""
    wide, high = 2 * SMALL + 10, SMALL + 30
    out = Image.new("RGB", (PAIRS * wide, -(-len(TWINS) // PAIRS) * high))
    pen, font = ImageDraw.Draw(out), ImageFont.load_default(10)
    for place, (kind, (seed, finding, change)) in enumerate(TWINS.items()):
        twin = twin_of(Recipe(kind, seed, 256, difficulty, finding), change)
        left, top = place % PAIRS * wide, place // PAIRS * high
        for number, phantom in enumerate((twin.original, twin.phantom)):
            shown = Image.fromarray(to_display(phantom)).convert("RGB")
            shown = shown.resize((SMALL, SMALL), Image.Resampling.LANCZOS)
            out.paste(shown, (left + number * SMALL, top))
        before = value_of(twin.original.truth, change.what)
        text = f"{kind}, {finding}\n{change.what}: {before} to {change.to}"
        pen.multiline_text((left + 2, top + SMALL + 2), text, "#d8d8d8", font, spacing=1)
    return out.quantize(128)


def main() -> None:
    """Draw a sheet and write it as PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="PNG to write")
    parser.add_argument("--size", type=int, default=256, help="side of a phantom in pixels")
    parser.add_argument("--difficulty", type=float, default=0.3)
    parser.add_argument("--twins", action="store_true", help="an image of each kind and its twin")
    args = parser.parse_args()
    picture = twins(args.difficulty) if args.twins else sheet(args.size, args.difficulty)
    picture.save(args.path, optimize=True)
    print(f"{args.path}: {picture.width} x {picture.height}, {args.path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
