"""EasyR1's Parquet: `images`, `problem` and `answer`.

`RLHFDataset` in `verl/utils/dataset.py` of https://github.com/hiyouga/EasyR1 puts a picture where
the problem says `<image>`, reads a folder by its first file's ending and makes an array of what a
batch has in any other column. So data lie in a folder of their own, and options are JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.hub.forms.exported import Exported
from engine.hub.forms.form import Form
from engine.hub.forms.parquet_files import write_parquet
from engine.hub.forms.worded import Worded

_COLUMNS = [(name, pa.string()) for name in ("id", "problem", "answer", "question", "options")]


def _write(exported: Exported, folder: Path) -> None:
    write_parquet(exported, folder / "data", _COLUMNS, _record)


def _record(row: Worded, split: str, number: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "problem": f"<image>{row.examined}",
        "answer": row.answer,
        "question": row.question,
        "options": json.dumps(row.options, ensure_ascii=False),
    }


FORM = Form(
    tool="EasyR1",
    write=_write,
    load="""`verl.trainer.main` takes the lines below, and a reward of yours,
`worker.reward.reward_function`. A problem says how to answer, so there is no `format_prompt`.

    data.train_files={folder}/data@train data.val_files={folder}/data@validation
    data.prompt_key=problem data.answer_key=answer data.image_key=images data.format_prompt=null""",
    configs=("",),
)
