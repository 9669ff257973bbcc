"""Files by their hashes: what a folder holds, and Parquet read only where it is as hashed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import TriptychError

# What file browsers, file servers and file systems leave in folders; nothing of it is the record's.
_LITTER = {
    "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "lost+found",
    "#recycle", "$recycle.bin", "system volume information",
}  # fmt: skip


def is_litter(path: Path) -> bool:
    """Whether a file or folder was left by a machine: .DS_Store, ._name, .nfs…, @eaDir and kin."""
    return path.name.startswith((".", "~$")) or path.name.lower() in _LITTER


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hashes_of(folder: Path) -> dict[str, str]:
    """SHA-256 by path below a folder, of every file but litter, in the order of the paths."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file()
        and not is_litter(path)
        and not any(is_litter(above) for above in path.relative_to(folder).parents if above.name)
    }
    return {name: file_hash(found[name]) for name in sorted(found)}


def listing_hash(hashes: dict[str, str]) -> str:
    """SHA-256 over `HASH  PATH` lines in the order of their paths, as `sha256sum` writes them."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def shards_in(folder: Path, table: str = "") -> list[Path]:
    """The Parquet files of a folder, of one table where named, in the order of their names."""
    found = folder.glob(f"{table}-*.parquet" if table else "*.parquet")
    return sorted(path for path in found if not is_litter(path))


def read_hashed(path: Path, digest: str | None, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file, read once and only where its SHA-256 is `digest`; None where it has none.

    Raises TriptychError where it is another, or the file is gone.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TriptychError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from None
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise TriptychError(f"{path} is not what was committed, its SHA-256 is another: {_REMEDY}")
    return pq.read_table(pa.BufferReader(data), columns=columns)


def check_hash(path: Path, digest: str | None) -> None:
    """Raise TriptychError where a file is gone, or its SHA-256 is not `digest`."""
    if digest is not None and (not path.is_file() or file_hash(path) != digest):
        raise TriptychError(f"{path} is not what was committed, its SHA-256 is another: {_REMEDY}")


_REMEDY = (
    "`triptych lineage rebuild` puts back what the ledger can give, else restore it from a backup"
)
