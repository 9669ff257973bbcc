"""Review of what ingest quarantined: a person looks at each image, and releases or drops it.

    triptych ingest --review -w WORKSPACE                                     a page and a table
    triptych ingest --review -w WORKSPACE --release ID --drop ID --by NAME    decide

Ingest keeps no pixels of a quarantined image. Its thumbnail is drawn from the source when the page
is asked for, lies in WORKSPACE/quarantine/ alone, and goes with the decision; that folder is in no
ledger and no export and may be deleted at any time. A decision is a commit of its own; the images
that it releases join the workspace with it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import PIL.Image
from rich.table import Table

from engine.config import Config
from engine.errors import TriptychError
from engine.imaging.decode import Decoder, Rendered
from engine.imaging.deidentify import NO_HEADER, PROFILE, key_id
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import Rules, frame_of, image_of, list_files, picture_of, settle
from engine.pixels import pixels_id, signatures_in
from engine.records import Image, Picture, Refusal, Review, content_id
from engine.workspace import Workspace
from pipelines.ingest import REPORT, table_lines, write_report
from pipelines.progress import verbatim
from pipelines.record import pending
from pipelines.source import rules_of, source_folder

FOLDER = "quarantine"
ALL, CLEAR = "all", "clear"  # all that wait; those that only lack a header: no print was found
RELEASED = "released by a reviewer"
THUMBNAIL = 384  # pixels on the longer side


@dataclass(frozen=True, slots=True)
class Waiting:
    """A quarantined frame, found again in its source."""

    refusal: Refusal
    path: Path
    rendered: Rendered


def show(config: Config, workspace: Workspace) -> tuple[Path, Table]:
    """Draw the page of what waits, with thumbnails; returns it and a table for the terminal."""
    rules = same_rules(config, workspace)
    folder = workspace.root / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    rows = []
    table = Table(title="Quarantined", title_justify="left")
    for column in ("id", "modality", "size", "reason", "file, frame"):
        table.add_column(column)
    for item in _found(config, workspace, rules, pending(workspace)):
        refusal, pixels = item.refusal, item.rendered.pixels
        short, place = refusal.image_id[:12], f"{refusal.path}, {refusal.frame}"
        reason = refusal.reason.removeprefix("quarantined: ")
        modality = str(item.rendered.facts.get("Modality", "not stated"))
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        _thumbnail(item.rendered, folder / f"{refusal.image_id}.png")
        table.add_row(short, verbatim(modality), size, verbatim(reason), verbatim(place))
        rows.append({"id": short, "file": f"{refusal.image_id}.png", "modality": modality,
                     "size": size, "reason": reason, "place": place})  # fmt: skip
    rows.sort(key=lambda row: row["reason"] == NO_HEADER)  # what may carry print comes first
    page = folder / "index.html"
    page.write_text(_page(rows, workspace.root), encoding="utf-8")
    return page, table


def decide(
    config: Config, workspace: Workspace, release: list[str], drop: list[str], by: str
) -> tuple[int, int]:
    """Record decisions on images named by their ids' beginnings, by ALL or by CLEAR.

    Returns how many were released and dropped. Raises TriptychError for an id that waits for no
    decision, a picture that has changed since, or a release that would part a group.
    """
    waiting = pending(workspace)
    released, dropped = _named(release, waiting), _named(drop, waiting)
    both = {r.image_id for r in released} & {r.image_id for r in dropped}
    if both:
        raise TriptychError(f"{min(both)[:12]} is both released and dropped: choose one")
    if released and any(c["stage"] == "seed" for c in workspace.commits()):
        raise TriptychError(
            "the loop has begun on this workspace's images, so none can join: ingest into a new "
            "workspace, review, then run"
        )
    images, pictures = _released(config, workspace, released) if released else ([], [])
    at = datetime.now(UTC).isoformat(timespec="seconds")
    reviews = [
        *(_review(r, "released", by, at) for r in released),
        *(_review(r, "dropped", by, at) for r in dropped),
    ]
    _commit(workspace, reviews, images, pictures)
    for review in reviews:
        (workspace.root / FOLDER / f"{review.image_id}.png").unlink(missing_ok=True)
    return len(released), len(dropped)


def _named(words: list[str], waiting: list[Refusal]) -> list[Refusal]:
    if ALL in words:
        return waiting
    found = [r for r in waiting if CLEAR in words and r.reason.endswith(NO_HEADER)]
    for word in words:
        if word == CLEAR:
            continue
        matches = [r for r in waiting if r.image_id.startswith(word)]
        if len(matches) != 1:
            what = "no image" if not matches else f"{len(matches)} images"
            raise TriptychError(f"{what} in quarantine whose id begins with {word}")
        found += matches
    return [*{r.image_id: r for r in found}.values()]


def _released(
    config: Config, workspace: Workspace, refusals: list[Refusal]
) -> tuple[list[Image], list[Picture]]:
    """The images of what was released, grouped and split with those that are there."""
    rules = same_rules(config, workspace)
    found = {w.refusal.image_id: w for w in _found(config, workspace, rules, refusals)}
    missing = [r for r in refusals if r.image_id not in found]
    if missing:
        raise TriptychError(
            f"{missing[0].image_id[:12]} ({missing[0].path}) is not in the source any more, or has "
            "changed: ingest into a new workspace"
        )
    folder = source_folder(config, workspace.root)
    fresh = [
        replace(
            image_of(w.rendered, folder, w.path, rules),
            deidentification=f"{PROFILE}; {RELEASED}",
        )
        for w in found.values()
    ]
    earlier = workspace.read(Image)
    by_id = {image.id: image for image in earlier}
    copies = [r for r in workspace.read(Refusal) if r.status == "duplicate" and r.image_id in by_id]
    ties = [(r.patient, by_id[r.image_id].group) for r in copies]
    shares: list[tuple[str, float]] = list(config.source.split.items())
    pictures = {name: picture_of(name, w.rendered.pixels) for name, w in found.items()}
    looks = {name: picture.signature for name, picture in pictures.items()}
    for names, signed in signatures_in(path for _, path, _ in workspace.shards(Picture.table)):
        looks |= {name.decode(): one.tobytes() for name, one in zip(names.tolist(), signed)}
    settled, _ = settle(fresh, looks, dict(shares), earlier, ties, table_lines(rules))
    return settled, [pictures[image.id] for image in settled]


def _review(refusal: Refusal, verdict: str, by: str, at: str) -> Review:
    identity = content_id("review", refusal.image_id, verdict, by, at)
    return Review(
        id=identity,
        image_id=refusal.image_id,
        verdict=verdict,
        reason=refusal.reason,
        reviewer=by,
        decided=at,
    )


def _commit(
    workspace: Workspace, reviews: list[Review], images: list[Image], pictures: list[Picture]
) -> None:
    """One commit, and a report that tells of it."""
    stage = workspace.begin("review", 0, content_id("review", *(r.id for r in reviews)))
    stage.write(Review, reviews)
    if images:
        stage.write(Image, images)
        stage.write(Picture, pictures)
    stage.metrics = {
        "released": len(images),
        "dropped": sum(r.verdict == "dropped" for r in reviews),
    }
    workspace.commit(stage)
    shown = sorted((i.source, frame_of(i), i.id) for i in workspace.stream(Image))
    report = workspace.root / REPORT
    write_report(report, shown, workspace.read(Refusal), workspace.read(Review))


def same_rules(config: Config, workspace: Workspace) -> Rules:
    """The rules, with the key that ingest used."""
    rules = rules_of(config, workspace.root)
    used = [c["metrics"].get("key_id") for c in workspace.commits() if c["stage"] == "ingest"]
    if not used:
        raise TriptychError(
            f"nothing was ingested into {workspace.root}: run `triptych ingest` first"
        )
    if used[-1] != key_id(rules.key):
        raise TriptychError("this is not the key that the images were ingested with")
    return rules


def _found(
    config: Config, workspace: Workspace, rules: Rules, refusals: list[Refusal]
) -> Iterator[Waiting]:
    """The frames that refusals are about, read again from the source, unless they have changed."""
    folder = source_folder(config, workspace.root)
    wanted: dict[str, dict[int, list[Refusal]]] = {}  # by path and frame
    for refusal in refusals:
        wanted.setdefault(refusal.path, {}).setdefault(refusal.frame, []).append(refusal)
    with Decoder() as decoder:
        for path in list_files(folder) if wanted else []:
            asked = wanted.get(rules.name(path.relative_to(folder).as_posix()), {})
            if not asked:
                continue
            try:
                decoded = decoder.decode(path, rules.frames, rules.key)
            except ImagingError:
                continue
            for rendered in decoded.frames:
                if rendered.frame not in asked:
                    continue
                found = pixels_id(rendered.pixels)  # once a frame: a clip has thousands
                for refusal in asked[rendered.frame]:
                    if refusal.image_id == found:
                        yield Waiting(refusal, path, rendered)


def _thumbnail(rendered: Rendered, path: Path) -> None:
    picture = PIL.Image.fromarray(rendered.pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as out:
        picture.save(out, "PNG")


def _page(rows: list[dict[str, str]], root: Path) -> str:
    from jinja2 import Environment, StrictUndefined

    template = (
        resources.files("pipelines.commands").joinpath("review.html.jinja").read_text("utf-8")
    )
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return jinja.from_string(template).render(rows=rows, root=str(root))
