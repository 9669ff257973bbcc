"""How far apart different images are, how close copies stay, and what the search costs.

    python -m benchmarks.duplicates [--images 400] [--data ../shared/data] [--largest 100000]

Three tables and a line of JSON. For each set: pairs of different images that are joined, and the
highest correlation of any; the share of altered copies that are found, by kind of change; then time
and peak memory of the search among ever more images of one anatomy, a hundredth of them copies
that are noisy and mirrored or turned, and how many of these it finds; beside it the search within
groups, of two and a copy with its original's, as select does it.

Images beyond the first 1,000 are not drawn: their signatures are put together from the principal
components of MR phantoms' fine structure. The leading ones, by which the anatomy falls into
clusters, are taken from one phantom, each other from any.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import PIL.Image

from engine.imaging.duplicates import (
    SIDE,
    SIGNATURE_BYTES,
    correlation,
    near_pairs,
    near_within,
    of_detail,
    signature,
    stacked,
    symmetries,
)
from generators.phantoms import KINDS, draw, to_display

T = TypeVar("T")
COPIES = 40
ANATOMY, DRAWN = "MR", 1000
COMPONENTS, LEADING = 256, 8
BLOCK = 4096
NOISE = 0.25  # of a copy, beside fine structure's own deviation: a correlation of 0.97


def copies(
    picture: PIL.Image.Image, rng: np.random.Generator
) -> Iterator[tuple[str, PIL.Image.Image]]:
    """The picture as others publish it again."""
    pixels, (width, height) = np.asarray(picture.convert("L"), np.float64), picture.size
    out = io.BytesIO()
    picture.convert("L").save(out, "JPEG", quality=60)
    yield "JPEG 60", PIL.Image.open(out)
    for name, share in (("half size", 0.5), ("size 70 %", 0.7)):
        size = int(width * share), int(height * share)
        yield name, picture.resize(size, PIL.Image.Resampling.LANCZOS)
    changed = {
        "other window": pixels * 0.8 + 20,
        "gamma 0.8": 255 * (pixels / 255) ** 0.8,
        "noise": pixels + rng.normal(0, 6, pixels.shape),
        "cropped 2 %": pixels[height // 50 : -(height // 50), width // 50 : -(width // 50)],
        "mirrored": pixels[:, ::-1],
        "turned 90°": np.rot90(pixels),
        "turned 180°": np.rot90(pixels, 2),
        "turned 270°": np.rot90(pixels, 3),
        "mirrored, 90°": pixels.T,
    }
    for name, values in changed.items():
        yield name, PIL.Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def main() -> None:
    """Print the tables and their line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--largest", type=int, default=100_000)
    options = parser.parse_args()
    rows = of_sets(options.images, options.data)
    scale = of_scale(options.largest)
    print(json.dumps({"benchmark": "duplicates", "sets": rows, "scale": scale}))


def of_sets(images: int, data: Path) -> list[dict[str, Any]]:
    """Print what is joined and found in each set, and return it."""
    sets = {
        name: [PIL.Image.fromarray(to_display(draw(name, s, 128))) for s in range(images)]
        for name in KINDS
        if images
    }
    files = sorted((data / "vqa_rad" / "images").glob("*.jpg"))
    if files and images:
        sets["VQA-RAD"] = [PIL.Image.open(f).convert("L") for f in files]
    rng = np.random.default_rng(0)
    rows = [{"images": name} | of_set(pictures, rng) for name, pictures in sets.items()]
    if rows:
        table(["images", "n", "pairs", "joined", "highest correlation"],
              [[r["images"], r["n"], r["pairs"], r["joined"], r["highest"]]
               for r in rows])  # fmt: skip
        table(["copies found", *rows[0]["found"]],
              [[r["images"], *(f"{share:.0%}" for share in r["found"].values())]
               for r in rows])  # fmt: skip
    return rows


def of_set(pictures: list[PIL.Image.Image], rng: np.random.Generator) -> dict[str, Any]:
    """Pairs of different pictures that look alike, and shares of altered copies that are found."""
    signatures = stacked(map(signature, pictures))
    one, other = np.triu_indices(len(pictures), 1)
    highest = max(
        float(correlation(signatures[one[at]], signatures[other[at]]).max())
        for at in np.array_split(np.arange(len(one)), len(one) // BLOCK + 1)
    )
    altered: dict[str, list[bytes]] = {}
    for picture in pictures[:COPIES]:
        for change, copy in copies(picture, rng):
            altered.setdefault(change, []).append(signature(copy))
    found = {}
    for change, own in altered.items():
        pairs = set(near_pairs(np.concatenate([signatures, stacked(own)])))
        hits = [(place, len(pictures) + place) in pairs for place in range(len(own))]
        found[change] = float(np.mean(hits))
    return {
        "n": len(pictures), "pairs": len(one), "joined": len(list(near_pairs(signatures))),
        "highest": round(highest, 3),
        "found": found,
    }  # fmt: skip


def of_scale(largest: int) -> list[dict[str, Any]]:
    """Print time and memory of the search by number of images, and return them."""
    drawn = stacked(
        signature(PIL.Image.fromarray(to_display(draw(ANATOMY, seed, 128))))
        for seed in range(DRAWN)
    )
    rows: list[dict[str, Any]] = []
    for n in (10**power for power in range(3, 1 + round(math.log10(largest)))):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "signatures.npy"
            truth = _alone(population, n, drawn, path)
            rows.append(_alone(of_size, path, truth))
        if len(rows) > 1:
            times = math.log(rows[-1]["seconds"] / rows[-2]["seconds"])
            rows[-1]["exponent"] = round(times / math.log(n / rows[-2]["n"]), 2)
    table(["images", "CPU seconds", "exponent", "signatures MB", "peak MB beside them",
           "copies found", "others joined", "CPU seconds within groups", "copies found"],
          [[r["n"], r["seconds"], r.get("exponent", ""), r["held"], r["peak"],
            f"{r['found']:.2%}", r["others"], r["within"], f"{r['found within']:.2%}"]
           for r in rows])  # fmt: skip
    return rows


def _alone(work: Callable[..., T], *args: Any) -> T:
    """`work` in a process of its own, because the peak of memory is a process's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        return alone.submit(work, *args).result()


def of_size(path: Path, truth: set[tuple[int, int]]) -> dict[str, Any]:
    """The search among the signatures of a file."""
    signatures = np.load(path)
    before = _peak()
    began = time.process_time()
    pairs = set(near_pairs(signatures))
    seconds = time.process_time() - began
    peak = _peak() - before
    groups = np.arange(len(signatures)) // 2
    for one, other in truth:
        groups[other] = groups[one]
    began = time.process_time()
    within = set(near_within(signatures, groups))
    within_seconds = time.process_time() - began
    return {
        "within": round(within_seconds, 2), "found within": len(within & truth) / len(truth),
        "n": len(signatures), "seconds": round(seconds, 2), "held": round(signatures.nbytes / 1e6),
        "peak": round(peak / 1e6), "found": len(pairs & truth) / len(truth),
        "others": len(pairs - truth),
    }  # fmt: skip


def population(n: int, drawn: np.ndarray, path: Path) -> set[tuple[int, int]]:
    """Write n signatures of one anatomy; the pairs that are copies. Its last hundredth are."""
    rng = np.random.default_rng(0)
    square = SIDE * SIDE
    values = drawn[:, -square:].view(np.int8).astype(np.float32)
    mean = values.mean(axis=0)
    basis = np.linalg.eigh(np.cov((values - mean).T))[1][:, ::-1][:, :COMPONENTS]
    basis = basis.astype(np.float32)
    scores = (values - mean) @ basis
    rest = (values - mean - scores @ basis.T).std(axis=0)
    out = np.empty((n, SIGNATURE_BYTES), np.uint8)
    originals = n - n // 100
    for low in range(0, originals, BLOCK):
        size = min(BLOCK, originals - low)
        from_ = rng.integers(0, len(drawn), (size, COMPONENTS))
        from_[:, :LEADING] = from_[:, :1]
        made = mean + scores[from_, np.arange(COMPONENTS)] @ basis.T
        made += rng.standard_normal(made.shape, np.float32) * rest
        out[low : low + size] = of_detail(_levels(made))
    copied = rng.choice(originals, n - originals, replace=False)
    for place, original in enumerate(copied, originals):
        squares = list(symmetries(out[original, -square:].view(np.int8).reshape(SIDE, SIDE)))
        turned = squares[rng.integers(8)].astype(np.float32)
        noisy = turned + NOISE * turned.std() * rng.standard_normal(turned.shape)
        out[place] = of_detail(_levels(noisy[None]))[0]
    np.save(path, out)
    return {(int(original), place) for place, original in enumerate(copied, originals)}


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), -127, 127).astype(np.int8).reshape(-1, SIDE, SIDE)


def _peak() -> float:
    """The highest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def table(heads: list[str], rows: list[list[Any]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(heads)} |\n| --- |{' ---: |' * (len(heads) - 1)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print()


if __name__ == "__main__":
    main()
