"""What file browsers, servers and systems leave breaks nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.lineage import chain, links
from engine.lineage.opening import maintaining
from engine.records import Image, Picture
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw
from tests.commands import command
from tests.engine.lineage.record import problems
from tests.lineage_workspace import make_image
from tests.pictures import pictures_of

LITTER = [".DS_Store", "Thumbs.db", "desktop.ini", "._triplets-000.parquet", ".nfs0000012"]


FOLDERS = ["@eaDir", ".Trashes", "__MACOSX", "lost+found", "#recycle", "00003-compare-r0 copy"]


def litter(folder: Path) -> None:
    """Drop all of it into a folder."""
    for name in LITTER:
        (folder / name).write_bytes(b"Bud1")
    for name in FOLDERS:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "SYNOINDEX_MEDIA_INFO").write_bytes(b"x")


def test_litter_breaks_neither_the_chain_nor_the_numbers_nor_a_withdrawal(
    copy: Workspace,
) -> None:
    kept = copy.head
    for name in ("", "events", "work", "models", "redacting", "signatures", "dataset"):
        (copy.root / name).mkdir(exist_ok=True)
        litter(copy.root / name)
        shutil.rmtree(copy.root / name / "00003-compare-r0 copy") if name != "events" else None
    for folder in links.event_folders(copy.events):
        litter(folder)
        shutil.rmtree(folder / "00003-compare-r0 copy")
    assert chain.check(copy, kept) == []
    assert problems(copy) == set()
    number = len(copy.commits())
    with maintaining(copy.root) as workspace:
        work = workspace.begin("ingest", 3, "fingerprint")
        image = make_image(98, "group98")
        work.write(Image, [image])
        work.write(Picture, pictures_of([image]))
        litter(work.folder)
        made = workspace.commit(work)
        assert made["sequence"] == number
        assert list(made["shards"]) == ["images-000.parquet", "pictures-000.parquet"]
        withdraw(workspace, workspace.read(Image)[0].id)
        workspace.ledger().rebuild(workspace.events)
    assert problems(copy) == set()
    assert command("export", "-w", copy.root).returncode == 0
    assert problems(copy) == set()
