"""What a form is: how its folder is written, and what its README.md says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from engine.hub.forms.exported import Exported
from engine.records import content_id


@dataclass(frozen=True, slots=True)
class Form:
    """The dataset as a tool reads it.

    `write` makes `data/` and what is beside it in an empty folder; `load` is what the tool is told,
    of a `{folder}`. `configs` are the folders of Parquet below `data/` that `datasets` loads by
    name, "" for `data/` itself; none where there is no Parquet.
    """

    tool: str
    write: Callable[[Exported, Path], None]
    load: str
    configs: tuple[str, ...] = ()


def readme(form: Form, exported: Exported, folder: str) -> str:
    """The README.md of a form's folder of that name."""
    front = {"pretty_name": f"{exported.name} for {form.tool}", "license": exported.licence}
    splits = list(dict.fromkeys(split for split, _ in exported.files()))
    configs = [_config(name, splits, exported) for name in form.configs]
    head = yaml.safe_dump(
        front | ({"configs": configs} if configs else {}), sort_keys=False, allow_unicode=True
    )
    return f"""---
{head}---

# {exported.name} for {form.tool}

The rows of the dataset `{exported.name}` (id `{exported.id}`, licence {exported.licence}) as
{form.tool} reads them, in the words of Triptych's own trainings. Splits are the dataset's, and so
are ids: `triptych lineage trace ID` says where a row came from. The card, `../dataset/README.md`,
holds the caveats.

{form.load.format(folder=folder)}
"""


def _config(name: str, splits: list[str], exported: Exported) -> dict[str, object]:
    """Of a version of its own: `datasets` keeps what it loaded by the folder's name and this."""
    place = f"data/{name}/" if name else "data/"
    edition = content_id(exported.id, exported.words, exported.style)
    return {
        "config_name": name or "default",
        "version": f"0.0.{int(edition[:7], 16)}",
        "data_files": [{"split": s, "path": f"{place}{s}-*.parquet"} for s in splits],
    }
