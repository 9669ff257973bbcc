"""An image's pixels by its id, read from the workspace's Parquet where they are needed.

What travels between processes is ids: a worker opens `Pixels` of the workspace, which all nodes
share, and reads the row group that holds a picture. An id is the hash of the pixels, so that a
picture is compared with its id as it is read, and no shard has to be hashed for it.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.imaging.duplicates import stacked
from engine.records import Picture, bytes_id
from engine.workspace import Workspace

HELD = 8 << 20  # bytes of PNG that a process keeps at hand
OPEN = 256  # shards that it keeps open


def pixels_id(pixels: np.ndarray) -> str:
    """An image's id: the hash of its mode, shape and pixel bytes, whatever file they came in."""
    mode = "L" if pixels.ndim == 2 else "RGB"
    return bytes_id(f"{mode}{pixels.shape}".encode() + pixels.tobytes())


def to_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 as PNG bytes."""
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def shows(png: bytes, image_id: str) -> bool:
    """Whether PNG bytes are those of the image with this id."""
    try:
        with PIL.Image.open(io.BytesIO(png)) as image:
            return pixels_id(np.asarray(image)) == image_id
    except (OSError, ValueError, SyntaxError):
        return False


def signatures_in(shards: Iterable[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """By what the pictures of shards are compared, a row group at a time.

    Ids are (N,) of 32 bytes, signatures (N, SIGNATURE_BYTES) uint8.
    """
    for shard in shards:
        file = pq.ParquetFile(shard)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=["id", "signature"], use_threads=False)
            signed = stacked(rows["signature"].to_pylist())
            yield np.array(rows["id"].to_pylist(), "S32"), signed


class Pixels(Mapping[str, bytes]):
    """PNG bytes by image id. Raises TriptychError where the workspace has no picture of one.

    It can be pickled, opens its files where it is used, and may be asked by threads. What it keeps
    is bounded by HELD bytes and by the ids themselves, 32 bytes each. Unless `vouched` for (the
    shards' hashes were just looked at), a picture is compared with its id.
    """

    def __init__(self, root: Path, vouched: bool = False) -> None:
        self.root, self.vouched = root, vouched
        self._shards: list[Path] = []
        self._ids: np.ndarray | None = None
        self._places = np.empty((0, 3), np.int32)  # shard, row group, row; by self._ids
        self._files: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._held: OrderedDict[tuple[int, int], pa.ChunkedArray] = OrderedDict()
        self._size = 0
        self._reading = threading.Lock()

    def __reduce__(self) -> tuple[type[Pixels], tuple[Path, bool]]:
        return Pixels, (self.root, self.vouched)

    def __getitem__(self, image_id: str) -> bytes:
        with self._reading:
            place = self._place(image_id)
            png: bytes = self._group(*place[:2])[place[2]].as_py() if place else b""
        if place is None:
            raise TriptychError(
                f"workspace {self.root} has no picture of image {image_id}: it was withdrawn, or "
                "an older Triptych made the workspace, so ingest into a new one"
            )
        if not self.vouched and not shows(png, image_id):
            raise TriptychError(
                f"{self._shards[place[0]]} does not hold the picture of {image_id} that was "
                "committed: restore it from a backup (`triptych lineage verify` lists everything "
                "that is damaged)"
            )
        return png

    def __contains__(self, image_id: object) -> bool:
        with self._reading:
            return isinstance(image_id, str) and self._place(image_id) is not None

    def __iter__(self) -> Iterator[str]:
        with self._reading:
            return (found.decode() for found in self._index())

    def __len__(self) -> int:
        with self._reading:
            return len(self._index())

    def _index(self) -> np.ndarray:
        """The sorted ids of all pictures, as bytes."""
        if self._ids is None:
            ids: list[np.ndarray] = []
            places: list[np.ndarray] = []
            for _, path, _ in Workspace(self.root).shards(Picture.table):
                file = pq.ParquetFile(path)
                for group in range(file.num_row_groups):
                    column = file.read_row_group(group, columns=["id"])["id"]
                    ids.append(np.array(column.to_pylist(), "S32"))
                    rows = np.arange(len(column), dtype=np.int32)
                    where = np.full_like(rows, len(self._shards)), np.full_like(rows, group)
                    places.append(np.stack([*where, rows], axis=1))
                self._shards.append(path)
            every = np.concatenate(ids) if ids else np.empty(0, "S32")
            self._ids, first = np.unique(every, return_index=True)
            self._places = np.concatenate(places)[first] if places else self._places
        return self._ids

    def _place(self, image_id: str) -> tuple[int, int, int] | None:
        ids, wanted = self._index(), image_id.encode()
        at = int(np.searchsorted(ids, np.bytes_(wanted)))
        if at == len(ids) or ids[at] != wanted:
            return None
        shard, group, row = self._places[at].tolist()
        return shard, group, row

    def _group(self, shard: int, group: int) -> pa.ChunkedArray:
        key = shard, group
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        file = self._file(shard)
        found = file.read_row_group(group, columns=["png"], use_threads=False)["png"]
        self._held[key] = found
        self._size += found.nbytes
        while self._size > HELD and len(self._held) > 1:
            _, gone = self._held.popitem(last=False)
            self._size -= gone.nbytes
        return found

    def _file(self, shard: int) -> pq.ParquetFile:
        """A shard, opened; to open one takes longer than to read a row group of it."""
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        if len(self._files) == OPEN:
            self._files.popitem(last=False)[1].close()
        self._files[shard] = pq.ParquetFile(self._shards[shard], pre_buffer=False)
        return self._files[shard]
