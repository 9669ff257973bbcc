"""Export with a record of it: which rows left in which files."""

from __future__ import annotations

from engine.hub.export import export_held
from engine.hub.selection import SELECTED, SPLITS
from engine.lineage.agreement import agreed
from engine.lineage.files import hashes_of
from engine.records import Dataset, Membership, canonical, content_id
from engine.workspace import Workspace

FOLDER = "dataset"


def publish(workspace: Workspace, url: str | None = None) -> dict[str, int]:
    """Write `dataset/` and commit what is in it; returns the rows of each file.

    The workspace is open for writing; `url` is where it will be published, if anywhere. The same
    content is committed once.
    """
    name = workspace.config["name"]
    folder = workspace.root / FOLDER
    with agreed(workspace) as ledger:  # one moment for the files and for what they hold
        counts = export_held(workspace, ledger, folder, name, url)
        files = hashes_of(folder)
        dataset_id = content_id("dataset", name, files)
        if workspace.committed(dataset_id):
            return counts
        number = ledger.sql(f"SELECT count(*) AS n FROM ({SELECTED})")[0]["n"]
        dataset = Dataset(
            id=dataset_id, name=name, path=FOLDER, url=url, files=canonical(files), rows=number
        )
        stage = workspace.begin("export", 0, dataset_id)
        stage.write(Dataset, [dataset])
        members = ledger.stream(f"SELECT id, split FROM ({SELECTED}) ORDER BY id")
        stage.write_all(
            Membership,
            (
                Membership(
                    id=content_id("member", dataset_id, m["id"]),
                    dataset_id=dataset_id,
                    triplet_id=m["id"],
                    split=SPLITS[m["split"]],
                )
                for m in members
            ),
        )
    stage.metrics = dict(counts)
    workspace.commit(stage)
    return counts
