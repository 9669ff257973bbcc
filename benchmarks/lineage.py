"""The ledger at size: commits against DuckDB's own bulk load, and what questions cost.

    python -m benchmarks.lineage --triplets 1e6

A synthetic record of N triplets, 3 N judgements, N decisions, 100 checkpoints in ten rounds with N
rows seen in training, N/50 images of 24 bytes each, and one group of 500 images. It is committed
stage by stage as a run would, and the very same Parquet is loaded by DuckDB alone: all of it with
one `CREATE TABLE AS` a table, and once more with a transaction a stage in one connection. A commit
also hashes the shards, indexes the rows, and opens and closes the ledger. Beside seconds stand
seconds of the processor (`cpu`), which do not grow where other work has the cores. Ends with one
line of JSON. N = 1e7 needs about 20 GB of disk.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import duckdb
import typer

from engine.lineage.opening import writing
from engine.lineage.reach import reach
from engine.lineage.trace import trace
from engine.lineage.verify import verify
from engine.records import ROW_TYPES, TYPES_BY_TABLE, Model, Picture, Task, content_id, schema_of
from engine.workspace import Workspace

ROUNDS, TRAININGS, GROUP = 10, 10, 500
TASK = Task.make("MR", "disease", "easy", "closed", "direct")
SHARD = 500_000  # rows
MEMORY = "4GB"  # what DuckDB alone may take, as the ledger
BASE = content_id("benchmark base")


def model_id(role: str, round: int, number: int = 0) -> str:
    """The id of a synthetic model."""
    return content_id("benchmark", role, round, number)


@dataclass
class Spent:
    """Seconds on the clock and of the processor, added up over the times it is entered."""

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> Spent:
        self.wall -= time.perf_counter()
        self.cpu -= time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


class Maker:
    """Writes shards of synthetic rows with DuckDB, in bounded memory."""

    def __init__(self, workspace: Workspace, triplets: int) -> None:
        self.workspace, self.triplets = workspace, triplets
        self.images = max(triplets // 50, 2 * GROUP)
        self.each = triplets // ROUNDS
        self.spent, self.rows = Spent(), 0
        settings = {"memory_limit": "2GB", "temp_directory": str(workspace.root / "making.tmp")}
        self.db = duckdb.connect(config=settings)

    def stage(self, name: str, round: int, tables: dict[str, tuple[str, int, int]]) -> None:
        """Write each table's rows low to high, then commit; the commit is what is timed."""
        stage = self.workspace.begin(name, round, content_id(name, round))
        for table, (query, low, high) in tables.items():
            row_type = TYPES_BY_TABLE[table]
            columns = ", ".join(f'"{c}"' for c in schema_of(row_type).names)
            for number, start in enumerate(range(low, high, SHARD)):
                path = stage.folder / f"{table}-{number:03d}.parquet"
                end = min(start + SHARD, high)
                self.db.execute(
                    f"COPY (SELECT {columns} FROM ({query.format(r=round, low=start, high=end)})) "
                    f"TO '{path}' (COMPRESSION zstd)"
                )
                self.rows += end - start
        with self.spent:
            self.workspace.commit(stage)

    def model(self, name: str, round: int, number: int, role: str, parent: str, seen: str) -> None:
        """A training of one checkpoint, which saw the rows of `seen`."""
        stage = self.workspace.begin(name, round, content_id(name, round, number))
        model = Model(
            id=model_id(role, round, number),
            role=role,
            stage=name,
            round=round,
            parent_id=parent,
            path="models/none",
            metrics="{}",
            step=1000,
        )
        stage.write(Model, [model])
        path = stage.folder / "consumption-000.parquet"
        self.db.execute(
            f"COPY (SELECT md5('{model.id}' || row_id) AS id, '{model.id}' AS model_id, row_id, "
            f"row_table, '{name}' AS stage, 1::BIGINT AS first_step, 100::BIGINT AS by_step "
            f"FROM ({seen})) TO '{path}' (COMPRESSION zstd)"
        )
        with self.spent:
            commit = self.workspace.commit(stage)
        self.rows += sum(commit["rows"].values())


PICTURES = """SELECT md5('i' || n) AS id, encode('png ' || md5('i' || n))::BLOB AS png,
    encode('signature')::BLOB AS signature
FROM range({low}, {high}) r(n)"""

IMAGES = f"""SELECT md5('i' || n) AS id,
    256 AS width, 256 AS height, 'MR' AS modality, 'head' AS anatomy,
    CASE WHEN n < {GROUP} THEN md5('large') ELSE md5('g' || (n // 4)) END AS "group",
    'train' AS split, 'MR/' || n || '.dcm' AS source, '{{{{"window":[40,80]}}}}' AS rendering,
    'strict' AS deidentification, true AS is_synthetic, NULL::VARCHAR AS truth,
    md5('g' || (n // 4)) AS patient, NULL::VARCHAR AS labels, NULL::VARCHAR AS report,
    '' AS twin_of, NULL::VARCHAR AS drawn
FROM range({{low}}, {{high}}) r(n)"""

TRIPLETS = """SELECT md5('t' || n) AS id, md5('i' || (hash(n) % {images})) AS image_id,
    '{writer}' AS generator_id, '{task}' AS task_id, '' AS prompt_hash, 7::BIGINT AS seed,
    n % 8 AS sample, {{r}}::BIGINT AS round,
    'Is there a lesion of kind ' || (n % 977) || ' in the left lobe?' AS question,
    ['yes', 'no', 'cannot say'] AS options, 'yes' AS answer,
    'The image shows a region of ' || (n % 7919) || ' with a bright margin' AS rationale,
    '<question>Is there a lesion of kind ' || (n % 977) || ' in the left lobe?</question><think>'
        || 'The image shows a region of ' || (n % 7919) || '</think><answer>yes</answer>' AS raw,
    random() AS logprob, NULL::VARCHAR AS problem, []::VARCHAR[] AS derived_from,
    NULL::VARCHAR AS program, []::VARCHAR[] AS known, 1::BIGINT AS tries
FROM range({{low}}, {{high}}) r(n)"""

JUDGEMENTS = """SELECT md5('j' || n) AS id, md5('t' || (n // 3)) AS triplet_id,
    '{judge}' AS judge_id, random() AS factuality, random() AS reasoning, random() AS relevance,
    random() AS overall, random() AS probability
FROM range({{low}}, {{high}}) r(n)"""

DECISIONS = """SELECT md5('d' || n) AS id, md5('t' || n) AS triplet_id, 'rules' AS rules_id,
    {{r}}::BIGINT AS round, n % 3 = 0 AS keep,
    CASE WHEN n % 3 = 0 THEN 'kept' ELSE 'below the threshold' END AS reason,
    random() AS score, 0.5 AS threshold
FROM range({{low}}, {{high}}) r(n)"""

PREFERENCES = """SELECT md5('p' || n) AS id, md5('i' || (hash(n) % {images})) AS image_id,
    md5('t' || n) AS chosen_id, md5('t' || (n + 1)) AS rejected_id, 'factuality' AS criterion,
    10.0::DOUBLE AS tier_chosen, 6.0::DOUBLE AS tier_rejected, 'simulated' AS expert,
    {{r}}::BIGINT AS round, n % 4 = 0 AS holdout, 'better' AS outcome, '' AS item_id, '' AS at,
    NULL::DOUBLE AS seconds, false AS repeat, '' AS comment
FROM range({{low}}, {{high}}) r(n)"""


def fill(maker: Maker) -> None:
    """Ten rounds, ten checkpoints a round: nine of the policy's line and the refined judge."""
    base = Model(
        id=BASE, role="base", stage="base", round=0, parent_id=None, path="tiny", metrics="{}"
    )
    stage = maker.workspace.begin("outside", 0, content_id("outside"))
    stage.write(Model, [base])
    stage.write(Task, [TASK])
    maker.workspace.commit(stage)
    images = {"images": (IMAGES, 0, maker.images), "pictures": (PICTURES, 0, maker.images)}
    maker.stage("ingest", 0, images)
    writer = judge = BASE
    seen_each = maker.triplets // (ROUNDS * TRAININGS)
    for r in range(1, ROUNDS + 1):
        low, high = (r - 1) * maker.each, r * maker.each
        rows = TRIPLETS.format(images=maker.images, writer=writer, task=TASK.id)
        maker.stage("generate", r, {"triplets": (rows, low, high)})
        rows = JUDGEMENTS.format(judge=judge)
        maker.stage("judge", r, {"judgements": (rows, 3 * low, 3 * high)})
        maker.stage("select", r, {"decisions": (DECISIONS.format(), low, high)})
        pairs = PREFERENCES.format(images=maker.images)
        maker.stage("compare", r, {"preferences": (pairs, low, low + maker.each // 50)})
        parent = BASE
        for number in range(TRAININGS - 1):
            seen = (
                f"SELECT md5('t' || (3 * (hash(n, {number}, {r}) % {high // 3}))) AS row_id, "
                f"'triplets' AS row_table FROM range({seen_each}) s(n)"
            )
            maker.model("sft", r, number, "policy", parent, seen)
            parent = model_id("policy", r, number)
        pairs_seen = (
            "SELECT md5('p' || n) AS row_id, 'preferences' AS row_table "
            f"FROM range({low}, {low + maker.each // 50}) s(n)"
        )
        maker.model("refine", r, 0, "judge", judge, pairs_seen)
        writer, judge = parent, model_id("judge", r)


ROWS = "SELECT * FROM read_parquet(?)"


def own_load(workspace: Workspace, path: Path) -> Spent:
    """DuckDB's own bulk load of the same Parquet; pictures are left out, as by us."""
    with Spent() as spent, duckdb.connect(str(path), config={"memory_limit": MEMORY}) as db:
        for row_type in ROW_TYPES:
            shards = sorted(map(str, workspace.events.glob(f"*/{row_type.table}-*.parquet")))
            if shards:
                db.execute(f"CREATE TABLE {row_type.table} AS {ROWS}", [shards])
    return spent


def own_load_by_stage(workspace: Workspace, path: Path) -> Spent:
    """The same with a transaction a stage, in a connection that stays open."""
    made: set[str] = set()
    with Spent() as spent, duckdb.connect(str(path), config={"memory_limit": MEMORY}) as db:
        for folder in sorted(workspace.events.iterdir()):
            db.begin()
            tables = {p.stem.rpartition("-")[0] for p in folder.glob("*.parquet")}
            for table in sorted(tables - {Picture.table}):
                into = f"INSERT INTO {table}" if table in made else f"CREATE TABLE {table} AS"
                shards = sorted(map(str, folder.glob(f"{table}-*.parquet")))
                db.execute(f"{into} {ROWS}", [shards])
                made.add(table)
            db.commit()
    return spent


def spent_on(work: Callable[[], Any]) -> Spent:
    """What one call takes."""
    with Spent() as spent:
        work()
    return spent


def command_seconds(workspace: Workspace, *words: str) -> float:
    """Seconds of the whole command, the interpreter's start included."""
    command = [sys.executable, "-m", "pipelines.cli", "lineage", *words]
    started = time.perf_counter()
    subprocess.run(
        [*command, "-w", str(workspace.root), "--json"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def measure(root: Path, triplets: int) -> dict[str, Any]:
    """Build, load, ask; every figure in one dictionary."""
    with writing(root, "benchmark", {"name": "benchmark"}) as workspace:
        maker = Maker(workspace, triplets)
        fill(maker)
        maker.db.close()
    ledger = workspace.ledger()
    commit = maker.spent
    rebuild = spent_on(lambda: ledger.rebuild(workspace.events))
    own = own_load(workspace, root / "own.duckdb")
    own_size = (root / "own.duckdb").stat().st_size
    (root / "own.duckdb").unlink()
    own_by_stage = own_load_by_stage(workspace, root / "own.duckdb")
    (root / "own.duckdb").unlink()
    parquet = sum(p.stat().st_size for p in workspace.events.glob("*/*.parquet"))
    ids = [content_of(n) for n in range(0, triplets, max(triplets // 20, 1))]
    traces = [spent_on(partial(trace, ledger, name)) for name in ids]
    group = ledger.sql("SELECT md5('large') AS g")[0]["g"]
    answer = reach(ledger, group)
    dry_runs = [spent_on(lambda: reach(ledger, group)) for _ in range(3)]
    with Spent() as verifying:
        report = verify_but_images(workspace)
    return {
        "benchmark": "lineage",
        "triplets": triplets,
        "rows": maker.rows,
        "commits": len(workspace.commits()),
        "commit_rows_per_second": round(maker.rows / commit.wall),
        "own_load_rows_per_second": round(maker.rows / own.wall),
        "commit_to_own_load": round(own.wall / commit.wall, 3),
        "commit_to_own_load_by_stage": round(own_by_stage.wall / commit.wall, 3),
        "rebuild_to_own_load": round(own.wall / rebuild.wall, 3),
        "commit_cpu_s": round(commit.cpu, 1),
        "rebuild_cpu_s": round(rebuild.cpu, 1),
        "own_load_cpu_s": round(own.cpu, 1),
        "own_load_by_stage_cpu_s": round(own_by_stage.cpu, 1),
        "commit_to_own_load_cpu": round(own.cpu / commit.cpu, 3),
        "commit_to_own_load_by_stage_cpu": round(own_by_stage.cpu / commit.cpu, 3),
        "rebuild_to_own_load_cpu": round(own.cpu / rebuild.cpu, 3),
        "parquet_mb": round(parquet / 1e6, 1),
        "ledger_mb": round(ledger.path.stat().st_size / 1e6, 1),
        "own_ledger_mb": round(own_size / 1e6, 1),
        "trace_ms_median": round(1000 * statistics.median(t.wall for t in traces), 1),
        "trace_ms_worst": round(1000 * max(t.wall for t in traces), 1),
        "trace_cpu_ms_median": round(1000 * statistics.median(t.cpu for t in traces), 1),
        "trace_command_s": round(command_seconds(workspace, "trace", ids[3]), 2),
        "withdraw_images": len(answer.images),
        "withdraw_rows": sum(answer.rows.values()),
        "withdraw_models": [len(answer.derived_models), len(answer.influenced_models)],
        "withdraw_dry_run_s": round(statistics.median(t.wall for t in dry_runs), 3),
        "withdraw_dry_run_cpu_s": round(statistics.median(t.cpu for t in dry_runs), 3),
        "verify_rows_per_second": round(report["rows"] / verifying.wall),
        "verify_rows_per_cpu_second": round(report["rows"] / verifying.cpu),
        "verify_mb_per_second": round(report["bytes"] / verifying.wall / 1e6, 1),
        "problems": report["problems"],
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def content_of(number: int) -> str:
    """The id of the synthetic triplet of a number."""
    import hashlib

    return hashlib.md5(f"t{number}".encode()).hexdigest()


def verify_but_images(workspace: Workspace) -> dict[str, Any]:
    """`verify`, where the synthetic images' ids are no hashes of pixels, as expected."""
    told = verify(workspace).to_dict()
    expected = "an image's id is not of its pixels"
    wrong = [p for p in told["problems"] if p["what"] != expected]
    return told | {"problems": wrong[:5]}


def main(
    triplets: Annotated[
        float, typer.Option(help="How many triplets; three judgements each.")
    ] = 1e5,
    keep: Annotated[Path | None, typer.Option(help="Build the workspace here and keep it.")] = None,
) -> None:
    """Build the synthetic record, time everything, print the JSON line."""
    root = keep or Path(tempfile.mkdtemp(prefix="triptych-lineage-"))
    try:
        print(f"building {int(triplets):,} triplets and what belongs to them", flush=True)
        figures = measure(root, int(triplets))
        for name, value in figures.items():
            print(f"  {name:32s} {value}")
        print(json.dumps(figures))
    finally:
        if keep is None:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    typer.run(main)
