"""LLaVA's JSON: `id`, `image` and `conversations` of a human and a gpt.

https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md; `llava/train/train.py`
there opens `image` below `--image_folder` and takes `<image>` in a text for the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.hub.forms.exported import Exported
from engine.hub.forms.form import Form
from engine.hub.forms.json_files import write_json
from engine.hub.forms.worded import Worded


def _write(exported: Exported, folder: Path) -> None:
    write_json(exported, folder, _record)


def _record(row: Worded) -> dict[str, Any]:
    return {
        "id": row.id,
        "image": f"{row.image_id}.png",
        "conversations": [
            {"from": "human", "value": f"<image>\n{row.prompt}"},
            {"from": "gpt", "value": row.completion},
        ],
    }


FORM = Form(
    tool="LLaVA",
    write=_write,
    load="""`llava/train/train_mem.py` takes:

    --data_path {folder}/data/train.json
    --image_folder {folder}/images""",
)
