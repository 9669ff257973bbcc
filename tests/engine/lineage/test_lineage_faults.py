"""Real processes: readers beside a writer, kill -9, a full disk, torn files. Nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.lineage.verify import verify
from engine.records import Decision, Triplet
from engine.workspace import Workspace
from tests.lineage_workspace import CONFIG

pytestmark = pytest.mark.loop

ROOT = Path(__file__).parents[3]
# Commits stages of three shards and as many decisions as triplets for ever; a line for each.
WRITER = """
import sys
from pathlib import Path
from engine.records import Decision, Image, Picture, Task, Triplet, content_id
from engine.workspace import Workspace
from engine.lineage.opening import writing
from tests.pictures import pictures_of
from tests.lineage_workspace import CONFIG, TASK, make_decision, make_image, make_triplet
with writing(Path(sys.argv[1]), "made", CONFIG) as workspace:
    print("open", flush=True)
    for n in range(len(workspace.commits()), int(sys.argv[2])):
        image = make_image(n, f"g{n}")
        rows = [make_triplet(image, "expert", k, n) for k in range(300)]
        stage = workspace.begin("generate", n, content_id("stage", n))
        stage.write(Image, [image])
        stage.write(Picture, pictures_of([image]))
        stage.write(Task, [TASK])
        for part in range(3):
            if f"triplets-{part:03d}" not in stage.done():
                stage.write(Triplet, rows[part::3], f"{part:03d}")
        stage.write(Decision, [make_decision(t, True, n) for t in rows])
        workspace.commit(stage)
        print(n, flush=True)
"""
READER = """
import sys, time
from pathlib import Path
from engine.workspace import Workspace
from engine.lineage.opening import writing
ledger, seen, asked = Workspace.existing(Path(sys.argv[1])).ledger(), 0, 0
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    with ledger.reading():
        counts = [ledger.sql(f"SELECT count(*) AS n FROM {t}")[0]["n"]
                  for t in ("triplets", "decisions")]
        stages = ledger.sql("SELECT count(*) AS n FROM commits")[0]["n"]
    assert counts[0] == counts[1] == 300 * stages, (counts, stages)
    assert stages >= seen, (stages, seen)
    seen, asked = stages, asked + 1
    time.sleep(0.01)
print(asked, seen)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write(root: Path, stages: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITER, str(root), str(stages)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def check(root: Path, committed: int) -> Workspace:
    """Everything that was said to be committed is there and sound."""
    workspace = Workspace.existing(root)
    assert len(workspace.commits()) >= committed
    assert verify(workspace).problems == []
    return workspace


def test_readers_never_see_half_a_stage_and_neither_side_fails(tmp_path: Path) -> None:
    assert write(tmp_path / "w", 1).returncode == 0
    readers = [start(READER, tmp_path / "w", 4) for _ in range(2)]
    writer = start(WRITER, tmp_path / "w", 10)
    for process in [writer, *readers]:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        if process is not writer:
            assert int(out.split()[0]) >= 1
    check(tmp_path / "w", 10)


def test_a_second_run_is_refused_in_one_line(tmp_path: Path) -> None:
    writer = start(WRITER, tmp_path / "w", 10**6)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    try:
        second = write(tmp_path / "w", 1)
    finally:
        writer.kill()
        writer.communicate()
    assert second.returncode == 1
    assert "is in use by another run" in second.stderr.splitlines()[-1]


def kill_once(root: Path, rng: random.Random) -> int:
    """Kill a writer at a random moment; returns how many stages it said it had committed."""
    writer = start(WRITER, root, 10**6)
    assert writer.stdout is not None
    lines = rng.randint(1, 3)
    told = [writer.stdout.readline() for _ in range(lines)]
    time.sleep(rng.uniform(0, 0.3))
    os.kill(writer.pid, signal.SIGKILL)
    told += (writer.communicate()[0] or "").splitlines()
    numbers = [int(line) for line in told if line.strip().isdigit()]
    return max(numbers, default=-1) + 1


def tear(root: Path, rng: random.Random) -> None:
    """Cut a shard of the stage in progress, as a failing disk would; make one where none is."""
    shards = sorted(root.glob("work/*/*.parquet"))
    if shards:
        path = rng.choice(shards)
        path.write_bytes(path.read_bytes()[: rng.randint(0, path.stat().st_size - 1)])


def damage_ledger(root: Path, rng: random.Random) -> None:
    path = root / "ledger.duckdb"
    path.write_bytes(path.read_bytes()[: rng.randint(0, 8000)])


def faults(root: Path, number: int, seed: int) -> None:
    rng, committed = random.Random(seed), 0
    for _ in range(number):
        committed = max(committed, kill_once(root, rng))
        rng.choice([tear, tear, damage_ledger, lambda *_: None])(root, rng)
        told = {p["what"] for p in verify(Workspace.existing(root)).problems}
        assert told <= {
            "the ledger misses a stage",
            "the ledger cannot be read",
            "the ledger is damaged",
        }
        commits = len(Workspace.existing(root).commits())
        assert commits >= committed
        assert write(root, commits + 1).returncode == 0
        workspace = check(root, commits + 1)
    rows = workspace.read(Triplet)
    assert len(rows) == len({t.id for t in rows}) == 300 * len(workspace.commits())
    assert len(workspace.read(Decision)) == len(rows)


def test_kill_9_and_torn_files_lose_nothing_that_was_committed(tmp_path: Path) -> None:
    faults(tmp_path / "w", 3, seed=0)


@pytest.mark.slow
def test_100_random_faults_lose_nothing_that_was_committed(tmp_path: Path) -> None:
    for series in range(10):
        faults(tmp_path / str(series), 10, seed=series)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(small_disk: Path) -> None:
    root = small_disk / "w"
    full = write(root, 10**6)
    assert full.returncode == 1
    committed = [int(line) + 1 for line in full.stdout.splitlines() if line.isdigit()]
    told = {p["what"] for p in verify(Workspace.existing(root)).problems}
    assert told <= {"the ledger misses a stage"}, told
    assert len(Workspace.existing(root).commits()) >= max(committed, default=0)
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    commits = len(Workspace.existing(root).commits())
    again = write(root, commits + 2)
    assert again.returncode == 0, again.stderr
    check(root, commits + 2)


def test_a_torn_shard_of_pictures_stops_the_run_with_one_line(tmp_path: Path) -> None:
    assert write(tmp_path / "w", 1).returncode == 0
    shard = next((tmp_path / "w" / "events").glob("*/pictures-000.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(TriptychError, match="restore it from a backup"):
        with writing(tmp_path / "w", "made", CONFIG):
            pass


def test_a_torn_committed_shard_is_told_and_made_again_from_the_ledger(tmp_path: Path) -> None:
    assert write(tmp_path / "w", 2).returncode == 0
    workspace = Workspace.existing(tmp_path / "w")
    shard = sorted(workspace.events.glob("*/triplets-001.parquet"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    told = {(p["what"], p["where"]) for p in verify(workspace).problems}
    where = shard.parent.name
    assert {(f"{shard.name} was changed", where), (f"{shard.name} is torn", where)} <= told
    with writing(workspace.root, "made", CONFIG):
        pass
    assert verify(workspace).problems == []
