"""Forms in JSON: `data/SPLIT.json`, an array with a row a line, and `images/ID.png` once each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.hub.forms.exported import Exported
from engine.hub.forms.worded import Worded


def write_json(
    exported: Exported, folder: Path, record: Callable[[Worded], dict[str, Any]]
) -> list[str]:
    """Write the arrays and the pictures of a dataset; returns the splits that there are."""
    for name in ("data", "images"):
        (folder / name).mkdir()
    splits: list[str] = []
    for split, path in exported.files():
        first = split not in splits
        with (folder / "data" / f"{split}.json").open("a", encoding="utf-8") as out:
            for group in exported.groups(path):
                for picture, png in group.pictures():
                    (folder / "images" / picture).write_bytes(png)
                for row in group.rows:
                    out.write("[\n" if first else ",\n")
                    out.write(json.dumps(record(row), ensure_ascii=False))
                    first = False
        if split not in splits:
            splits.append(split)
    for split in splits:
        with (folder / "data" / f"{split}.json").open("a", encoding="utf-8") as out:
            out.write("\n]\n")
    return splits
