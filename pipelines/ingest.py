"""Ingest: phantoms are drawn as DICOM where no folder is given; every file becomes safe images.

What is not used is a refusal with its reason, in the ledger and in ingest-report.csv.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.cluster import Places, Rows, cores, is_shared
from engine.errors import TriptychError
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import key_id
from engine.imaging.duplicates import SIGNATURE_BYTES, stacked
from engine.imaging.groups import SEEN, group_images
from engine.imaging.ingest import Look, Rules, copied, ingest_file, list_files
from engine.pixels import signatures_in
from engine.records import (
    Image,
    Model,
    Picture,
    Refusal,
    Review,
    Row,
    content_id,
    from_arrow,
    schema_of,
    unique,
)
from engine.resume import Made, Shards, Worker, make_shards
from engine.sets.benchmark import Benchmark, LeftOut
from engine.shards import write_shard
from engine.sql import Scan
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.source import chosen, draw_phantoms, rules_of, source_folder, weak_key
from reward_model.experts import benchmark_of, label_problems

SHARD = 10_000  # images
PICTURES, PICTURE_BYTES = 1000, 64 << 20  # a shard
FILES = 32  # a shard of what is read

REPORT = "ingest-report.csv"

# One frame of a file is one row, also where it shows the same as another.
_SETTLED = """
SELECT r.* REPLACE (s."group" AS "group", s.split AS split)
FROM read r JOIN settled s ON s.id = r.id AND s.source = r.source
    AND s.frame = coalesce((r.rendering ->> '$.frame')::BIGINT, 0)
ORDER BY s.source, s.frame
"""


def _gold_refusals(
    benchmark: Benchmark, wrong: Mapping[str, Sequence[str]], rules: Rules, images: pa.Table
) -> list[Refusal]:
    """Gold values that are not used: a benchmark's rows, a table's labels (`wrong`, by source).

    Each is of its image, with which it is withdrawn. A row's own id is named where it is public.
    """
    told = [
        (f"images/{row.image}", row.place, _with_id(row) if rules.public else row.reason)
        for row in benchmark.left_out
    ]
    told += [
        (path, path, f"table line {entry.line}: {'; '.join(problems)}")
        for path, entry in rules.table.items()
        if (problems := (*entry.problems, *wrong.get(rules.name(path), ())))
    ]
    sources = [rules.name(source) for source, _, _ in told]
    mine = images.filter(pc.is_in(images["source"], pa.array(sources, pa.string())))
    shown = {row["source"]: row for row in mine.to_pylist()}
    return [
        _gold_refusal(rules.name(place), reason, shown.get(source))
        for source, (_, place, reason) in zip(sources, told)
    ]


def _with_id(row: LeftOut) -> str:
    return f"qid {row.qid}: {row.reason}" if row.qid else row.reason


def _gold_refusal(name: str, reason: str, image: dict[str, Any] | None) -> Refusal:
    row = Refusal(
        id=content_id("refusal", name, -1, reason),
        path=name,
        frame=-1,
        reason=reason,
        status="gold",
    )
    return replace(row, image_id=image["id"], patient=image["patient"]) if image else row


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
    seen, signatures = looked_at(shards, names)
    if len(seen) > SHARD:  # minutes in which nothing else is heard
        context.display.say(f"  {len(seen)} images are compared, to find copies")
    shares: list[tuple[str, float]] = list(config.source.split.items())
    settled, copies = group_images(seen, signatures, dict(shares), lines=table_lines(rules))
    refusals = unique([*rows_of(shards, names, Refusal), *copied(copies)])
    gold = benchmark_of(config)
    wrong, unasked = label_problems(config, _labels(rules, settled))
    apart = _gold_refusals(gold, wrong, rules, settled)
    write_report(workspace.root / REPORT, used(settled), refusals + apart)
    _refuse_nothing(folder, files, len(settled), refusals)
    reports = 0
    with Scan() as scan:
        scan.table("read", Image, [shards.path(Image, name) for name in names])
        scan.register("settled", settled)

        def images() -> Iterator[Image]:
            nonlocal reports
            for image in scan.stream(Image, _SETTLED):
                reports += image.report is not None
                yield image

        stage.write_all(Image, images(), SHARD)
    keep_pictures(stage, shards, names, seen["id"])
    stage.write(Refusal, refusals + apart)
    stage.write(Model, unique(outside))
    stage.metrics = metrics(len(files), settled, refusals, rules)
    stage.metrics["table"] = table_metrics(rules, folder, reports) | {
        "labels not asked about": sum(map(len, wrong.values())),
        "columns not asked about": len(unasked),
    }
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
    """A worker on shards {paths} below the folder: images, pictures, looks and refusals out."""
    decoder = Decoder()

    def work(shard: str, rows: Rows) -> Made:
        paths = [job.folder / path for row in rows for path in row["paths"]]
        read = [ingest_file(decoder, job.folder, path, job.rules) for path in paths]
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
    sizes: dict[str, int] = {}
    for low in range(0, len(files), FILES):
        some = files[low : low + FILES]
        named = [(path.relative_to(folder).as_posix(), _version(path)) for path in some]
        shard = f"{low // FILES:06d}-{content_id(same, named)[:12]}"
        shards[shard], sizes[shard] = [{"paths": [name for name, _ in named]}], len(some)
    places = Places(actors=cores(), here=not is_shared())
    job = Reading(folder.absolute(), rules)
    make_shards(
        to,
        make_reader,
        job,
        shards,
        places,
        lambda done, total: context.display.advance(done, total, "files"),
        sizes,
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
    paths = (shards.path(row_type, name) for name in names)
    return [row for path in paths for row in from_arrow(row_type, pq.read_table(path))]


def looked_at(shards: Shards, names: Iterable[str]) -> tuple[pa.Table, np.ndarray]:
    """What images are settled by: SEEN's columns, and signatures in a file beside the shards."""
    tables = [schema_of(Look).empty_table().select(SEEN.names)]
    tables += [pq.read_table(shards.path(Look, name)).select(SEEN.names) for name in names]
    seen = pa.concat_tables(tables)
    path = shards.folder / "signatures"
    with path.open("wb") as out:
        for _, signed in signatures_in(shards.path(Picture, name) for name in names):
            out.write(signed.tobytes())
    if not len(seen):
        return seen, stacked([])
    return seen, np.memmap(path, np.uint8, "r", shape=(len(seen), SIGNATURE_BYTES))


def keep_pictures(stage: Stage, shards: Shards, names: Iterable[str], ids: pa.ChunkedArray) -> None:
    """The stage's pictures, each once, in the order of `ids`, which are those in the shards."""
    first = np.zeros(len(ids), bool)
    first[np.unique(np.array(ids.to_pylist(), "S32"), return_index=True)[1]] = True
    low = number = 0
    held: list[pa.Table] = []
    for name in names:
        table = pq.read_table(shards.path(Picture, name))
        held.append(table.filter(pa.array(first[low : low + len(table)])))
        low += len(table)
        if sum(map(len, held)) >= PICTURES or sum(t.nbytes for t in held) >= PICTURE_BYTES:
            _write_pictures(stage, held, number)
            held, number = [], number + 1
    _write_pictures(stage, held, number)


def _write_pictures(stage: Stage, held: list[pa.Table], number: int) -> None:
    table = pa.concat_tables([schema_of(Picture).empty_table(), *held])
    if len(table):
        write_shard(stage.folder, f"{Picture.table}-{number:06d}", table)


def _refuse_nothing(folder: Path, files: list[Path], images: int, refusals: list[Refusal]) -> None:
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
    files: int, images: pa.Table, refusals: list[Refusal], rules: Rules
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
        "groups": len(pc.unique(images["group"])),
        "patients": len(pc.unique(images["patient"])),
        "key_id": key_id(rules.key),
    }


def _labels(rules: Rules, images: pa.Table) -> list[tuple[str, str, str]]:
    """The source, the split and the labels of images that have any."""
    kept = {rules.name(p): entry.labels for p, entry in rules.table.items() if entry.labels}
    if not kept:
        return []
    splits = zip(images["source"].to_pylist(), images["split"].to_pylist())
    return [(source, split, kept[source]) for source, split in splits if source in kept]


def table_metrics(rules: Rules, folder: Path, reports: int) -> dict[str, int]:
    """What became of the table's rows and texts."""
    withheld = Counter(column for entry in rules.table.values() for column in entry.withheld)
    return {
        "rows": len(rules.table),
        "without file": sum(not (folder / path).is_file() for path in rules.table),
        "reports kept": reports,
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
    if table.get("labels not asked about"):
        lines.append(
            f"{table['labels not asked about']} labels not asked about: see {root / REPORT}"
        )
    if table.get("columns not asked about"):
        lines.append(
            f"{table['columns not asked about']} columns of which training images have no two "
            "values to choose from: not asked about"
        )
    return lines


Used = tuple[str, int, str]  # an image's source, frame and id


def used(images: pa.Table) -> Iterator[Used]:
    """What is used, by source and frame, of a table with SEEN's columns."""
    for batch in images.select(["source", "frame", "id"]).to_batches(10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns))


def write_report(
    path: Path,
    images: Iterable[Used],
    refusals: Iterable[Refusal],
    reviews: Iterable[Review] = (),
) -> None:
    """One row a file, frame or row of gold values: path, frame, status, reason, image_id.

    `images` come by source and frame.
    """
    verdicts = {review.image_id: review.verdict for review in reviews}
    apart: dict[tuple[str, int], tuple[str, str, str]] = {}
    for r in refusals:
        decided = verdicts.get(r.image_id, r.status) if r.status == "quarantined" else r.status
        apart[r.path, r.frame] = (decided, r.reason, r.image_id)
    rows = (((i[0], i[1]), ("used", "", i[2])) for i in images if (i[0], i[1]) not in apart)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["path", "frame", "status", "reason", "image_id"])
        table.writerows([*place, *row] for place, row in merge(rows, sorted(apart.items())))
    partial.replace(path)
