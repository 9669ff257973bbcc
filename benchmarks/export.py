"""What leaves a large workspace: seconds and peak memory of the export and of the report.

    python -m benchmarks.export                    # 300,000 rows
    python -m benchmarks.export --rows 10000000    # needs about 30 GB of disk

A record of drawn pictures of 48 x 48, ten triplets an image, each judged and decided, nine of ten
kept. It is written by DuckDB and is not what is timed. Then the code of `triptych export` and of
`triptych report` runs in a process of its own, whose memory is read as it runs. `--shard-mb` is
`export.shard_mb`. Ends with one line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import duckdb
import typer

from engine.config import Config
from engine.lineage.opening import maintaining, writing
from engine.records import TYPES_BY_TABLE, Task, content_id, schema_of
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
    1::BIGINT AS round, hash(n) % 10 > 0 AS keep,
    CASE WHEN hash(n) % 10 > 0 THEN 'kept' ELSE 'below threshold' END AS reason,
    0.5 AS score, 0.1 AS threshold
FROM range({low}, {high}) r(n)"""


def fill(folder: Path, rows: int, shard_mb: float) -> None:
    """A workspace of so many triplets."""
    from benchmarks.scale import commit_images

    config = Config.model_validate({"name": "large", "source": {"path": "/none", "public": True}})
    recorded = config.recorded() | {"export": {"shard_mb": shard_mb}}
    with writing(folder, "large", recorded) as workspace:
        commit_images(SimpleNamespace(workspace=workspace), rows // ROWS_AN_IMAGE)
        with duckdb.connect() as db:
            shards = [str(path) for _, path, _ in workspace.shards("images")]
            db.execute(
                "CREATE TABLE images AS SELECT id, row_number() OVER () - 1 AS place "
                "FROM read_parquet(?)",
                [shards],
            )
            _stage(workspace, db, "generate", "triplets", _TRIPLETS, rows)
            _stage(workspace, db, "judge", "judgements", _JUDGEMENTS, rows)
            _stage(workspace, db, "select", "decisions", _DECISIONS, rows)


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
            fill(folder, rows, shard_mb)
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
