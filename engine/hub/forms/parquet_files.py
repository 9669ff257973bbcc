"""Forms in Parquet: a file for each of the dataset's, row group by row group.

`images` holds each row's one picture as bytes. A row group has a picture once, as an entry of a
dictionary that rows point to, as the dataset has it (`engine.hub.sharding`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.hub.forms.exported import Exported
from engine.hub.forms.worded import Worded
from engine.hub.sharding import LARGEST

TALK = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_IMAGES = {"feature": {"_type": "Image"}, "_type": "List"}


def write_parquet(
    exported: Exported,
    folder: Path,
    columns: list[tuple[str, pa.DataType]],
    record: Callable[[Worded, str, int], dict[str, Any]],
) -> None:
    """Write files with `columns` and `images`, with the metadata by which `datasets` knows these.

    `record` gives the columns of a row, from the row, its split and its number in the split.
    """
    folder.mkdir(parents=True)
    kinds = pa.schema(columns)
    features = {name: _feature(kind) for name, kind in columns} | {"images": _IMAGES}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    numbers: dict[str, int] = {}
    for split, path in exported.files():
        writer = None
        for group in exported.groups(path):
            first = numbers.get(split, 0)
            numbers[split] = first + len(group.rows)
            rows = [record(row, split, n) for n, row in enumerate(group.rows, first)]
            table = pa.Table.from_pylist(rows, schema=kinds)
            table = table.append_column("images", _each_in_a_list(group.images))
            writer = writer or _writer(folder / path.name, table.schema, told)
            writer.write_table(table, row_group_size=len(table))
        if writer:
            writer.close()


def _writer(path: Path, schema: pa.Schema, told: dict[str, str]) -> pq.ParquetWriter:
    writer = pq.ParquetWriter(
        path,
        schema,
        store_schema=False,  # which would say that pictures are dictionaries
        compression="zstd",
        write_statistics=False,
        dictionary_pagesize_limit=LARGEST,
    )
    writer.add_key_value_metadata(told)
    return writer


def _each_in_a_list(images: pa.StructArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(len(images) + 1, dtype=np.int32)), images)


def _feature(kind: pa.DataType) -> Any:
    """How `datasets` names an Arrow type: a text, an int64, a list or a struct of them."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": str(kind), "_type": "Value"}
