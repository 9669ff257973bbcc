"""Files to image rows: a plain function a file, which never raises for a bad one.

A frame that is not used becomes a Refusal: refused (it cannot be read), flagged (there is nothing
to see in it), quarantined (a person has to look, see `pipelines.commands.review`), a duplicate, or
skipped (it belongs to the images and is none: their table). No row holds anything of the patient
but keyed hashes. `settle` gives groups and splits to all at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import PIL.Image
import pyarrow as pa

from engine.imaging import ocr
from engine.imaging.anatomy import anatomy_name, anatomy_of, modality_name
from engine.imaging.decode import Decoder, Rendered
from engine.imaging.deidentify import NO_HEADER, PROFILE, group_key, hidden_path
from engine.imaging.duplicates import signature, stacked
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.groups import SEEN, group_images
from engine.imaging.table import Entry
from engine.lineage.files import file_hash
from engine.pixels import pixels_id, to_png
from engine.records import Image, Picture, Refusal, Row, canonical, content_id, to_arrow

SEARCHED = ("no printed text found", "no printed text found, by RapidOCR neither")
MIN_SIDE, MAX_ASPECT = 16, 20.0
TRUTH, MADE = ".truth.json", ".drawn.json"  # what lies beside a phantom
MAX_TRUTH_BYTES = 1 << 20


@dataclass(frozen=True)
class Rules:
    """How files are read. `key` makes every hash; `frames` is "middle", "every:n" or "all".

    `table` is what is known of files by their path; `include` are flags that do not keep an image
    out; `public` images are searched for no text. `beside` says what the files are that belong to
    the images, by their path. `drawn` is what this workspace drew: SHA-256 by path. Nothing else is
    a phantom, whatever its header says.
    """

    key: bytes
    frames: str = "middle"
    table: Mapping[str, Entry] = field(default_factory=dict)
    keep_paths: bool = False
    public: bool = False
    include: frozenset[str] = frozenset()
    beside: Mapping[str, str] = field(default_factory=dict)
    drawn: Mapping[str, str] = field(default_factory=dict)

    def name(self, path: str) -> str:
        """How a relative path is written in rows and reports; bytes that are no text as \\udcXX."""
        if self.keep_paths:
            return path.encode(errors="backslashreplace").decode()
        return hidden_path(path, self.key)


def list_files(root: Path) -> list[Path]:
    """Every file under `root`, whatever its name or kind, sorted.

    A folder that is a link or cannot be read is among them, as it is: it is refused like a file.
    """
    found: list[Path] = []
    closed: list[Path] = []
    for folder, names, files in os.walk(root, onerror=lambda e: closed.append(Path(e.filename))):
        found += (Path(folder) / name for name in files)
        found += (path for name in names if os.path.islink(path := Path(folder) / name))
    return sorted({*found, *closed})


def belongs(path: Path, relative: str, rules: Rules) -> str:
    """What a file is that belongs to the images, as their table or a phantom's truth; "" for any
    other. Its name decides nothing as long as it can be an image."""
    name = str(path)  # os.path's functions hold where Path's raise: in a closed folder
    for end, what in ((TRUTH, "the truth of a phantom"), (MADE, "what a phantom was drawn from")):
        if name.endswith(end) and os.path.isfile(name.removesuffix(end)):
            return what
    return rules.beside.get(relative, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Row):
    """By what an image is settled while a folder is read; no table of the record."""

    table: ClassVar[str] = "looks"
    id: str  # the image's
    source: str
    frame: int
    patient: str
    group: str
    split: str


@dataclass(frozen=True, slots=True)
class Read:
    """What a file holds: images with their pictures, and refusals of what is not used.

    Images have no group yet, and a split only where the table gives one: see `settle`.
    """

    images: list[Image] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def ingest_file(decoder: Decoder, root: Path, path: Path, rules: Rules) -> Read:
    """The image rows of one file, and refusals for the frames (or the file) not used."""
    relative = path.relative_to(root).as_posix()
    name = rules.name(relative)
    try:
        decoded = decoder.decode(path, rules.frames, rules.key)
    except ImagingError as error:
        known = error.reason is Reason.NOT_AN_IMAGE and belongs(path, relative, rules)
        if known:
            return Read(refusals=[_refusal(name, -1, known, "skipped")])
        return Read(refusals=[_refusal(name, -1, str(error))])
    read = Read()
    for frame, why in decoded.refused.items():
        read.refusals.append(_refusal(name, frame, str(why)))
    for item in decoded.frames:
        image = image_of(item, root, path, rules)
        kept_out = _kept_out(item, rules)
        if kept_out is None:
            read.images.append(image)
            read.pictures.append(picture_of(image.id, item.pixels))
            read.looks.append(look_of(image))
        else:
            read.refusals.append(not_used(image, item.frame, *kept_out))
    return read


def _refusal(name: str, frame: int, reason: str, status: str = "refused") -> Refusal:
    """`frame` is -1 where the whole file was refused."""
    identity = content_id("refusal", name, frame, reason)
    return Refusal(id=identity, path=name, frame=frame, reason=reason, status=status)


def not_used(image: Image, frame: int, status: str, reason: str) -> Refusal:
    """What is recorded of a frame that was rendered and is not used: no pixels."""
    row = _refusal(image.source, frame, reason)
    return replace(row, status=status, image_id=image.id, patient=image.patient)


def frame_of(image: Image) -> int:
    """Which frame of its file an image is."""
    return int(json.loads(image.rendering).get("frame", 0))


def _kept_out(item: Rendered, rules: Rules) -> tuple[str, str] | None:
    """Status and reason of a frame that is not used: nothing to see, or text that may name."""
    flags = {flag: detail for flag, detail in _flags(item) if flag not in rules.include}
    if flags:
        return "flagged", str(ImagingError(Reason.DEGENERATE, next(iter(flags.values()))))
    found = None if rules.public else _waits(item)
    if found is None:
        return None
    return "quarantined", str(ImagingError(Reason.QUARANTINED, found))


def _waits(item: Rendered) -> str | None:
    """Why a person has to look: what the header says, else print; without a header, print first."""
    if item.quarantine in (None, NO_HEADER):
        return ocr.printed_text(item.pixels) or item.quarantine
    return item.quarantine


def _flags(item: Rendered) -> Iterable[tuple[str, str]]:
    pixels = item.pixels
    height, width = pixels.shape[:2]
    if item.rendering.get("not_finite"):
        yield "nan", str(Reason.NOT_FINITE)
    if min(height, width) < MIN_SIDE:
        yield "tiny", f"a side below {MIN_SIDE} px"
    if max(height, width) / min(height, width) > MAX_ASPECT:
        yield "aspect", f"aspect ratio above {MAX_ASPECT:g}"
    if (pixels == pixels[0, 0]).all():
        black = not pixels.any()
        yield ("black", "all black") if black else ("constant", "one value everywhere")


def image_of(item: Rendered, root: Path, path: Path, rules: Rules) -> Image:
    """The row of a rendered frame, without group, and with a split only where the table has one."""
    relative = path.relative_to(root).as_posix()
    entry = rules.table.get(relative, Entry())
    height, width = item.pixels.shape[:2]
    modality, anatomy = _what(item, entry)
    drawn = relative in rules.drawn and rules.drawn[relative] == file_hash(path)
    made = _beside(path, MADE) if drawn else None
    searched = "not searched for printed text" if rules.public else SEARCHED[ocr.installed()]
    return Image(
        id=pixels_id(item.pixels),
        width=width,
        height=height,
        modality=modality,
        anatomy=anatomy,
        group="",
        split=entry.split,
        source=rules.name(relative),
        rendering=canonical(item.rendering | {"facts": item.facts}),
        deidentification=f"{PROFILE}; {searched}",
        is_synthetic=drawn,
        truth=_beside(path, TRUTH) if drawn else None,
        drawn=made,
        twin_of=json.loads(made).get("twin_of", "") if made else "",
        patient=_patient(item, relative, rules, entry),
        labels=entry.labels,
        report=entry.report,
    )


def picture_of(image_id: str, pixels: np.ndarray) -> Picture:
    """The picture of (H, W) or (H, W, 3) uint8 pixels, which have this id."""
    signed = signature(PIL.Image.fromarray(pixels))
    return Picture(id=image_id, png=to_png(pixels), signature=signed)


def look_of(image: Image) -> Look:
    """What an image is settled by."""
    return Look(
        id=image.id,
        source=image.source,
        frame=frame_of(image),
        patient=image.patient,
        group=image.group,
        split=image.split,
    )


def settle(
    images: Sequence[Image],
    signatures: Mapping[str, bytes],
    shares: dict[str, float],
    earlier: Sequence[Image] = (),
    ties: Iterable[tuple[str, str]] = (),
    lines: Mapping[str, int] | None = None,
) -> tuple[list[Image], list[Refusal]]:
    """Give each image its group and split (`groups.group_images`); exact copies become refusals.

    `signatures` are of all images, by id. Only exact copies leave: a near or mirrored one stays an
    image of its own, since left and right are not the same in it. `earlier` images keep what they
    have.
    """
    every = [*earlier, *images]
    seen = to_arrow(Look, map(look_of, every)).select(SEEN.names)
    pictures = stacked(signatures[image.id] for image in every)
    found, copies = group_images(seen, pictures, shares, ties, lines)
    by_place = {(i.id, i.source, frame_of(i)): i for i in images}
    settled = [
        replace(by_place[r["id"], r["source"], r["frame"]], group=r["group"], split=r["split"])
        for r in found.to_pylist()
    ]
    return settled, copied(copies)


def copied(copies: pa.Table) -> list[Refusal]:
    """What is recorded of exact copies of other images, by their SEEN columns."""
    return [
        replace(
            _refusal(row["source"], row["frame"], str(Reason.DUPLICATE), "duplicate"),
            image_id=row["id"],
            patient=row["patient"],
        )
        for row in copies.to_pylist()
    ]


def _patient(item: Rendered, relative: str, rules: Rules, entry: Entry) -> str:
    """The hash of the table's patient, else of the header's patient or study, else of the file.

    Worded as `deidentify.identity` words it, so that one patient's files are one.
    """
    if entry.patient:
        return group_key(f"patient:{entry.patient}", rules.key)
    return item.group or group_key(f"file:{relative}", rules.key)


def _what(item: Rendered, entry: Entry) -> tuple[str, str]:
    """Modality and anatomy in our names: the header's, else the table's."""
    anatomy = anatomy_of(item.facts)
    modality = modality_name(item.facts.get("Modality"))
    return (
        modality if modality != "other" else modality_name(entry.modality),
        anatomy if anatomy != "unknown" else anatomy_name(entry.anatomy),
    )


def _beside(path: Path, end: str) -> str | None:
    """A sidecar of a phantom as canonical JSON, None where there is none that can be read."""
    sidecar = path.with_name(f"{path.name}{end}")
    try:
        if sidecar.stat().st_size > MAX_TRUTH_BYTES:
            return None
        told = json.loads(sidecar.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return canonical(told) if isinstance(told, dict) else None
