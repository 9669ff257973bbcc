"""The folder that images come from: where it is, its secret key, its table."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from engine.config import Config
from engine.config.source import Source
from engine.errors import TriptychError
from engine.imaging.duplicates import joined
from engine.imaging.ingest import Rules, belongs
from engine.imaging.table import Entry, find_table, read_table
from engine.lineage.files import file_hash
from engine.private import KEY, MAKE_KEY, guessable, key_of_environment, key_of_file
from engine.sets.benchmark import Benchmark
from engine.sets.published import check_published
from generators.phantoms import KINDS
from generators.phantoms.dicom import write_cohort
from generators.phantoms.twin_cohort import write_twins
from pipelines.progress import Display
from reward_model.experts import benchmark_of
from reward_model.losses import check_loss

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


def check_names(config: Config) -> None:
    """Raise TriptychError for a kind of phantom or a loss that nobody has, which are found by their
    place in rooms that `engine.config` does not know."""
    unknown = sorted(config.source.phantoms.keys() - KINDS.keys())
    if unknown:
        raise TriptychError(
            f"source.phantoms.{unknown[0]}: no such kind of phantom: one of {', '.join(KINDS)}"
        )
    check_loss(config.reward.objective)


def check_benchmarks(config: Config) -> None:
    """Raise TriptychError for a benchmark that is not there."""
    for name, place in config.select.contamination.benchmarks.items():
        check_published(name, Path(place))


def check_source(config: Config, root: Path) -> None:
    """Raise what ingest would raise of folder, labels and key, before a workspace is made."""
    folder = source_folder(config, root)
    if config.expert.reads_labels:
        table_path(config, folder)
    secret_key(config.source, config.seed, root)


def draw_phantoms(config: Config, folder: Path, display: Display) -> dict[str, str]:
    """Write the configured phantoms as DICOM; returns the SHA-256 of each by its path below.

    folder/SHA256SUMS says what was drawn here; what stands there unchanged is not drawn again, and
    any other file is no phantom. Masks go beside the folder, into segmentations/, so that they are
    not taken for images.
    """
    source = config.source
    counts: list[tuple[str, int]] = list(source.phantoms.items())
    total = sum(source.phantoms.values())
    masks = folder.with_name("segmentations") if source.segmentations else None
    if masks and find_spec("highdicom") is None:
        raise TriptychError("source.segmentations needs highdicom: pip install 'triptych[seg]'")
    seed, difficulty = config.seed, source.difficulty
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _drawn_before(folder)
    how = (source.size, seed, difficulty)
    done = write_cohort(folder, dict(counts), *how, masks, drawn)
    twins = {kind: min(source.twins, count) for kind, count in counts}
    total += sum(twins.values())
    with (folder / DRAWN).open("a", encoding="utf-8") as sums:
        for number, path in enumerate(chain(done, write_twins(folder, twins, *how, drawn)), 1):
            name = path.relative_to(folder).as_posix()
            if name not in drawn:
                drawn[name] = file_hash(path)
                print(f"{drawn[name]}  {name}", file=sums, flush=True)
            if number % 20 == 0:
                display.advance(number, total, "phantoms")
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


def table_path(config: Config, folder: Path) -> Path | None:
    """The table beside the images, None where there is none; raises TriptychError where the expert
    reads its labels."""
    path = find_table(folder, config.source.table) if config.source.path else None
    if path is None and config.expert.reads_labels:
        raise TriptychError(
            f"expert.kind {config.expert.kind} reads labels, and {folder} has no table: put "
            "labels.csv there, or name the table as source.table"
        )
    return path


def table_of(config: Config, folder: Path, benchmark: Benchmark) -> dict[str, Entry]:
    """What is known of the files by their paths: a benchmark's own, else the table beside them."""
    if benchmark.file:
        return _asked_about(benchmark)
    path = table_path(config, folder)
    return read_table(path, config.source.labels, config.expert.names) if path else {}


def beside(config: Config, folder: Path, benchmark: Benchmark) -> dict[str, str]:
    """What the files are that belong to the images and are none, by their path."""
    if benchmark.file:
        return {benchmark.file: "the questions"}
    path = table_path(config, folder)
    return {path.relative_to(folder).as_posix(): "the table"} if path else {}


def _asked_about(benchmark: Benchmark) -> dict[str, Entry]:
    """Entries of the images that a benchmark knows; patients who share an image are one."""
    first = {image: patient for image, patient, _ in reversed(benchmark.images)}
    one = joined((patient, first[image]) for image, patient, _ in benchmark.images)
    return {
        f"images/{image}": Entry(anatomy=anatomy, patient=one[patient])
        for image, patient, anatomy in benchmark.images
    }


def rules_of(config: Config, root: Path) -> Rules:
    """How the configuration has files read."""
    source, folder = config.source, source_folder(config, root)
    benchmark = benchmark_of(config)
    return Rules(
        key=secret_key(source, config.seed, root),
        frames=source.frames,
        table=table_of(config, folder, benchmark),
        beside=beside(config, folder, benchmark),
        keep_paths=source.keeps_paths,
        public=source.public or source.path is None,
        include=frozenset(source.include),
    )


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
