"""Files to image rows: a plain function a file, which never raises for a bad one.

A bad file becomes a Refusal with a typed reason. Neither row holds anything of the patient but a
keyed hash; `source` and `path` are the file's name below the root, so name files accordingly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image

from engine.imaging.anatomy import anatomy_name, anatomy_of, modality_name
from engine.imaging.decode import Decoder, Rendered
from engine.imaging.deidentify import PROFILE, group_key
from engine.imaging.errors import ImagingError, Reason
from engine.records import Image, Refusal, bytes_id, canonical, content_id

Labels = Mapping[str, Mapping[str, str]]  # relative path -> modality, anatomy, patient
NOT_PICTURES = frozenset((".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".parquet", ".yaml"))
MIN_SIDE, MAX_ASPECT = 16, 20.0
MAX_TRUTH_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """A folder of files and, for pictures without a header, what is known of them."""

    root: Path
    labels: Labels | None = None
    frames: str = "middle"

    def files(self) -> list[Path]:
        return list_files(self.root)


def list_files(root: Path) -> list[Path]:
    """Every file under `root` that may be an image, whatever its name, sorted."""
    return sorted(path for path in root.rglob("*") if _candidate(path.relative_to(root), path))


def _candidate(relative: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    listing = path.name.upper() == "DICOMDIR" or path.suffix.lower() in NOT_PICTURES
    return not hidden and not listing and path.is_file()


def split_of_group(group: str, fractions: dict[str, float]) -> str:
    """The split of a group by its hash: the same on every worker, one group in one split.

    `fractions` maps split names to shares, in order; they are normalised by their sum.
    """
    digest = hashlib.sha256(f"split:{group}".encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64 * sum(fractions.values())
    for name, share in fractions.items():
        if at < share:
            return name
        at -= share
    return next(reversed(fractions))


def ingest_file(
    decoder: Decoder,
    root: Path,
    path: Path,
    key: bytes,
    frames: str,
    split_of: Callable[[str], str],
    labels: Labels | None = None,
) -> tuple[list[Image], list[Refusal]]:
    """The image rows of one file, and refusals for the frames (or the file) not used.

    `key` makes groups; `frames` is "middle", "every:n" or "all"; `split_of` maps group to split.
    """
    source = path.relative_to(root).as_posix()
    try:
        rendered = decoder.decode(path, frames, key)
    except ImagingError as error:
        return [], [_refusal(source, -1, str(error))]
    images, refusals = [], []
    for item in rendered:
        problem = _problem(item)
        if problem is not None:
            refusals.append(_refusal(source, item.frame, str(problem)))
        else:
            label = (labels or {}).get(source, {})
            images.append(_image(item, path, source, key, split_of, label))
    return images, refusals


def _refusal(source: str, frame: int, reason: str) -> Refusal:
    """`frame` is -1 where the whole file was refused."""
    identity = content_id("refusal", source, frame, reason)
    return Refusal(id=identity, path=source, frame=frame, reason=reason)


def _problem(item: Rendered) -> ImagingError | None:
    """Why a rendered frame is not used: quarantine, or nothing to see in it."""
    if item.quarantine is not None:
        return ImagingError(Reason.QUARANTINED, item.quarantine)
    height, width = item.pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        return ImagingError(Reason.DEGENERATE, f"a side below {MIN_SIDE} px")
    if max(height, width) / min(height, width) > MAX_ASPECT:
        return ImagingError(Reason.DEGENERATE, f"aspect ratio above {MAX_ASPECT:g}")
    if (item.pixels == item.pixels[0, 0]).all():
        return ImagingError(Reason.DEGENERATE, "one value everywhere")
    return None


def _image(
    item: Rendered,
    path: Path,
    source: str,
    key: bytes,
    split_of: Callable[[str], str],
    label: Mapping[str, str],
) -> Image:
    group = item.group or group_key(_who(source, label), key)
    height, width = item.pixels.shape[:2]
    modality, anatomy = _what(item, label)
    return Image(
        id=pixels_id(item.pixels),
        png=to_png(item.pixels),
        width=width,
        height=height,
        modality=modality,
        anatomy=anatomy,
        group=group,
        split=split_of(group),
        source=source,
        rendering=canonical(item.rendering | {"facts": item.facts}),
        deidentification=PROFILE,
        is_synthetic=item.synthetic,
        truth=_truth(path) if item.phantom else None,
    )


def _who(source: str, label: Mapping[str, str]) -> str:
    """Worded as `deidentify.identity` words it, so one patient's files are one group."""
    return f"patient:{label['patient']}" if label.get("patient") else f"file:{source}"


def _what(item: Rendered, label: Mapping[str, str]) -> tuple[str, str]:
    """Modality and anatomy in our names: the header's, else the label's."""
    anatomy = anatomy_of(item.facts)
    modality = modality_name(item.facts.get("Modality"))
    return (
        modality if modality != "other" else modality_name(label.get("modality")),
        anatomy if anatomy != "unknown" else anatomy_name(label.get("anatomy")),
    )


def pixels_id(pixels: np.ndarray) -> str:
    """An image's id: the hash of its mode, shape and pixel bytes, whatever file they came in."""
    mode = "L" if pixels.ndim == 2 else "RGB"
    return bytes_id(f"{mode}{pixels.shape}".encode() + pixels.tobytes())


def to_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 as PNG bytes."""
    out = BytesIO()
    PIL.Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _truth(path: Path) -> str | None:
    """The sidecar of a phantom as canonical JSON, None where there is none that can be read."""
    sidecar = path.with_name(f"{path.name}.truth.json")
    try:
        if sidecar.stat().st_size > MAX_TRUTH_BYTES:
            return None
        truth = json.loads(sidecar.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return canonical(truth) if isinstance(truth, dict) else None
