"""The contact sheet: `python -m generators.phantoms docs/phantoms.png`, a row a kind, labelled."""

from __future__ import annotations

import argparse
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from generators.phantoms import KINDS, draw, to_display
from generators.phantoms.base import Phantom
from generators.phantoms.reporter import describe

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


def main() -> None:
    """Draw the sheet and write it as PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="PNG to write")
    parser.add_argument("--size", type=int, default=256, help="side of a phantom in pixels")
    parser.add_argument("--difficulty", type=float, default=0.3)
    args = parser.parse_args()
    picture = sheet(args.size, args.difficulty)
    picture.save(args.path, optimize=True)
    print(f"{args.path}: {picture.width} x {picture.height}, {args.path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
