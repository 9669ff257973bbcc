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
from engine.hub.benchmarks import load_vqa_rad
from engine.imaging.decode import Decoder, Decoders
from engine.imaging.deidentify import key_id
from engine.imaging.ingest import Rules, frame_of, ingest_file, list_files, settle
from engine.imaging.table import Entry, find_table, read_table
from engine.lineage.chain import file_hash
from engine.records import Image, Model, Refusal, Review, unique
from engine.workspace import Stage
from generators.phantoms.dicom import write_cohort
from pipelines.context import Context
from pipelines.gold import REPORT as QUESTIONS
from pipelines.gold import report_questions

SHARD = 200
KEY_BYTES = 16
REPORT = "ingest-report.csv"
DRAWN = "SHA256SUMS"  # what was drawn, in the form of sha256sum
MAKE_KEY = "make one with `(umask 077; openssl rand -hex 32 > FILE)`, away from the workspace"


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

    Without one, phantoms and public images get a key made from the seed, and for others a
    TriptychError is raised: whoever has the key can test a guess at a patient's id, so it must be
    somebody's to keep, and is never written here.
    """
    if source.key_file:
        path = Path(source.key_file)
        if not path.is_file():
            raise TriptychError(f"source.key_file {path} is not a file: {MAKE_KEY}")
        if path.resolve().is_relative_to(root.resolve()):
            raise TriptychError(f"source.key_file {path} lies in the workspace: keep it elsewhere")
        key, name = path.read_bytes().strip(), f"source.key_file {path}"
    elif os.environ.get("TRIPTYCH_KEY"):
        key, name = os.environ["TRIPTYCH_KEY"].strip().encode(), "TRIPTYCH_KEY"
    elif source.path is None or source.public:
        return f"public-{seed}".encode()
    else:
        raise TriptychError(
            "patients' ids are hashed with a secret key and there is none: set source.key_file or "
            f"TRIPTYCH_KEY ({MAKE_KEY}), or source.public=true for published images"
        )
    if len(key) < KEY_BYTES:
        raise TriptychError(f"{name} has fewer than {KEY_BYTES} characters: {MAKE_KEY}")
    return key


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
        return {
            f"images/{q.image}": Entry(anatomy=q.anatomy, patient=q.patient)
            for q in load_vqa_rad(folder)
        }
    path = find_table(folder, config.source.table) if config.source.path else None
    return read_table(path, config.source.labels) if path else {}


def rules_of(config: Config, root: Path) -> Rules:
    """How the configuration has files read."""
    source = config.source
    return Rules(
        key=secret_key(source, config.seed, root),
        frames=source.frames,
        table=table_of(config, source_folder(config, root)),
        keep_paths=source.keeps_paths,
        public=source.public or source.path is None,
        include=frozenset(source.include),
    )


def ingest(context: Context, stage: Stage) -> None:
    """Files to safe images, in shards; the report lists every file."""
    config, workspace = context.config, context.workspace
    folder, rules = source_folder(config, workspace.root), rules_of(config, workspace.root)
    if config.source.path is None:
        rules = replace(rules, drawn=draw_phantoms(context, folder))
    files = [folder / name for name in sorted(rules.drawn)] or list_files(folder)
    files = files[: config.source.limit]
    found, refusals = read_files(context, folder, files, rules)
    shares: list[tuple[str, float]] = list(config.source.split.items())
    images, copies = settle(found, dict(shares), lines=table_lines(rules))
    refusals = unique(refusals + copies)
    write_report(workspace.root / REPORT, images, refusals)
    _refuse_nothing(folder, files, images, refusals)
    for low in range(0, len(images), SHARD):
        stage.write(Image, images[low : low + SHARD], f"{low // SHARD:03d}")
    stage.write(Refusal, refusals)
    stage.write(Model, unique(context.outside_models()))
    stage.metrics = metrics(len(files), images, refusals, rules)
    stage.metrics["table"] = table_metrics(rules, folder, images)
    if config.expert.kind == "vqa-rad":
        left_out = report_questions(config.source, rules, workspace.root)
        stage.metrics["questions refused"] = left_out
    for line in told(stage.metrics, workspace.root):
        context.display.say(f"  {line}")


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
    example = f": {refusals[0].path}: {refusals[0].reason}" if refusals else ""
    raise TriptychError(
        f"{folder} holds no usable image ({len(files)} files, {len(refusals)} refused){example}"
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
    if counts.get("questions refused"):
        lines.append(
            f"{counts['questions refused']} questions left out, which may name somebody: see "
            f"{root / QUESTIONS}"
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
    """One row a file or frame: path, frame, status, reason, image_id."""
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
