"""Export with a record of it: which rows left in which files."""

from __future__ import annotations

import pyarrow as pa

from engine.hub.export import export_held, shard_mb_of
from engine.hub.selection import SELECTED, SPLITS, batches, selecting
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


def publish(workspace: Workspace, url: str | None = None) -> dict[str, int]:
    """Write `dataset/` and commit what is in it; returns the rows of each split.

    The workspace is open for writing; `url` is where it will be published, if anywhere. The same
    content is committed once.
    """
    name, shard_mb = workspace.config["name"], shard_mb_of(workspace)
    folder = workspace.root / FOLDER
    with selecting(workspace) as ledger:  # one moment for the files and for what they hold
        counts = export_held(workspace, ledger, folder, name, url, shard_mb)
        files = hashes_of(folder)
        dataset_id = content_id("dataset", name, files)
        if workspace.committed(dataset_id):
            return counts
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
    stage.metrics = dict(counts)
    workspace.commit(stage)
    return counts


def _write_members(ledger: Ledger, stage: Stage, dataset_id: str) -> None:
    schema = schema_of(Membership)
    members = batches(ledger, _MEMBERS, SHARD, {"dataset": dataset_id})
    for number, batch in enumerate(members):
        table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
        write_shard(stage.folder, f"{Membership.table}-{number:03d}", table)
