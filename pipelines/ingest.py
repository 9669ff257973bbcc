"""Ingest: phantoms are drawn as DICOM where no folder is given; every file becomes safe images.

What is not used is a refusal with its reason, in the ledger and in ingest-report.csv.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from engine.config import Config, Source
from engine.errors import TriptychError
from engine.hub.benchmarks import Benchmark, LeftOut
from engine.imaging.decode import Decoder, Decoders
from engine.imaging.deidentify import key_id
from engine.imaging.duplicates import joined
from engine.imaging.ingest import Rules, belongs, frame_of, ingest_file, list_files, settle
from engine.imaging.table import Entry, find_table, read_table
from engine.lineage.files import file_hash
from engine.private import KEY, MAKE_KEY, guessable, key_of_environment, key_of_file
from engine.records import Image, Model, Refusal, Review, content_id, unique
from engine.workspace import Stage
from generators.phantoms.dicom import write_cohort
from pipelines.context import Context
from pipelines.gold import read_gold
from pipelines.progress import Display

SHARD = 200
REPORT = "ingest-report.csv"
DRAWN = "SHA256SUMS"  # what was drawn, in the form of sha256sum


def source_folder(config: Config, root: Path) -> Path:
    """The configured folder, or the phantoms of the workspace `root`; raises TriptychError."""
    if config.source.path is None:
        return root / "phantoms"
    folder = Path(config.source.path)
    if not folder.is_dir():
        raise TriptychError(f"source.path {folder} is not a folder: give the folder of your images")
    return folder


def secret_key(source: Source, seed: int, root: Path) -> bytes:
    """The secret of every hash, from `source.key_file` (outside `root`), else from TRIPTYCH_KEY.

    A key that others can read is a TriptychError (`engine.private`); of one that can be guessed
    `weak_key` warns. Without one, phantoms and public images get a key made from the seed, and for
    others a TriptychError is raised: whoever has the key can test a guess at a patient's id, so it
    must be somebody's to keep, and is never written here.
    """
    if source.key_file:
        path = Path(source.key_file)
        if not path.is_file():
            raise TriptychError(f"source.key_file {path} is not a file: {MAKE_KEY}")
        if path.resolve().is_relative_to(root.resolve()):
            raise TriptychError(f"source.key_file {path} lies in the workspace: keep it elsewhere")
        return key_of_file(path, "source.key_file")
    if key := key_of_environment():
        return key
    if source.path is None or source.public:
        return f"public-{seed}".encode()
    raise TriptychError(
        "patients' ids are hashed with a secret key and there is none: set source.key_file or "
        f"{KEY} ({MAKE_KEY}), or source.public=true for published images"
    )


def weak_key(key: bytes, display: Display) -> bool:
    """Whether a key can be guessed, which is told."""
    weak = guessable(key)
    if weak:
        display.warn(
            "the secret key is easily guessed (few different characters, or a pattern), and so are "
            f"the patients behind its hashes; nothing made with it is pushed: {MAKE_KEY}"
        )
    return weak


def check_source(config: Config, root: Path) -> None:
    """Raise what ingest would raise of folder and key, before a workspace is made for them."""
    source_folder(config, root)
    secret_key(config.source, config.seed, root)


def draw_phantoms(context: Context, folder: Path) -> dict[str, str]:
    """Write the configured phantoms as DICOM; returns the SHA-256 of each by its path below.

    folder/SHA256SUMS says what was drawn here; what stands there unchanged is not drawn again, and
    any other file is no phantom. Masks go beside the folder, into segmentations/, so that they are
    not taken for images.
    """
    source = context.config.source
    counts: list[tuple[str, int]] = list(source.phantoms.items())
    total = sum(source.phantoms.values())
    masks = folder.with_name("segmentations") if source.segmentations else None
    if masks and find_spec("highdicom") is None:
        raise TriptychError("source.segmentations needs highdicom: pip install 'triptych[seg]'")
    seed, difficulty = context.config.seed, source.difficulty
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _drawn_before(folder)
    done = write_cohort(folder, dict(counts), source.size, seed, difficulty, masks, drawn)
    with (folder / DRAWN).open("a", encoding="utf-8") as sums:
        for number, path in enumerate(done, 1):
            name = path.relative_to(folder).as_posix()
            if name not in drawn:
                drawn[name] = file_hash(path)
                print(f"{drawn[name]}  {name}", file=sums, flush=True)
            if number % 20 == 0:
                context.display.advance(number, total, "phantoms")
    return drawn


def _drawn_before(folder: Path) -> dict[str, str]:
    """What SHA256SUMS names of the folder and is still as it was drawn; a torn line is none."""
    sums = folder / DRAWN
    lines = sums.read_text("utf-8", "replace").splitlines() if sums.is_file() else []
    said = {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}
    return {
        name: digest
        for name, digest in said.items()
        if (folder / name).is_file() and file_hash(folder / name) == digest
    }


def table_of(config: Config, folder: Path) -> dict[str, Entry]:
    """What is known of the files by their paths: a benchmark's own, else the table beside them."""
    if config.expert.kind == "vqa-rad":
        return _asked_about(read_gold(config.source))
    path = find_table(folder, config.source.table) if config.source.path else None
    return read_table(path, config.source.labels) if path else {}


def beside(config: Config, folder: Path) -> dict[str, str]:
    """What the files are that belong to the images and are none, by their path."""
    if config.expert.kind == "vqa-rad":
        return {path.name: "the questions" for path in folder.glob("*.json")}
    path = find_table(folder, config.source.table) if config.source.path else None
    return {path.relative_to(folder).as_posix(): "the table"} if path else {}


def _asked_about(benchmark: Benchmark) -> dict[str, Entry]:
    """Entries of the images that a benchmark knows; patients who share an image are one."""
    first = {image: patient for image, patient, _ in reversed(benchmark.images)}
    one = joined((patient, first[image]) for image, patient, _ in benchmark.images)
    return {
        f"images/{image}": Entry(anatomy=anatomy, patient=one[patient])
        for image, patient, anatomy in benchmark.images
    }


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


def rules_of(config: Config, root: Path) -> Rules:
    """How the configuration has files read."""
    source, folder = config.source, source_folder(config, root)
    return Rules(
        key=secret_key(source, config.seed, root),
        frames=source.frames,
        table=table_of(config, folder),
        beside=beside(config, folder),
        keep_paths=source.keeps_paths,
        public=source.public or source.path is None,
        include=frozenset(source.include),
    )


def ingest(context: Context, stage: Stage) -> None:
    """Files to safe images, in shards; the report lists every file."""
    config, workspace = context.config, context.workspace
    folder, rules = source_folder(config, workspace.root), rules_of(config, workspace.root)
    outside = context.outside_models()  # first: a model that nobody knows is told before the work
    if config.source.path is None:
        rules = replace(rules, drawn=draw_phantoms(context, folder))
    files = [folder / name for name in sorted(rules.drawn)] or list_files(folder)
    files, left = chosen(files, folder, rules, workspace.root, config.source.limit)
    if left:
        context.display.say(f"  {left} files beyond source.limit were not looked at")
    found, refusals = read_files(context, folder, files, rules)
    shares: list[tuple[str, float]] = list(config.source.split.items())
    images, copies = settle(found, dict(shares), lines=table_lines(rules))
    refusals = unique(refusals + copies)
    gold = read_gold(config.source) if config.expert.kind == "vqa-rad" else Benchmark([], [], [])
    apart = _gold_refusals(gold, rules, images)
    write_report(workspace.root / REPORT, images, refusals + apart)
    _refuse_nothing(folder, files, images, refusals)
    for low in range(0, len(images), SHARD):
        stage.write(Image, images[low : low + SHARD], f"{low // SHARD:03d}")
    stage.write(Refusal, refusals + apart)
    stage.write(Model, unique(outside))
    stage.metrics = metrics(len(files), images, refusals, rules)
    stage.metrics["table"] = table_metrics(rules, folder, images)
    stage.metrics["weak key"] = not rules.public and weak_key(rules.key, context.display)
    stage.metrics["gold"] = {"used": len(gold.questions), "refused": len(gold.left_out)}
    for line in told(stage.metrics, workspace.root):
        context.display.say(f"  {line}")


def chosen(
    files: list[Path], folder: Path, rules: Rules, root: Path, limit: int | None
) -> tuple[list[Path], int]:
    """The files to look at, and how many are left out by the limit.

    A workspace below the folder is none of its images; what belongs to the images counts for none.
    """
    ours = root.resolve()
    if folder.resolve() in ours.parents:
        files = [path for path in files if not path.parent.resolve().is_relative_to(ours)]
    kept = {p for p in files if belongs(p, p.relative_to(folder).as_posix(), rules)}
    pictures = [path for path in files if path not in kept]
    return sorted(kept.union(pictures[:limit])), len(pictures[limit or len(pictures) :])


def read_files(
    context: Context, folder: Path, files: list[Path], rules: Rules
) -> tuple[list[Image], list[Refusal]]:
    """The images and refusals of files, in order."""
    images: list[Image] = []
    refusals: list[Refusal] = []

    def work(decoder: Decoder, path: Path) -> tuple[list[Image], list[Refusal]]:
        return ingest_file(decoder, folder, path, rules)

    with Decoders(os.cpu_count() or 1) as decoders:
        for number, (found, refused) in enumerate(decoders.map(work, files), 1):
            images += found
            refusals += refused
            context.display.advance(number, len(files), "files")
    return images, refusals


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
