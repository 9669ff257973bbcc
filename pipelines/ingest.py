"""Ingest: phantoms are drawn as DICOM where no folder is given; every file becomes safe images.

What is not used is a refusal with its reason, in the ledger and in ingest-report.csv.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.cluster import Places, Rows, cores, is_shared
from engine.errors import TriptychError
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import key_id
from engine.imaging.ingest import Look, Rules, frame_of, ingest_file, list_files, settle
from engine.records import (
    Image,
    Model,
    Picture,
    Refusal,
    Review,
    Row,
    content_id,
    from_arrow,
    unique,
)
from engine.resume import Made, Shards, Worker, make_shards
from engine.sets.benchmark import Benchmark, LeftOut
from engine.shards import write_shard
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.source import chosen, draw_phantoms, rules_of, source_folder, weak_key
from reward_model.experts import benchmark_of

SHARD = 1000  # images
FILES = 32  # a shard of what is read


REPORT = "ingest-report.csv"


def _gold_refusals(benchmark: Benchmark, rules: Rules, images: list[Image]) -> list[Refusal]:
    """Gold values that are not used: a benchmark's rows, a table's labels.

    Each is of its image, with which it is withdrawn. A row's own id is named where it is public.
    """
    told = [
        (f"images/{row.image}", row.place, _with_id(row) if rules.public else row.reason)
        for row in benchmark.left_out
    ]
    told += [
        (path, path, f"table line {entry.line}: {'; '.join(entry.problems)}")
        for path, entry in rules.table.items()
        if entry.problems
    ]
    shown = {image.source: image for image in images}
    return [
        _gold_refusal(rules.name(place), reason, shown.get(rules.name(source)))
        for source, place, reason in told
    ]


def _with_id(row: LeftOut) -> str:
    return f"qid {row.qid}: {row.reason}" if row.qid else row.reason


def _gold_refusal(name: str, reason: str, image: Image | None) -> Refusal:
    row = Refusal(
        id=content_id("refusal", name, -1, reason),
        path=name,
        frame=-1,
        reason=reason,
        status="gold",
    )
    return replace(row, image_id=image.id, patient=image.patient) if image else row


def ingest(context: Context, stage: Stage) -> None:
    """Files to safe images, in shards; the report lists every file."""
    config, workspace = context.config, context.workspace
    folder, rules = source_folder(config, workspace.root), rules_of(config, workspace.root)
    outside = context.outside_models()  # first: a model that nobody knows is told before the work
    if config.source.path is None:
        rules = replace(rules, drawn=draw_phantoms(config, folder, context.display))
    files = [folder / name for name in sorted(rules.drawn)] or list_files(folder)
    files, left = chosen(files, folder, rules, workspace.root, config.source.limit)
    if left:
        context.display.say(f"  {left} files beyond source.limit were not looked at")
    shards, names = read_files(context, stage, folder, files, rules)
    found, refusals = rows_of(shards, names, Image), rows_of(shards, names, Refusal)
    looks = {row.id: row.signature for row in rows_of(shards, names, Look)}
    shares: list[tuple[str, float]] = list(config.source.split.items())
    images, copies = settle(found, looks, dict(shares), lines=table_lines(rules))
    refusals = unique(refusals + copies)
    gold = benchmark_of(config)
    apart = _gold_refusals(gold, rules, images)
    write_report(workspace.root / REPORT, images, refusals + apart)
    _refuse_nothing(folder, files, images, refusals)
    for low in range(0, len(images), SHARD):
        stage.write(Image, images[low : low + SHARD], f"{low // SHARD:03d}")
    keep_pictures(stage, shards, names, {image.id for image in images})
    stage.write(Refusal, refusals + apart)
    stage.write(Model, unique(outside))
    stage.metrics = metrics(len(files), images, refusals, rules)
    stage.metrics["table"] = table_metrics(rules, folder, images)
    stage.metrics["weak key"] = not rules.public and weak_key(rules.key, context.display)
    stage.metrics["gold"] = {"used": len(gold.questions), "refused": len(gold.left_out)}
    for line in told(stage.metrics, workspace.root):
        context.display.say(f"  {line}")


@dataclass(frozen=True)
class Reading:
    """How a worker reads files: the folder, and the rules."""

    folder: Path
    rules: Rules


def make_reader(job: Reading) -> Worker:
    """A worker on shards of {path} below the folder: images, pictures, looks and refusals out."""
    decoder = Decoder()

    def work(shard: str, rows: Rows) -> Made:
        read = [ingest_file(decoder, job.folder, job.folder / r["path"], job.rules) for r in rows]
        return {
            Refusal: [row for each in read for row in each.refusals],
            Look: [row for each in read for row in each.looks],
            Picture: [row for each in read for row in each.pictures],
            Image: [row for each in read for row in each.images],
        }

    return work


def read_files(
    context: Context, stage: Stage, folder: Path, files: list[Path], rules: Rules
) -> tuple[Shards, list[str]]:
    """Read files in shards beside the stage's own; returns where they are and their names in order.

    A shard is named by its files and the rules, so that what has changed since is read again.
    """
    to = Shards(stage.folder / "read", (Refusal, Look, Picture, Image))
    told = repr(replace(rules, key=b"", include=frozenset()))  # a set's words come in any order
    same = content_id(key_id(rules.key), sorted(rules.include), told)
    shards: dict[str, Rows] = {}
    for low in range(0, len(files), FILES):
        some = files[low : low + FILES]
        named = [(path.relative_to(folder).as_posix(), _version(path)) for path in some]
        shards[f"{low // FILES:06d}-{content_id(same, named)[:12]}"] = [
            {"path": name} for name, _ in named
        ]
    places = Places(actors=cores(), here=not is_shared())
    job = Reading(folder.absolute(), rules)
    make_shards(
        to, make_reader, job, shards, places, lambda n, m: context.display.advance(n, m, "files")
    )
    return to, list(shards)


def _version(path: Path) -> list[int]:
    """What changes where a file is written again; nothing of one that cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def rows_of(shards: Shards, names: Iterable[str], row_type: type[Row]) -> list[Any]:
    """The rows of a type in shards, in order."""
    paths = [shards.folder / f"{row_type.table}-{name}.parquet" for name in names]
    return [row for path in paths for row in from_arrow(row_type, pq.read_table(path))]


def keep_pictures(stage: Stage, shards: Shards, names: Iterable[str], wanted: set[str]) -> None:
    """The stage's pictures: those of `wanted` images, each once, a shard after the other."""
    for number, name in enumerate(names):
        table = pq.read_table(shards.folder / f"{Picture.table}-{name}.parquet")
        mine = [i in wanted for i in table["id"].to_pylist()]
        wanted = wanted.difference(table["id"].to_pylist())
        if any(mine):
            write_shard(stage.folder, f"{Picture.table}-{number:06d}", table.filter(pa.array(mine)))


def _refuse_nothing(
    folder: Path, files: list[Path], images: list[Image], refusals: list[Refusal]
) -> None:
    if images or any(r.status == "quarantined" for r in refusals):
        return
    refused = [r for r in refusals if r.status != "skipped"]
    example = f": {refused[0].path}: {refused[0].reason}" if refused else ""
    raise TriptychError(
        f"{folder} holds no usable image ({len(files)} files, {len(refused)} refused){example}"
    )


def table_lines(rules: Rules) -> dict[str, int]:
    """Lines of the table by the name that a file has in the record."""
    return {rules.name(path): entry.line for path, entry in rules.table.items() if entry.line}


def metrics(
    files: int, images: list[Image], refusals: list[Refusal], rules: Rules
) -> dict[str, object]:
    """Counts for the commit, and by what the key is recognised again."""
    by_status = Counter(r.status for r in refusals)
    return {
        "files": files,
        "images": len(images),
        "refused": by_status["refused"],
        "flagged": by_status["flagged"],
        "quarantined": by_status["quarantined"],
        "duplicates": by_status["duplicate"],
        "skipped": by_status["skipped"],
        "groups": len({i.group for i in images}),
        "patients": len({i.patient for i in images}),
        "key_id": key_id(rules.key),
    }


def table_metrics(rules: Rules, folder: Path, images: list[Image]) -> dict[str, int]:
    """What became of the table's rows and texts."""
    withheld = Counter(column for entry in rules.table.values() for column in entry.withheld)
    return {
        "rows": len(rules.table),
        "without file": sum(not (folder / path).is_file() for path in rules.table),
        "reports kept": sum(i.report is not None for i in images),
        "reports refused": withheld.pop("report", 0),
        "labels refused": withheld.total(),
    }


def told(counts: dict[str, object], root: Path) -> list[str]:
    """What a person should know of an ingest, a line each."""
    lines = []
    gold = counts.get("gold")
    if isinstance(gold, dict) and gold["refused"]:
        total = gold["used"] + gold["refused"]
        lines.append(f"{gold['refused']} of {total} gold rows refused: see {root / REPORT}")
    names = ("refused", "flagged", "quarantined", "duplicates")
    apart = [f"{counts[name]} {name}" for name in names if counts[name]]
    if apart:
        lines.append(f"{', '.join(apart)}: see {root / REPORT}")
    if counts["quarantined"]:
        lines.append(f"look at what is quarantined: triptych ingest --review -w {root}")
    joined = int(str(counts["patients"])) - int(str(counts["groups"]))
    if joined:
        lines.append(
            f"{joined} patients joined to others that have the same or nearly the same image"
        )
    table = counts["table"]
    assert isinstance(table, dict)
    odd = [
        f"{table[k]} {k}" for k in ("without file", "reports refused", "labels refused") if table[k]
    ]
    if odd:
        lines.append(f"table of {table['rows']} rows: {', '.join(odd)}")
    return lines


def write_report(
    path: Path, images: Iterable[Image], refusals: Iterable[Refusal], reviews: Iterable[Review] = ()
) -> None:
    """One row a file, frame or row of gold values: path, frame, status, reason, image_id."""
    verdicts = {review.image_id: review.verdict for review in reviews}
    rows = {(i.source, frame_of(i)): ("used", "", i.id) for i in images}
    for r in refusals:
        decided = verdicts.get(r.image_id, r.status) if r.status == "quarantined" else r.status
        rows[r.path, r.frame] = (decided, r.reason, r.image_id)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["path", "frame", "status", "reason", "image_id"])
        table.writerows([*place, *row] for place, row in sorted(rows.items()))
    partial.replace(path)
