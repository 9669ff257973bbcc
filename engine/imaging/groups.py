"""Which images are one group, and in which split a group is, so that no split parts it.

Patients who share a picture, exactly or nearly, mirrored or turned, are one group. It is worked out
on columns, of which an image takes some hundred bytes, and on signatures, which may be a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from engine.errors import TriptychError
from engine.imaging.duplicates import near_pairs

# `group` and `split` are empty where they are not given yet.
SEEN = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),
        "frame": pa.int64(),
        "patient": pa.string(),
        "group": pa.string(),
        "split": pa.string(),
    }
)


def split_of_group(group: str, fractions: dict[str, float]) -> str:
    """The split of a group by its hash: the same on every worker, one group in one split.

    `fractions` maps split names to shares, in order; they are normalised by their sum.
    """
    digest = hashlib.sha256(f"split:{group}".encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64 * sum(fractions.values())
    for name, share in fractions.items():
        if at < share:
            return name
        at -= share
    return next(reversed(fractions))


def group_images(
    seen: pa.Table,
    signatures: np.ndarray,
    shares: dict[str, float],
    ties: Iterable[tuple[str, str]] = (),
    lines: Mapping[str, int] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Each image once, with its group and split, and what is an exact copy of one.

    `seen` has SEEN's columns; its rows with a group are settled already and keep it. `signatures`
    are (rows, SIGNATURE_BYTES) uint8. `ties` are further names of patients or groups that belong
    together, `lines` the table's, by source, to name. Both results are rows of `seen` by source and
    frame, without the settled ones. A split that is given holds for the whole group. Raises
    TriptychError where a group would be in two splits.
    """
    new = pc.equal(seen["group"], "").to_numpy(zero_copy_only=False)
    order = _order(seen, new)
    first = _first(seen["id"], order)
    names, patient, group, tied = _coded(seen, list(ties))
    edges = [
        np.stack([patient, patient[first]], axis=1),
        np.stack([patient, group], axis=1)[~new],
        tied,
        patient[np.fromiter(near_pairs(signatures), np.dtype((np.int64, 2)))],
    ]
    smallest = _smallest(np.concatenate(edges), len(names))
    group_of = smallest[patient]
    splits = _splits(seen, group_of, order, lines or {})
    fresh = order[new[order] & (first[order] == order)]
    copies = order[new[order] & (first[order] != order)]
    mine = names.take(pa.array(group_of[fresh]))
    given = (
        splits.get(code) or split_of_group(name, shares)
        for code, name in zip(group_of[fresh].tolist(), mine.to_pylist())
    )
    kept = seen.take(pa.array(fresh))
    kept = kept.set_column(kept.schema.get_field_index("group"), "group", mine)
    column = pa.array(given, pa.string())
    kept = kept.set_column(kept.schema.get_field_index("split"), "split", column)
    return kept, seen.take(pa.array(copies))


def _order(seen: pa.Table, new: np.ndarray) -> np.ndarray:
    """Rows in the order in which they count: settled ones, then by source and frame."""
    keys = [("new", "ascending"), ("source", "ascending"), ("frame", "ascending")]
    table = seen.select(["source", "frame"]).append_column("new", pa.array(new.astype(np.int8)))
    return np.asarray(pc.sort_indices(table, sort_keys=keys)).astype(np.int64)


def _first(ids: pa.ChunkedArray, order: np.ndarray) -> np.ndarray:
    """By row, the first row in an order that has the same id."""
    codes = _codes(ids, pc.unique(ids))
    _, places = np.unique(codes[order], return_index=True)
    return order[places][codes]


def _coded(
    seen: pa.Table, ties: list[tuple[str, str]]
) -> tuple[pa.Array, np.ndarray, np.ndarray, np.ndarray]:
    """All names sorted; by row the numbers of its patient and group; those of ties, (K, 2)."""
    told = pa.array([name for tie in ties for name in tie], pa.string())
    every = pa.chunked_array([*seen["patient"].chunks, *seen["group"].chunks, told], pa.string())
    names = pc.unique(every)
    names = names.take(pc.sort_indices(names))
    numbers = (_codes(column, names) for column in (seen["patient"], seen["group"], told))
    patient, group, tied = numbers
    return names, patient, group, tied.reshape(-1, 2)


def _codes(values: pa.ChunkedArray | pa.Array, among: pa.Array) -> np.ndarray:
    found = pc.index_in(values, value_set=among)
    return np.asarray(found.to_numpy(), np.int64)


def _smallest(edges: np.ndarray, number: int) -> np.ndarray:
    """By node, the smallest node that it is tied to, directly or through others."""
    ones = np.ones(len(edges), bool)
    graph = sparse.coo_array((ones, (edges[:, 0], edges[:, 1])), (number, number))
    labels = sparse.csgraph.connected_components(graph, directed=False)[1]
    return np.unique(labels, return_index=True)[1][labels]


def _splits(
    seen: pa.Table, group_of: np.ndarray, order: np.ndarray, lines: Mapping[str, int]
) -> dict[int, str]:
    """The split that a group's rows name, by the group's number."""
    said: dict[int, int] = {}
    given = order[pc.not_equal(seen["split"], "").to_numpy(zero_copy_only=False)[order]]
    split = seen["split"].take(pa.array(given)).to_pylist()
    for place, group in enumerate(group_of[given].tolist()):
        other = said.setdefault(group, place)
        if split[other] != split[place]:
            rows = (seen["source"][int(given[n])].as_py() for n in (other, place))
            places = [f"line {lines[source]}" if source in lines else source for source in rows]
            raise TriptychError(
                f"{places[0]} and {places[1]} are one patient or show the same picture, and are "
                f"given to {split[other]} and {split[place]}: give them one split"
            )
    return {group: split[place] for group, place in said.items()}
