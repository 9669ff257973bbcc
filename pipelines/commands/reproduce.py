"""Make a row or an export again from its lineage, and compare bytes with what is recorded.

- an image: its phantom is drawn, or its source file read, and rendered again;
- a dataset: the record as it was when it was exported is exported again, file by file;
- an expert's triplet: written again from the image's truth or the benchmark's answer;
- a composed triplet: its program is run again;
- a row that teaches safety: all of its stage, from the record as it was before that; a text, into
  its image's original;
- a generated triplet: its whole shard is generated again, since its random stream follows from its
  place there, and last digits from the batch. This loads the generator's weights.

Rows of two runs of one configuration are equal where the hardware and libraries are; the run's row
says which these were.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.config import Config
from engine.errors import TriptychError
from engine.hub.export import export
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import PROFILE
from engine.imaging.ingest import Rules, image_of, list_files
from engine.lineage.files import file_hash, hashes_of
from engine.lineage.links import links, shard_hashes
from engine.lineage.trace import resolve
from engine.pixels import Pixels
from engine.records import Assignment, Image, Model, Task, Triplet, canonical
from engine.workspace import Workspace
from generators.compose.rows import again
from generators.safety.rows import SAFETY, has_text
from generators.safety.rows import again as with_text_again
from pipelines.context import Context, config_of
from pipelines.drawing import DRAWN
from pipelines.record import expert_of, images_of
from pipelines.safety import taught
from pipelines.source import rules_of
from reward_model.experts.expert import EXPERT


def reproduce(workspace: Workspace, row: str) -> dict[str, Any]:
    """{"id", "kind", "equal", "detail"} of an image, a triplet or a dataset.

    Raises TriptychError for other rows, and where what it was made from is gone.
    """
    table, row_id = resolve(workspace.ledger(), row)
    makers = {"images": _image, "triplets": _triplet, "datasets": _dataset}
    if table not in makers:
        raise TriptychError(
            f"{row_id} is of {table}: an image, a triplet or a dataset can be made again"
        )
    return {"id": row_id, "kind": table.removesuffix("s")} | makers[table](workspace, row_id)


def _told(before: dict[str, Any], after: dict[str, Any] | None) -> dict[str, Any]:
    """Compare two rows column by column."""
    if after is None:
        return {"equal": False, "detail": "it was not made again"}
    wrong = [k for k in before if before[k] != after.get(k)]
    detail = (
        f"differs in {', '.join(wrong)}" if wrong else f"all {len(before)} columns, byte for byte"
    )
    return {"equal": not wrong, "detail": detail}


# Images


def _image(workspace: Workspace, row_id: str) -> dict[str, Any]:
    """The file drawn or read again. Group and split follow from all images: they are not made."""
    before = next(i for i in workspace.read(Image) if i.id == row_id)
    if has_text(before):
        original = next((i for i in workspace.read(Image) if i.id == before.twin_of), None)
        assert original is not None  # it would have been withdrawn with it
        png = Pixels(workspace.root)[original.id]
        return _told(_bare(before), _bare(with_text_again(original, png, before)))
    config = config_of(workspace.root)
    rules = rules_of(config, workspace.root)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch if before.is_synthetic else config.source.path or scratch)
        if before.is_synthetic:
            _draw(config, folder, before)
            rules = replace(rules, keep_paths=True, public=True)
        path = _found(folder, before.source, rules)
        if before.is_synthetic:
            rules = replace(rules, drawn={before.source: file_hash(path)})
        with Decoder() as decoder:
            decoded = decoder.decode(path, rules.frames, rules.key)
        made = [image_of(item, folder, path, rules) for item in decoded.frames]
    after = next((i for i in made if i.id == row_id), None)
    if after and before.deidentification.startswith(f"{PROFILE};"):
        # Whoever looked then, a person or RapidOCR, does not look again.
        after = replace(after, deidentification=before.deidentification)
    return _told(_bare(before), _bare(after) if after else None)


def _found(folder: Path, name: str, rules: Rules) -> Path:
    """The file that has a name in the record; raises TriptychError."""
    for path in list_files(folder):
        if rules.name(path.relative_to(folder).as_posix()) == name:
            return path
    raise TriptychError(f"{name} is not in {folder} any more, and the image was made from it")


def _bare(image: Image) -> dict[str, Any]:
    """An image's own columns; its id is the hash of its pixels."""
    return {k: v for k, v in image.to_dict().items() if k not in ("group", "split")}


def _draw(config: Config, folder: Path, image: Image) -> None:
    """Draw the one phantom of an image: of a layout, a twin, or of its place in a cohort."""
    from generators.phantoms.dicom import redraw
    from generators.phantoms.drawer import PhantomDrawer
    from generators.phantoms.twin_cohort import write_twin
    from pipelines.drawing import drawn_again

    how = (config.source.size, config.seed, config.source.difficulty)
    if image.twin_of:
        write_twin(folder / image.source, *how)
    elif image.drawn:
        drawn_again(image, PhantomDrawer(), folder)
    else:
        redraw(folder, image.source, *how)


# Datasets


def _dataset(workspace: Workspace, row_id: str) -> dict[str, Any]:
    recorded = workspace.ledger().sql(
        "SELECT files, name, url, shard_mb, d.sequence FROM datasets d WHERE id = ? LIMIT 1",
        [row_id],
    )[0]
    wanted = json.loads(recorded["files"])
    with tempfile.TemporaryDirectory() as scratch:
        earlier = as_of(workspace, recorded["sequence"], Path(scratch) / "w")
        out = Path(scratch) / "dataset"
        export(earlier, out, recorded["name"], recorded["url"], recorded["shard_mb"])
        made = hashes_of(out)
    wrong = sorted(k for k in made.keys() | wanted.keys() if made.get(k) != wanted.get(k))
    if not wrong:
        return {"equal": True, "detail": f"all {len(wanted)} files, byte for byte"}
    withdrawn = workspace.ledger().sql(
        "SELECT count(*) AS n FROM membership m JOIN tombstones t ON t.row_id = m.triplet_id "
        "WHERE m.dataset_id = ?",
        [row_id],
    )[0]["n"]
    why = f"; {withdrawn} of its rows were withdrawn since" if withdrawn else ""
    return {"equal": False, "detail": f"differs in {', '.join(wrong)}{why}"}


def as_of(workspace: Workspace, sequence: int, root: Path) -> Workspace:
    """The workspace as it was before a stage was committed: its record up to there, linked."""
    (root / "events").mkdir(parents=True)
    shutil.copy(workspace.root / "workspace.json", root / "workspace.json")
    for commit in workspace.commits():
        if commit["sequence"] < sequence:
            target = (workspace.events / commit["folder"]).resolve()
            (root / "events" / commit["folder"]).symlink_to(target, target_is_directory=True)
    # A later withdrawal may have written shards again: its commit, which says so, is not here.
    hashes = shard_hashes(links(workspace.events))
    vouched = {root / "events" / p.parent.name / p.name: hash for p, hash in hashes.items()}
    earlier = Workspace(root, vouched)
    earlier.ledger().rebuild(earlier.events, vouched)
    return earlier


# Triplets


def _triplet(workspace: Workspace, row_id: str) -> dict[str, Any]:
    for commit in workspace.commits():
        rows = workspace.read(Triplet, commit["stage"], commit["round"])
        before = next((t for t in rows if t.id == row_id), None)
        if before is not None:
            break
    else:
        raise TriptychError(f"triplet {row_id} is in the ledger and not in the record: run verify")
    context = Context(workspace, config_of(workspace.root))
    if before.generator_id == SAFETY:
        made = _taught_again(workspace, commit)
    elif before.program:
        made = [again(before)]
    elif before.derived_from:
        raise TriptychError(
            f"triplet {row_id} was made by {commit['stage']} from other rows: reproduce these"
        )
    elif before.generator_id == DRAWN:
        raise TriptychError(
            f"triplet {row_id} was planned with the image {before.image_id}: reproduce this"
        )
    elif before.generator_id == EXPERT:
        made = _expert_rows(context, before, as_asked=commit["stage"] == "seed")
    else:
        made = generated_again(context, commit, before)
    after = next((t for t in made if t.id == row_id), None)
    told = _told(_listed(before), _listed(after) if after else None)
    return told | {"made_again": canonical(_listed(after)) if after else None}


def _taught_again(workspace: Workspace, commit: dict[str, Any]) -> list[Triplet]:
    """The rows that teach safety of a stage, from the record as it was before that stage."""
    with tempfile.TemporaryDirectory() as scratch:
        earlier = as_of(workspace, commit["sequence"], Path(scratch) / "w")
        context = Context(earlier, config_of(workspace.root))
        return [one.row for one in taught(context, commit["round"], Counter())]


def _listed(triplet: Triplet) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in triplet.to_dict().items()}


def _expert_rows(context: Context, before: Triplet, as_asked: bool) -> list[Triplet]:
    """What the expert wrote about a row's image, at least up to the row; `as_asked` for a seed."""
    from pipelines.seed import rows_of_twins
    from reward_model.experts import asked_of
    from reward_model.twins import FIRST

    if before.sample >= FIRST:
        return [row for row, _ in rows_of_twins(context)]
    image = images_of(context, [before.image_id])[before.image_id]
    number = max(before.sample + 1, asked_of(context.config).rows_per_image)
    return [row for row, _ in expert_of(context).rows(image, number, as_asked)]


def generated_again(context: Context, commit: dict[str, Any], before: Triplet) -> list[Triplet]:
    """The rows of the shard that a triplet is in, generated anew by the same weights."""
    from engine.lineage.files import read_hashed
    from engine.records import from_arrow
    from generators.proposer import make_proposer
    from pipelines.proposals import proposing

    shards = context.workspace.shards(Triplet.table)
    asked = {
        path.stem.rpartition("-")[2]: from_arrow(Triplet, read_hashed(path, digest))
        for made_by, path, digest in shards
        if made_by["sequence"] == commit["sequence"] and path.stem[-1].isdigit()
    }
    name, recorded = next(
        (name, rows) for name, rows in asked.items() if before.id in {row.id for row in rows}
    )
    batch = _asked(context, commit, name)
    _check_whole(context, commit, batch, recorded)
    tasks = {t.id: t for t in context.rows(Task)}
    writer = _writer(context, before.generator_id)
    work = make_proposer(proposing(context, writer, commit["round"]))
    rows = [{"image_id": i, "task": tasks[t].to_dict()} for i, t in batch]
    return list(work(name, rows)[Triplet])


def _asked(context: Context, commit: dict[str, Any], shard: str) -> list[tuple[str, str]]:
    """The (image, task) ids that a stage asked about in a shard, in its order.

    A plan names images that are withdrawn since, so shards are what they were. Before preferences
    nothing was planned: the pairs are drawn again from the images that are left.
    """
    from pipelines.compare import asked_pairs
    from pipelines.generate import planned_shards

    if commit["stage"] == "compare":
        size = context.config.generator.batch
        pairs = asked_pairs(context)[int(shard) * size :][:size]
        return [(image_id, task.id) for image_id, task in pairs]
    (places,) = planned_shards(context, commit["round"])[0][shard]
    gone = {name for name, when in _withdrawn(context).items() if when < commit["sequence"]}
    with context.scan(Assignment) as scan:
        query = (
            "SELECT image_id, task_id FROM assignments WHERE round = ? "
            "AND place BETWEEN ? AND ? ORDER BY place"
        )
        found = scan.values(query, [commit["round"], places["first"], places["last"]])
        return [(image_id, task_id) for image_id, task_id in found if image_id not in gone]


def _withdrawn(context: Context) -> dict[str, int]:
    """The sequence number of the commit that withdrew an image, by its id."""
    found = context.workspace.ledger().sql(
        "SELECT row_id, sequence FROM tombstones WHERE row_table = 'images'"
    )
    return {row["row_id"]: row["sequence"] for row in found}


def _check_whole(
    context: Context,
    commit: dict[str, Any],
    batch: list[tuple[str, str]],
    recorded: list[Triplet],
) -> None:
    """Raise TriptychError, with the reason, where a batch is not what is recorded of it."""
    if set(batch) == {(t.image_id, t.task_id) for t in recorded}:
        return
    gone = {name for name, when in _withdrawn(context).items() if when > commit["sequence"]}
    if gone & {image for image, _ in batch}:
        why = "an image of this row's batch was withdrawn, and random streams follow from places"
    elif gone and commit["stage"] == "compare":
        why = "images were withdrawn, and what this stage asked about follows from all images"
    else:
        why = "what this row's batch asked about is not what the configuration gives"
    raise TriptychError(f"{why}: the row cannot be made again byte for byte")


def _writer(context: Context, model_id: str) -> Model:
    """The model of an id: one of the workspace, or one from outside."""
    if model_id == context.base().id:
        return context.base()
    found = [m for m in context.workspace.read(Model) if m.id == model_id]
    if not found:
        raise TriptychError(f"no weights are known for generator {model_id}")
    return found[-1]
