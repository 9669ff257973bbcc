"""A committed shard that a failing disk tore is made again from the ledger, or the run stops.

The ledger holds every column but image bytes, and writing the same rows gives the same Parquet: the
shard is put back only where its SHA-256 is the recorded one.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.lineage import links
from engine.lineage.files import file_hash, shards_in
from engine.records import TYPES_BY_TABLE, to_arrow
from engine.shards import is_whole, write_shard
from engine.workspace import Workspace


def mend(workspace: Workspace, thorough: bool = False) -> None:
    """Put torn or missing committed shards back; the workspace is open for writing.

    A shard is torn where it is not of the size that its commit says. `thorough` hashes every shard,
    and puts back those that were changed too. Raises TriptychError
    where the ledger cannot give one back.
    """
    record = links.links(workspace.events)
    said = links.replay(record)
    for link in record:
        sizes = link.commit.get("sizes", {})
        torn = {}
        for shard in link.shards:
            digest = said.hashes.get(shard)
            size = None if shard in said.redacted else sizes.get(shard.name)
            if digest is not None and not _is_there(shard, size, digest if thorough else None):
                torn[shard] = digest
        for shard, digest in torn.items():
            made = len(torn) == 1 and _made_again(workspace, link.commit["sequence"], shard, digest)
            if not made:
                raise TriptychError(
                    f"{shard} is torn or was changed, and the ledger cannot give it back: restore "
                    "it from a backup (`triptych lineage verify` lists everything that is damaged)"
                )


def _is_there(shard: Path, size: int | None, digest: str | None) -> bool:
    """Whether a shard is of its size and hash, where these are known; its footer tells, without."""
    if not shard.exists():
        return False
    if digest is not None:
        return file_hash(shard) == digest
    return is_whole(shard) if size is None else shard.stat().st_size == size


def _made_again(workspace: Workspace, sequence: int, shard: Path, digest: str) -> bool:
    """Write a shard from the ledger's rows of its stage; whether its hash is the recorded one."""
    table = shard.stem.rpartition("-")[0]
    try:
        rows = workspace.ledger().sql(
            f"SELECT * FROM {table} WHERE sequence = ? ORDER BY rowid", [sequence]
        )
    except Exception:  # a ledger that is damaged too cannot help; DuckDB raises many kinds
        return False
    row_type = TYPES_BY_TABLE[table]
    counts = {
        path.name: pq.read_metadata(path).num_rows
        for path in shards_in(shard.parent, table)
        if path != shard
    }
    low = sum(n for name, n in counts.items() if name < shard.name)
    high = len(rows) - sum(n for name, n in counts.items() if name > shard.name)
    try:
        made = [row_type.from_dict(row) for row in rows[low:high]]
    except TypeError:  # image bytes are not in the ledger
        return False
    aside = workspace.work / "mended"
    aside.mkdir(parents=True, exist_ok=True)
    new = write_shard(aside, shard.stem, to_arrow(row_type, made))
    if file_hash(new) != digest:
        return False
    new.replace(shard)
    aside.rmdir()
    return True
