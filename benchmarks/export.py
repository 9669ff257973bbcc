"""What leaves a large workspace: seconds and peak memory of the export and of the report.

    python -m benchmarks.export                             # 300,000 rows
    python -m benchmarks.export --rows 10000000             # needs about 30 GB of disk
    python -m benchmarks.export --rows 10000000 --chosen    # kept as a selection keeps them

A record of drawn pictures of 48 x 48, ten triplets an image, each judged and decided, nine of ten
kept; with `--chosen` one of an image's ten is chosen, and seven of ten of these are kept. The
record is written by DuckDB and is not what is timed; its pictures are five hundred, each with a
number in a corner. Then the code of `triptych export` and of `triptych report` runs in a process of
its own, whose memory is read as it runs. `--shard-mb` is `export.shard_mb`. Ends with one line of
JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import duckdb
import numpy as np
import typer

from engine.config import Config
from engine.imaging.ingest import picture_of
from engine.lineage.opening import maintaining, writing
from engine.pixels import pixels_id
from engine.records import TYPES_BY_TABLE, Image, Picture, Task, content_id, schema_of
from engine.workspace import Workspace

ROWS_AN_IMAGE = 10
PART = 500_000  # rows of a shard
TASK = Task.make("MR", "disease", "easy", "choice", "direct")

_TRIPLETS = f"""SELECT md5('t' || n) AS id, i.id AS image_id, '{content_id("generator")}' AS
    generator_id, '{TASK.id}' AS task_id, '' AS prompt_hash, 7::BIGINT AS seed,
    n % {ROWS_AN_IMAGE} AS sample, 1::BIGINT AS round,
    'Is there a lesion of kind ' || (hash(n) % 9973) || ' in lobe ' || n % 977 || '?' AS question,
    ['yes', 'no', 'cannot say'] AS options, 'yes' AS answer,
    'The region at ' || hash(n + 1) % 7919 || ' is brighter than the tissue around it, has margin '
    || 'of ' || n % 31 || ' and is seen on ' || hash(n + 2) % 97 || ' of the slices.' AS rationale,
    repeat('raw text ', 30) || n AS raw, -0.5 AS logprob, NULL::VARCHAR AS problem,
    []::VARCHAR[] AS derived_from, NULL::VARCHAR AS program, []::VARCHAR[] AS known,
    1::BIGINT AS tries
FROM range({{low}}, {{high}}) r(n) JOIN images i ON i.place = n // {ROWS_AN_IMAGE}"""
_JUDGEMENTS = f"""SELECT md5('j' || n) AS id, md5('t' || n) AS triplet_id,
    '{content_id("judge")}' AS judge_id, hash(n) % 1000 / 1000 AS factuality, 0.5 AS reasoning,
    0.5 AS relevance, hash(n) % 1000 / 1000 AS overall, hash(n) % 1000 / 1000 AS probability
FROM range({{low}}, {{high}}) r(n)"""
_DECISIONS = """SELECT md5('d' || n) AS id, md5('t' || n) AS triplet_id, 'rules' AS rules_id,
    1::BIGINT AS round, {keep} AS keep, CASE WHEN {keep} THEN 'kept' ELSE {why} END AS reason,
    0.5 AS score, 0.1 AS threshold
FROM range({{low}}, {{high}}) r(n) ORDER BY triplet_id"""
_CHOSEN = f"n % {ROWS_AN_IMAGE} = hash(n // {ROWS_AN_IMAGE}) % {ROWS_AN_IMAGE}"
_BY_SHARE = _DECISIONS.format(keep="hash(n) % 10 > 0", why="'below threshold'")
_BY_CHOICE = _DECISIONS.format(
    keep=f"({_CHOSEN} AND hash(n) % 10 < 7)",
    why=f"CASE WHEN {_CHOSEN} THEN 'below threshold' WHEN hash(n) % 3 > 0 "
    "THEN 'same answer as the chosen row' ELSE 'another answer was judged better' END",
)
PICTURES = 500  # that differ by more than a number in a corner


def commit_images(workspace: Workspace, number: int) -> None:
    """Images as ingest commits them."""
    from benchmarks.scale import base_picture, drawn
    from pipelines.ingest import SHARD

    base = base_picture()
    pictures = [drawn(n, base) for n in range(PICTURES)]
    stage = workspace.begin("ingest", 0, "made")
    for low in range(0, number, SHARD):
        rows, pngs = [], []
        for n in range(low, min(low + SHARD, number)):
            pixels = pictures[n % PICTURES].copy()
            pixels[0, :4] = np.array([n], "<u4").view(np.uint8)
            rows.append(_image(n, pixels_id(pixels), len(pixels)))
            pngs.append(picture_of(rows[-1].id, pixels))
        stage.write(Image, rows, f"{low // SHARD:05d}")
        stage.write(Picture, pngs, f"{low // SHARD:05d}")
    stage.metrics = {"images": number}
    workspace.commit(stage)


def _image(number: int, image_id: str, side: int) -> Image:
    patient = number // 2
    return Image(
        id=image_id,
        width=side,
        height=side,
        modality="MR",
        anatomy="head",
        group=f"p{patient:07d}",
        patient=f"p{patient:07d}",
        split=("train", "train", "train", "test")[patient % 4],
        source=f"images/{number:07d}.png",
        rendering='{"facts":{},"frame":0}',
        deidentification="none needed",
        is_synthetic=False,
    )


def fill(folder: Path, rows: int, shard_mb: float, chosen: bool) -> None:
    """A workspace of so many triplets."""
    config = Config.model_validate({"name": "large", "source": {"path": "/none", "public": True}})
    recorded = config.recorded() | {"export": {"shard_mb": shard_mb}}
    with writing(folder, "large", recorded) as workspace:
        commit_images(workspace, rows // ROWS_AN_IMAGE)
        with duckdb.connect() as db:
            shards = [str(path) for _, path, _ in workspace.shards("images")]
            db.execute(
                "CREATE TABLE images AS SELECT id, row_number() OVER () - 1 AS place "
                "FROM read_parquet(?)",
                [shards],
            )
            _stage(workspace, db, "generate", "triplets", _TRIPLETS, rows)
            _stage(workspace, db, "judge", "judgements", _JUDGEMENTS, rows)
            decisions = _BY_CHOICE if chosen else _BY_SHARE
            _stage(workspace, db, "select", "decisions", decisions, rows)


def _stage(
    workspace: Workspace, db: duckdb.DuckDBPyConnection, name: str, table: str, sql: str, rows: int
) -> None:
    stage = workspace.begin(name, 1, content_id(name))
    if table == "triplets":
        stage.write(Task, [TASK])
    columns = ", ".join(f'"{c}"' for c in schema_of(TYPES_BY_TABLE[table]).names)
    for number, low in enumerate(range(0, rows, PART)):
        path = stage.folder / f"{table}-{number:05d}.parquet"
        part = sql.format(low=low, high=min(low + PART, rows))
        db.execute(f"COPY (SELECT {columns} FROM ({part})) TO '{path}' (COMPRESSION zstd)")
    workspace.commit(stage)


def leave(folder: Path, profiled: bool) -> dict[str, Any]:
    """Seconds of the export and of the report, and this process's peak memory in MiB."""
    import cProfile
    import pstats

    from engine.hub.publish import publish
    from pipelines.report.page import write_report

    seconds: dict[str, Any] = {}
    watch = cProfile.Profile()
    with maintaining(folder) as workspace:
        for name, work in (
            ("export", lambda: publish(workspace)),
            ("report", lambda: write_report(workspace, folder / "report")),
        ):
            started, used = time.perf_counter(), time.process_time()
            watch.runcall(work) if profiled else work()
            seconds[name] = round(time.perf_counter() - started, 2)
            seconds[f"{name}_cpu"] = round(time.process_time() - used, 2)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds[f"{name}_peak_mib"] = round(peak)
    if profiled:
        pstats.Stats(watch, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    return seconds


def main(
    rows: Annotated[int, typer.Option(help="Triplets.")] = 300_000,
    shard_mb: Annotated[float, typer.Option(help="MB of a shard.")] = 500,
    chosen: Annotated[bool, typer.Option(help="One of an image's rows at most is kept.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Where the workspace is kept.")] = None,
    profile: Annotated[bool, typer.Option(help="Where the time goes.")] = False,
    one: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fill, leave and tell."""
    if one is not None:
        print(json.dumps(leave(one, profile)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch) / "w"
        if not (folder / "workspace.json").exists():
            folder.mkdir(parents=True)
            fill(folder, rows, shard_mb, chosen)
        words = [sys.executable, "-m", "benchmarks.export", "--one", str(folder)]
        done = subprocess.run(
            [*words, *(["--profile"] if profile else [])], stdout=subprocess.PIPE, check=True
        )
        told = json.loads(done.stdout.splitlines()[-1])
        sizes = sorted(p.stat().st_size for p in (folder / "dataset/data").iterdir())
    for name in ("export", "report"):
        speed = f"{rows / told[name]:,.0f} rows/s"
        spent = f"{told[name]:.1f} s, {told[f'{name}_cpu']:.1f} s of the processor"
        print(f"{name}: {spent}, {speed}, peak {told[f'{name}_peak_mib']:,} MiB")
    print(f"{len(sizes)} files, {sum(sizes) / 1e6:,.0f} MB, the largest {sizes[-1] / 1e6:,.0f} MB")
    print(json.dumps({"benchmark": "export", "rows": rows, "files": len(sizes)} | told))


if __name__ == "__main__":
    typer.run(main)
