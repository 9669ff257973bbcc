"""A folder and a few hundred verdicts: the whole loop, with readers who answer over HTTP.

    python -m benchmarks.experts            # readers who err in 0, 5 and 15 % of their answers
    python -m benchmarks.experts --full     # three seeds of each: the table of docs/evidence.md

Phantoms are written as a stranger's DICOM files, so that the workspace knows no truth of them.
`triptych init` writes the configuration, `triptych run` goes until people are needed, `triptych
annotate` serves the reading room, and simulated readers answer what its pages serve until nothing
is waiting; then `triptych run` goes on, to the dataset. A reader knows the truth of a picture by
its pixels alone, and errs at a stated rate. The truth that figures are made with is kept here.

For each round: verdicts spent so far; precision (right answer and reasoning) of the parsed rows, of
the kept ones; what was promised; the judge's AUC on parsed rows, alone and as used (its calibrated
probability, which knows the generator's log-probability), beside that of agreement and the
generator's log-probability, with the 95 % interval of what it is above them as used (patients
resampled); ECE of its probability; the kept share of questions; whether the refined judge took
over, and what it gained on the gate's verdicts. What would count as success, written down before:

    AUC as used of at least 0.90, and above agreement + log-probability with an interval that
    excludes 0
    precision of what is kept at least as promised (of what readers see, where they err)

Runs that were measured stay in --keep and are used again by the same code. Ends with one line of
JSON.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import PIL.Image
import typer

from engine.config.expert import Simulated
from engine.errors import PEOPLE
from engine.lineage.runs import code_id
from engine.pixels import pixels_id
from engine.records import Decision, Image, Item, Judgement, Triplet, Verdict, canonical, content_id
from engine.statistics import auc, auc_difference
from engine.workspace import Workspace
from generators import phantoms
from generators.phantoms.base import Truth
from generators.phantoms.dicom import phantom_seed, write_cohort
from generators.phantoms.oracle import is_true, reasons_truly
from reward_model.calibration import calibration_error
from reward_model.experts.simulated import SimulatedExpert
from reward_model.threshold import answer_key
from reward_model.verdicts import FIRST, SECOND, TIE

COUNTS = {"MR": 260, "ultrasound": 260}
SIZE, DIFFICULTY = 128, 0.3  # the demo's
ERRORS = (0.0, 0.05, 0.15)
READERS = ("reader-1", "reader-2")
SETTINGS = (
    "rounds=2",
    "seed={seed}",
    "source.split={{train: 0.7, val: 0.1, test: 0.2}}",
    "expert.verdicts={{first: 240, random: 200, informative: 60, test: 60, preferences: 0.2}}",
    "select.guarantee={{precision: 0.8, confidence: 0.9}}",
    "generator.tasks=480",
    "generator.samples=4",
    "generator.temperature=0.8",
    "generator.batch=128",
    "generator.max_tokens=44",
    "generator.styles={{direct: 0.5, step: 0.3, meta: 0.2}}",
    "reward.lr=4.0e-4",
    "reward.epochs=2",
    "reward.batch=16",
    "sft.lr=5.0e-4",
    "sft.epochs=2",
    "sft.batch=32",
    "sft.ask_share=0.3",
    "grpo={{lr: 5.0e-5, steps: 6, batch: 64, group: 8, max_tokens: 12, kl: 0}}",
    "evaluate={{questions: 90, max_tokens: 12, batch: 128}}",
    "cluster={{address: inline, threads: 2}}",
)
Truths = dict[str, Truth]


def draw(folder: Path, seed: int) -> Truths:
    """Write the studies; returns the truth of each picture by the hash of its pixels."""
    known: Truths = {}
    for path in write_cohort(folder, COUNTS, SIZE, seed, DIFFICULTY):
        path.with_name(f"{path.name}.truth.json").unlink(missing_ok=True)
    for kind, count in COUNTS.items():
        for number in range(count):
            phantom = phantoms.draw(kind, phantom_seed(seed, kind, number), SIZE, DIFFICULTY)
            known[pixels_id(phantoms.to_display(phantom))] = phantom.truth
    return known


# Readers


@dataclass
class Reader:
    """Someone who answers what the page serves, and errs at a rate."""

    client: httpx.Client
    truths: Truths
    error_rate: float
    seed: int
    given: int = 0

    def answers(self) -> Iterator[int]:
        """Give one answer after another until nothing is waiting; how many so far."""
        shown = self._get("/item").json()
        while shown["kind"] != "none":
            body = {"key": shown["key"], "seconds": 1.0, "comment": "", **self._answer(shown)}
            done = self.client.post("/answer", json=body)
            done.raise_for_status()
            self.given += 1
            yield self.given
            shown = done.json()

    def _get(self, path: str) -> httpx.Response:
        found = self.client.get(path)
        found.raise_for_status()
        return found

    def _answer(self, shown: dict[str, Any]) -> dict[str, Any]:
        png = self._get(f"/picture/{shown['image']['id']}").content
        truth = self.truths[pixels_id(np.asarray(PIL.Image.open(BytesIO(png))))]
        image = with_truth(truth)
        rows = [
            row_of(image, row, content_id(shown["key"], n)) for n, row in enumerate(shown["rows"])
        ]
        section = Simulated(error_rate=self.error_rate)
        mind = SimulatedExpert(section, ["direct"], self.seed, [image])
        item = Item.make(rows[0], rows[1] if len(rows) > 1 else None, "", 0, 0, 1)
        (said,) = mind.opinions([item], {row.id: row for row in rows})
        if shown["kind"] == "verdict":
            told: dict[str, Any] = {"verdict": said.verdict, "reasons": list(said.reasons)}
            if said.correction:
                options = rows[0].options
                told["correction"] = options.index(said.correction) if options else said.correction
            return told
        side = {FIRST: "left", SECOND: "right"}
        which = {c: said.preferences.get(c, TIE) for c in shown["criteria"]}
        return {"preferences": {c: side.get(word, word) for c, word in which.items()}}


def with_truth(truth: Truth) -> Image:
    """An image that says nothing but its truth."""
    return Image(
        id="0" * 32, width=SIZE, height=SIZE, modality=truth.modality, anatomy=truth.anatomy,
        group="", split="train", source="", rendering="{}", deidentification="",
        is_synthetic=True, truth=canonical(truth.to_dict()),
    )  # fmt: skip


def row_of(image: Image, told: dict[str, Any], name: str) -> Triplet:
    """A row as the page tells it."""
    return Triplet(
        id=name, image_id=image.id, generator_id="", task_id="", prompt_hash="", seed=0, sample=0,
        round=0, question=told["question"], options=tuple(told["options"]), answer=told["answer"],
        rationale=told["rationale"], raw="", logprob=None,
    )  # fmt: skip


# The loop


def triptych(*words: object, folder: Path) -> int:
    """Run the command in a folder; returns its exit status."""
    command = [sys.executable, "-m", "pipelines.cli", *map(str, words)]
    return subprocess.run(command, cwd=folder, check=False, stdout=sys.stderr).returncode


@contextmanager
def reading_room(folder: Path, workspace: Path) -> Iterator[list[httpx.Client]]:
    """The reading room, open; a client for each reader, who came by their link."""
    names = ",".join(READERS)
    words = ["annotate", "-w", str(workspace), "--readers", names]
    command = [sys.executable, "-u", "-m", "pipelines.cli", *words]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            clients = []
            assert process.stdout is not None
            while len(clients) < len(READERS):
                line = process.stdout.readline()
                if not line:
                    raise SystemExit("the reading room did not open")
                if link := re.search(r"http://\S+token=\S+", line):
                    base = link[0].partition("/enter")[0]
                    client = httpx.Client(base_url=base, headers={"Origin": base}, timeout=60)
                    client.get(link[0]).raise_for_status()
                    clients.append(client)
            yield clients
        finally:
            process.terminate()


def settings(seed: int) -> list[str]:
    """The arguments that set SETTINGS."""
    return [word for value in SETTINGS for word in ("--set", value.format(seed=seed))]


def ingest(folder: Path, seed: int) -> Truths:
    """The studies, `init` and `ingest` in a folder, once; returns the truth of the pictures."""
    truths = draw(folder / "studies", seed)
    if not (folder / "ours.yaml").exists():
        if status := triptych("init", "ours", "--images", "studies", folder=folder):
            raise SystemExit(f"init ended with {status}")
    if status := triptych("ingest", "ours.yaml", *settings(seed), folder=folder):
        raise SystemExit(f"ingest ended with {status}")
    return truths


def run_loop(folder: Path, truths: Truths, error_rate: float, seed: int) -> dict[str, int]:
    """From the images to the dataset; returns how many answers were given."""
    sets = settings(seed)
    given, waits = 0, 0
    while (status := triptych("run", "ours.yaml", *sets, folder=folder)) == PEOPLE:
        waits += 1
        with reading_room(folder, folder / "runs" / "ours") as clients:
            readers = [
                Reader(client, truths, error_rate, 1000 * seed + number)
                for number, client in enumerate(clients)
            ]
            for _ in zip_longest(*(reader.answers() for reader in readers)):
                pass  # they answer by turns
            given += sum(reader.given for reader in readers)
    if status:
        raise SystemExit(f"run ended with {status}")
    return {"answers": given, "waits": waits}


# Figures


def measured(workspace: Workspace, truths: Truths) -> list[dict[str, Any]]:
    """The figures of each round, by the truth that the workspace does not have."""
    images = {
        i.id: replace(i, truth=canonical(truths[i.id].to_dict())) for i in workspace.read(Image)
    }
    verdicts = workspace.read(Verdict)
    refined = {c["round"]: c["metrics"] for c in workspace.commits() if c["stage"] == "refine"}
    rounds = []
    for commit in workspace.commits():
        if commit["stage"] != "select":
            continue
        number = commit["round"]
        rows = [t for t in workspace.read(Triplet, "generate", number) if t.problem is None]
        right = np.array([_right(images[t.image_id], t) for t in rows])
        judged = {j.triplet_id: j for j in workspace.read(Judgement, "judge", number)}
        known = np.array([t.id in judged for t in rows])
        kept = {d.triplet_id for d in workspace.read(Decision, "select", number) if d.keep}
        among = np.array([t.id in kept for t in rows])
        judge = np.array([judged[t.id].overall for t in rows if t.id in judged])
        plain = own_scores(rows)[known]
        groups = np.array([images[t.image_id].group for t in rows])[known]
        chance = np.array([judged[t.id].probability for t in rows if t.id in judged])
        gain = auc_difference(plain, chance, right[known], groups, seed=0)
        answer = np.array([bool(is_true(images[t.image_id], t)) for t in rows])
        rounds.append(
            {
                "round": number,
                "verdicts": sum(v.round <= number for v in verdicts),
                "rows": len(rows),
                "precision_before": _mean(right),
                "precision_after": _mean(right[among]),
                "answers_right_after": _mean(answer[among]),
                "kept_share": commit["metrics"]["kept_fraction"],
                "promised": [c["words"] for c in commit["metrics"].get("certificates", [])],
                "granted": [c["granted"] for c in commit["metrics"].get("certificates", [])],
                "auc": round(auc(judge, right[known]), 4),
                "auc_used": round(auc(chance, right[known]), 4),
                "auc_plain": round(auc(plain, right[known]), 4),
                "difference": [round(v, 4) for v in gain],
                "ece": round(calibration_error(chance, right[known]), 4),
                "refined": refined[number]["accepted"],
                "refined_gain": refined[number].get("gate_test", {}).get("gain"),
            }
        )
    return rounds


def _right(image: Image, row: Triplet) -> bool:
    return bool(is_true(image, row)) and reasons_truly(image, row)


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if values.size else None


def own_scores(rows: list[Triplet]) -> np.ndarray:
    """(N,) of agreement and the generator's log-probability, as selection has without a judge."""
    votes: dict[tuple[str, str], int] = {}
    asked: dict[str, int] = {}
    for row in rows:
        key = row.question_key, answer_key(row)
        votes[key] = votes.get(key, 0) + 1
        asked[key[0]] = asked.get(key[0], 0) + 1
    return np.array(
        [
            np.log(votes[r.question_key, answer_key(r)] / asked[r.question_key]) + (r.logprob or 0)
            for r in rows
        ]
    )


def one_run(keep: Path, error_rate: float, seed: int) -> dict[str, Any]:
    """A run and its figures. Readers of each error rate begin with the same images."""
    images, folder = keep / f"images-{seed}", keep / f"{error_rate:g}-{seed}"
    truths = ingest(images, seed)
    if not folder.exists():
        half = folder.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(images, half)
        half.rename(folder)
    started = time.time()
    spent = run_loop(folder, truths, error_rate, seed)
    rounds = measured(Workspace.existing(folder / "runs" / "ours"), truths)
    minutes = round((time.time() - started) / 60, 1)
    return {"error_rate": error_rate, "seed": seed, "minutes": minutes, **spent, "rounds": rounds}


HEAD = (
    "readers err in", "seed", "round", "verdicts so far", "precision before", "after",
    "kept of questions", "promise", "judge's AUC", "agreement + log-p.", "judge above it", "ECE",
    "refined judge",
)  # fmt: skip


def show(results: list[dict[str, Any]]) -> None:
    """The table, in Markdown."""
    print(f"| {' | '.join(HEAD)} |\n|{' ---: |' * len(HEAD)}")
    for run in results:
        for row in run["rounds"]:
            after = row["precision_after"]
            gap, low, high = row["difference"]
            gain = row["refined_gain"]
            cells = (
                f"{run['error_rate']:.0%}", run["seed"], row["round"], row["verdicts"],
                f"{row['precision_before']:.3f}", "–" if after is None else f"{after:.3f}",
                f"{row['kept_share']:.0%}",
                "granted" if all(row["granted"]) and row["granted"] else "refused",
                f"{row['auc_used']:.3f}", f"{row['auc_plain']:.3f}",
                f"{gap:+.3f} [{low:+.3f}, {high:+.3f}]", f"{row['ece']:.3f}",
                ("kept" if row["refined"] else "not")
                + ("" if gain is None else f" ({gain:+.3f})"),
            )  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |")


def main(
    full: Annotated[bool, typer.Option(help="Three seeds of each.")] = False,
    seeds: Annotated[list[int] | None, typer.Option(help="Repeatable.")] = None,
    errors: Annotated[list[float] | None, typer.Option(help="Error rates; repeatable.")] = None,
    keep: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs/experts"),
) -> None:
    """Run the loop with each kind of readers and print the table."""
    keep = keep.resolve()
    results = []
    for seed in seeds or ((1, 2, 3) if full else (1,)):
        for error_rate in errors or ERRORS:
            path = keep / f"{error_rate:g}-{seed}-{code_id()[:12]}.json"
            if not path.exists():
                found = one_run(keep, error_rate, seed)
                path.write_text(json.dumps(found))
            results.append(json.loads(path.read_text()))
    show(results)
    print(json.dumps({"benchmark": "experts", "results": results}))


if __name__ == "__main__":
    typer.run(main)
