"""Export with a record of it: which rows left in which files; and its forms for other tools."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from engine.config.evaluate import Evaluate
from engine.config.generator import Generator
from engine.errors import TriptychError
from engine.hub.card import licence_of
from engine.hub.export import export_held, shard_mb_of
from engine.hub.forms import FORMS, lying, place_of, write_form
from engine.hub.forms.exported import Exported
from engine.hub.selection import SELECTED, SPLITS, batches, selecting
from engine.hub.swap import cut_short
from engine.lineage.files import hashes_of
from engine.lineage.ledger import Ledger
from engine.records import Dataset, Membership, canonical, content_id, schema_of
from engine.shards import write_shard
from engine.workspace import SHARD, Stage, Workspace

FOLDER = "dataset"

# As `content_id` of the same parts, for rows by the million.
_MEMBERS = f"""
SELECT substr(sha256(to_json(['member', $dataset, id])::VARCHAR), 1, 32) AS id,
    $dataset AS dataset_id, id AS triplet_id,
    CASE split {" ".join(f"WHEN '{ours}' THEN '{hub}'" for ours, hub in SPLITS.items())} END
    AS split
FROM ({SELECTED}) ORDER BY triplet_id
"""


def publish(
    workspace: Workspace, url: str | None = None, forms: Collection[str] = ()
) -> dict[str, int]:
    """Write `dataset/` and commit what is in it; returns the rows of each split.

    The workspace is open for writing; `url` is where it will be published, if anywhere. The same
    content is committed once. Then `forms` are written, and those that lie there already.
    """
    name, shard_mb = workspace.config["name"], shard_mb_of(workspace)
    folder = workspace.root / FOLDER
    stage = None
    with selecting(workspace) as ledger:  # one moment for the files and for what they hold
        counts = export_held(workspace, ledger, folder, name, url, shard_mb)
        files = hashes_of(folder)
        dataset_id = content_id("dataset", name, files)
        if not workspace.committed(dataset_id):
            number = sum(rows for split, rows in counts.items() if split != "rejects")
            dataset = Dataset(
                id=dataset_id,
                name=name,
                path=FOLDER,
                url=url,
                files=canonical(files),
                rows=number,
                shard_mb=shard_mb,
            )
            stage = workspace.begin("export", 0, dataset_id)
            stage.write(Dataset, [dataset])
            _write_members(ledger, stage, dataset_id)
    if stage:
        stage.metrics = dict(counts)
        workspace.commit(stage)
    exported = _exported(workspace, folder, dataset_id)
    for form in {**dict.fromkeys(lying(folder)), **dict.fromkeys(forms)}:
        write_form(exported, form)
    return counts


def publish_again(workspace: Workspace) -> None:
    """Write what is exported anew after a withdrawal, or remove it where nothing is left.

    Where nothing is exported, nothing is written.
    """
    folder = workspace.root / FOLDER
    there = [folder, *(place_of(folder, form) for form in lying(folder))]
    if not folder.exists() and len(there) == 1:
        return
    try:
        publish(workspace)
    except TriptychError:
        for place in there:
            shutil.rmtree(place, ignore_errors=True)


def leftovers() -> list[str]:
    """What an export that was cut short may have left, relative to the workspace."""
    folder = Path(FOLDER)
    places = [folder, *(place_of(folder, form) for form in FORMS)]
    return [str(path) for place in places for path in cut_short(place)]


def _exported(workspace: Workspace, folder: Path, dataset_id: str) -> Exported:
    """The dataset folder with the prompts and the style that its policy is examined in."""
    said = workspace.latest
    words = said.get("generator", {}).get("prompts", Generator.model_fields["prompts"].default)
    style = said.get("evaluate", {}).get("style", Evaluate.model_fields["style"].default)
    name, licence = workspace.config["name"], licence_of(workspace)
    return Exported(folder, name, dataset_id, licence, words, style)


def _write_members(ledger: Ledger, stage: Stage, dataset_id: str) -> None:
    schema = schema_of(Membership)
    members = batches(ledger, _MEMBERS, SHARD, {"dataset": dataset_id})
    for number, batch in enumerate(members):
        table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
        write_shard(stage.folder, f"{Membership.table}-{number:03d}", table)
