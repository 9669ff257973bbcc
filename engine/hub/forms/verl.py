"""verl's Parquet: a prompt in the style of examinations, and the right answer for a rule.

https://verl.readthedocs.io/en/latest/preparation/prepare_data.html; `RLHFDataset` in
`verl/utils/dataset/rl_dataset.py` of https://github.com/volcengine/verl puts a picture where the
prompt says `<image>`; `geo3k.py` among its examples writes the same columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.hub.forms.exported import Exported
from engine.hub.forms.form import Form
from engine.hub.forms.parquet_files import TALK, write_parquet
from engine.hub.forms.worded import Worded

_INFO = [
    ("split", pa.string()),
    ("index", pa.int64()),
    ("id", pa.string()),
    ("question", pa.string()),
    ("options", pa.list_(pa.string())),
    ("answer", pa.string()),
]
_COLUMNS = [
    ("id", pa.string()),
    ("data_source", pa.string()),
    ("prompt", TALK),
    ("ability", pa.string()),
    ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
    ("extra_info", pa.struct(_INFO)),
]


def _write(exported: Exported, folder: Path) -> None:
    def record(row: Worded, split: str, number: int) -> dict[str, Any]:
        return {
            "id": row.id,
            "data_source": exported.name,
            "prompt": [{"role": "user", "content": f"<image>{row.examined}"}],
            "ability": "medical_vqa",
            "reward_model": {"style": "rule", "ground_truth": row.answer},
            "extra_info": {
                "split": split,
                "index": number,
                "id": row.id,
                "question": row.question,
                "options": list(row.options),
                "answer": row.answer,
            },
        }

    write_parquet(exported, folder / "data", _COLUMNS, record)


FORM = Form(
    tool="verl",
    write=_write,
    load="""`verl.trainer.main_ppo` takes lists of files, and a reward of yours
(`custom_reward_function`): it has none for this `data_source`. The options are in `extra_info`.

    data.train_files=[{folder}/data/train-00000-of-00001.parquet]
    data.image_key=images""",
    configs=("",),
)
