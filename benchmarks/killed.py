"""Stage generate, its driver and its worker killed at random, against an undisturbed run of it.

    python -m benchmarks.killed                          # ten kills of each, about ten minutes
    python -m benchmarks.killed --kills 2 --shards 12    # to look at

The tiny model writes rows about drawn phantoms in shards of eight tasks. One run is left alone. Of
one the driver is killed (kill -9), without Ray, so that the driver is the worker too; of one, on a
Ray of its own, the worker. The moments are drawn: half of the kills come while the model is loaded,
half within six shards of the first that is done after it. A driver that was killed, or that ended
because a worker died too often, is started again by the same command. In the end the shards have to
be those of the undisturbed run, byte for byte, and the record has to verify.

What was done is kept in --folder, so that the same command goes on where it was stopped. Prints a
table, then one line of JSON; the exit status is 1 where something differs.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import psutil
import pyarrow.parquet as pq
import typer

from engine.cluster import INLINE
from engine.config import load
from engine.lineage.files import file_hash, shards_in
from engine.lineage.verify import verify
from engine.records import Run, Triplet
from engine.vlm import tiny
from engine.workspace import Workspace
from pipelines import generate, ingest, plan
from pipelines.context import opened, run_stage

BATCH = 8
SHARDS_AHEAD = 6  # how far a kill may come after the model is loaded
LOOK_S = 0.05
RUNS = 3  # of the command for each kill, at most: then it makes no way
ACTOR = "_ShardActor"  # in the name that Ray gives a worker's process


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of an undisturbed stage to its first shard, and of each shard after."""

    start: float
    shard: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run: kills, how many of them came when shards had been done since the last,
    how often the command was given, and what differs from the undisturbed run."""

    killed: str
    kills: int
    at_work: int
    runs: int
    shards: int
    rows: int
    differing: tuple[str, ...]
    off: float  # in rows that differ in nothing else, the largest difference of a log-probability
    problems: int


def drive(folder: str, tasks: int, address: str, only_plan: bool = False) -> None:
    """In a process of its own: the stages, taken up where they were left."""
    config = load(
        Path("configs/demo.yaml"),
        [
            "source.phantoms={MR: 24, ultrasound: 24}",
            f"generator.model={tiny.FOLDER}",
            f"generator.tasks={tasks}",
            f"generator.batch={BATCH}",
            f"cluster.address={address}",
            "cluster.cpus=1",
            "cluster.threads=1",
        ],
    )
    with opened(config, Path(folder)) as context:
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "plan", 1, plan.plan, [("ingest", 0)], {})
        if not only_plan:
            run_stage(context, "generate", 1, generate.generate, [("plan", 1)], {})


class Case:
    """A workspace on which the stage runs, and the kills that it had: kept in a file beside it."""

    def __init__(self, root: Path, name: str, tasks: int, address: str, start: Path) -> None:
        self.folder, self.name, self.tasks, self.address = root / name, name, tasks, address
        self.log, self.says = root / f"{name}.jsonl", root / f"{name}.txt"
        if not self.folder.exists():
            shutil.copytree(start, root / f".{name}")
            (root / f".{name}").rename(self.folder)

    def begin(self) -> subprocess.Popen[bytes]:
        """The command, given."""
        self.note(what="run")
        code = f"drive({str(self.folder)!r}, {self.tasks}, {self.address!r})"
        return started(code, self.says)

    def note(self, **what: Any) -> None:
        with self.log.open("a") as out:
            out.write(json.dumps({"shards": len(self.shards()), **what}) + "\n")

    def noted(self, what: str) -> list[dict[str, Any]]:
        """What was noted of a kind: runs, kills."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [told for line in lines if (told := json.loads(line))["what"] == what]

    def kills_at_work(self) -> int:
        """Kills before which shards had been done since the kill before."""
        done = [0, *(told["shards"] for told in self.noted("kill"))]
        return sum(after > before for before, after in pairwise(done))

    def shards(self) -> list[Path]:
        """The stage's shards of triplets, in work or committed."""
        name = f"{Triplet.table}-*.parquet"
        places = ("work/*", "events/*-generate-*")
        return [path for place in places for path in self.folder.glob(f"{place}/{name}")]

    def at_work(self) -> bool:
        """Whether the stage has begun and is not committed."""
        return any(self.folder.glob("work/*"))

    def committed(self) -> Path | None:
        return next(self.folder.glob("events/*-generate-*"), None)


def started(code: str, says: Path) -> subprocess.Popen[bytes]:
    """A process of ours that runs a line of this module and writes what it says to a file."""
    with says.open("ab") as out:
        line = f"from benchmarks.killed import drive; {code}"
        return subprocess.Popen([sys.executable, "-c", line], stdout=out, stderr=out)


def ended(process: subprocess.Popen[bytes], says: Path) -> None:
    """Wait for a process that has to end well."""
    if process.wait():
        raise SystemExit(f"the stage failed: {says}")


def pause(process: subprocess.Popen[bytes], case: Case, pace: Pace, rng: random.Random) -> None:
    """Wait for the moment of a kill, from when the model begins to be loaded, or for the end."""
    seconds = rng.uniform(0, pace.start)
    if rng.random() < 0.5:
        before = len(case.shards())
        _wait(lambda: len(case.shards()) > before or process.poll() is not None)
        seconds = rng.uniform(0, SHARDS_AHEAD * pace.shard)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def kill_driver(case: Case, kills: int, pace: Pace, rng: random.Random) -> None:
    """The driver, killed until it had so many."""
    while not case.committed():
        process = case.begin()
        if len(case.noted("kill")) < kills:
            _wait(lambda p=process: case.at_work() or p.poll() is not None)
            pause(process, case, pace, rng)
            if process.poll() is None:
                process.kill()
                process.wait()
                case.note(what="kill")
                continue
        ended(process, case.says)


def kill_worker(case: Case, kills: int, pace: Pace, rng: random.Random) -> None:
    """The worker on Ray, killed until it had so many; the run is begun again where it gives up."""
    while not case.committed() and len(case.noted("run")) < RUNS * kills:
        process = case.begin()
        seen: set[int] = set()
        while len(case.noted("kill")) < kills:
            _wait(lambda p=process, s=seen: p.poll() is not None or _new(p, s))
            if process.poll() is not None:
                break
            worker = next(iter(_new(process, seen)), None)
            if worker is None:
                continue
            seen.add(worker.pid)
            pause(process, case, pace, rng)
            with suppress(psutil.NoSuchProcess):
                if process.poll() is None:
                    worker.kill()  # it is the process that was found, whatever has its number now
                    case.note(what="kill")
        process.wait()


def _new(process: subprocess.Popen[bytes], seen: set[int]) -> list[psutil.Process]:
    """Workers of Ray that a driver of ours has, apart from those seen."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if child.pid not in seen and ACTOR in " ".join(child.cmdline()):
                    found.append(child)
    return found


def _wait(until: Callable[[], object]) -> None:
    while not until():
        time.sleep(LOOK_S)


def pace_of(case: Case) -> Pace:
    """How fast an undisturbed run was, by when its shards were whole."""
    folder = case.committed()
    assert folder is not None
    begun = min(path.stat().st_mtime for path in folder.glob(f"{Run.table}-*"))
    whole = sorted(path.stat().st_mtime for path in case.shards())
    return Pace(whole[0] - begun, (whole[-1] - whole[0]) / max(len(whole) - 1, 1))


def outcome(case: Case, calm: Case) -> Outcome:
    """How a run ended, beside the undisturbed one."""
    ours, theirs = _files(case), _files(calm)
    differing = {n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)}
    folder = case.committed()
    problems = verify(Workspace.existing(case.folder)).problems if folder else ["not committed"]
    return Outcome(
        case.name,
        len(case.noted("kill")),
        case.kills_at_work(),
        len(case.noted("run")),
        len(case.shards()),
        sum(pq.read_metadata(path).num_rows for path in case.shards()),
        tuple(sorted(differing)),
        max((_off(case, calm, name) for name in differing), default=0.0),
        len(problems),
    )


def _files(case: Case) -> dict[str, str]:
    """SHA-256 of the stage's shards; what is of the runs themselves is left out."""
    folder = case.committed()
    paths = shards_in(folder) if folder else []
    return {p.name: file_hash(p) for p in paths if not p.name.startswith(f"{Run.table}-")}


def _off(case: Case, calm: Case, name: str) -> float:
    """By how much log-probabilities differ in a shard; infinitely where anything else does."""
    pairs = [next((p for p in each.shards() if p.name == name), None) for each in (case, calm)]
    if None in pairs:
        return float("inf")
    ours, theirs = (pq.read_table(path) for path in pairs)
    if not ours.drop_columns("logprob").equals(theirs.drop_columns("logprob")):
        return float("inf")
    both = zip(ours["logprob"].to_pylist(), theirs["logprob"].to_pylist())
    return max((abs((a or 0.0) - (b or 0.0)) for a, b in both), default=0.0)


def cases(folder: Path, kills: int, shards: int, seed: int) -> Iterator[Outcome]:
    """The runs, one after the other; what was done before is not done again."""
    tasks = shards * BATCH
    start = folder / "start"
    code, says = f"drive({str(start)!r}, {tasks}, {INLINE!r}, only_plan=True)", folder / "start.txt"
    ended(started(code, says), says)
    calm = Case(folder, "nobody", tasks, INLINE, start)
    if not calm.committed():
        ended(calm.begin(), calm.says)
    yield outcome(calm, calm)
    pace = pace_of(calm)
    for name, address, kill in (
        ("driver", INLINE, kill_driver),
        ("worker", "null", kill_worker),
    ):
        case = Case(folder, name, tasks, address, start)
        kill(case, kills, pace, random.Random(f"{seed} {name} {len(case.noted('kill'))}"))
        yield outcome(case, calm)


def main(
    kills: Annotated[int, typer.Option(min=1, help="of the driver, and of the worker")] = 10,
    shards: Annotated[int, typer.Option(min=2, help="four times the kills leaves room")] = 48,
    folder: Annotated[Path, typer.Option(help="a new one, or that of a run to go on with")] = Path(
        "runs/killed"
    ),
    seed: Annotated[int, typer.Option(help="of the moments")] = 0,
) -> None:
    """Print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    print("| killed | kills | after shards | commands | shards | rows | that differ | record |")
    print("| --- |" + " ---: |" * 6 + " --- |")
    done = []
    for one in cases(folder.absolute(), kills, shards, seed):
        done.append(one)
        differ = f"{len(one.differing)}, by {one.off:.2g}" if one.differing else "0"
        record = f"{one.problems} problems" if one.problems else "verifies"
        print(
            f"| {one.killed} | {one.kills} | {one.at_work} | {one.runs} | {one.shards} | "
            f"{one.rows} | {differ} | {record} |",
            flush=True,
        )
    wanted = [0, kills, kills]
    sound = not any(one.differing or one.problems for one in done)
    sound = sound and [one.kills for one in done] == wanted
    print(json.dumps({"sound": sound, "cases": [asdict(one) for one in done]}))
    raise typer.Exit(0 if sound else 1)


if __name__ == "__main__":
    typer.run(main)
