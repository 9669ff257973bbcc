"""LLaMA-Factory's JSON: `messages` by role and `images`, with the `dataset_info.json` of them.

https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md, "OpenAI Format" and "Multimodal
Image Dataset": as many `<image>` as pictures, whose paths are below `media_dir`, by default
`dataset_dir`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.hub.forms.exported import Exported
from engine.hub.forms.form import Form
from engine.hub.forms.json_files import write_json
from engine.hub.forms.worded import Worded


def _write(exported: Exported, folder: Path) -> None:
    splits = write_json(exported, folder, _record)
    info = {f"triptych_{split}": _described(split) for split in splits}
    text = json.dumps(info, indent=2)
    (folder / "dataset_info.json").write_text(f"{text}\n", encoding="utf-8")


def _record(row: Worded) -> dict[str, Any]:
    return {
        "id": row.id,
        "messages": [
            {"role": "user", "content": f"<image>{row.prompt}"},
            {"role": "assistant", "content": row.completion},
        ],
        "images": [f"images/{row.image_id}.png"],
    }


def _described(split: str) -> dict[str, Any]:
    return {
        "file_name": f"data/{split}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }


FORM = Form(
    tool="LLaMA-Factory",
    write=_write,
    load="""The configuration of `llamafactory-cli train` has:

    dataset_dir: {folder}
    dataset: triptych_train""",
)
