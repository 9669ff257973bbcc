"""Ingest: phantoms are drawn as DICOM where no folder is given; every file becomes safe images.

A file that cannot be used is a refusal with its reason, in the ledger and in ingest-report.csv.
"""

from __future__ import annotations

import csv
import os
from importlib.util import find_spec
from pathlib import Path

from engine.errors import TriptychError
from engine.hub.benchmarks import load_vqa_rad
from engine.imaging.decode import Decoder
from engine.imaging.ingest import ingest_file, list_files, split_of_group
from engine.records import Image, Refusal, unique
from engine.workspace import Stage
from generators.phantoms.dicom import write_cohort
from pipelines.context import Context

SHARD = 200


def source_folder(context: Context) -> Path:
    """The configured folder, or the workspace's phantoms; raises TriptychError where missing."""
    source = context.config.source
    if source.path is None:
        return context.workspace.root / "phantoms"
    folder = Path(source.path)
    if not folder.is_dir():
        raise TriptychError(f"source.path {folder} is not a folder: give the folder of your images")
    return folder


def group_key(context: Context) -> bytes:
    """The secret that patient groups are keyed with.

    From `source.key_file`, else TRIPTYCH_KEY, else made from the seed: good enough for phantoms
    and public sets only.
    """
    if context.config.source.key_file:
        return Path(context.config.source.key_file).read_bytes().strip()
    return os.environ.get("TRIPTYCH_KEY", f"public-{context.config.seed}").encode()


def draw_phantoms(context: Context, folder: Path) -> None:
    """Write the configured phantoms as DICOM; those already there are not drawn again.

    Masks go beside the folder, into segmentations/, so that they are not taken for images.
    """
    source = context.config.source
    counts: list[tuple[str, int]] = list(source.phantoms.items())
    total = sum(source.phantoms.values())
    masks = folder.with_name("segmentations") if source.segmentations else None
    if masks and find_spec("highdicom") is None:
        raise TriptychError("source.segmentations needs highdicom: pip install 'triptych[seg]'")
    seed, difficulty = context.config.seed, source.difficulty
    done = write_cohort(folder, dict(counts), source.size, seed, difficulty, masks)
    for number, _ in enumerate(done, 1):
        if number % 20 == 0:
            context.display.advance(number, total, "phantoms")


def labels_of(context: Context, folder: Path) -> dict[str, dict[str, str]]:
    """What a benchmark knows of its images, by path below its folder."""
    if context.config.expert.kind != "vqa-rad":
        return {}
    return {
        f"images/{q.image}": {"anatomy": q.anatomy, "patient": q.patient}
        for q in load_vqa_rad(folder)
    }


def ingest(context: Context, stage: Stage) -> None:
    """Files to safe images, in shards; the report lists every file."""
    source = context.config.source
    folder = source_folder(context)
    if source.path is None:
        draw_phantoms(context, folder)
    shares: list[tuple[str, float]] = list(source.split.items())
    files = list_files(folder)[: source.limit]
    labels, key = labels_of(context, folder), group_key(context)
    images: list[Image] = []
    refusals: list[Refusal] = []
    with Decoder() as decoder:
        for number, path in enumerate(files, 1):
            found, refused = ingest_file(
                decoder,
                folder,
                path,
                key,
                source.frames,
                lambda group: split_of_group(group, dict(shares)),
                labels,
            )
            images += found
            refusals += refused
            context.display.advance(number, len(files), "files")
    if not images:
        raise TriptychError(
            f"{folder} holds no usable image ({len(files)} files, {len(refusals)} refused)"
            + (f": {refusals[0].path}: {refusals[0].reason}" if refusals else "")
        )
    images = unique(images)
    for low in range(0, len(images), SHARD):
        stage.write(Image, images[low : low + SHARD], f"{low // SHARD:03d}")
    stage.write(Refusal, refusals)
    write_report(context.workspace.root / "ingest-report.csv", images, refusals)
    stage.metrics = {"files": len(files), "images": len(images), "refused": len(refusals)}
    if refusals:
        context.display.say(f"  {len(refusals)} files refused, see ingest-report.csv")


def write_report(path: Path, images: list[Image], refusals: list[Refusal]) -> None:
    """One row a file or frame: path, frame, status, reason, image_id."""
    with path.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["path", "frame", "status", "reason", "image_id"])
        for image in images:
            table.writerow([image.source, 0, "used", "", image.id])
        for refusal in refusals:
            table.writerow([refusal.path, refusal.frame, "refused", refusal.reason, ""])
