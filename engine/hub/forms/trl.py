"""TRL's forms: `sft` with prompt and completion, `grpo` with a prompt and what a reward needs.

https://huggingface.co/docs/trl/dataset_formats: conversations, "prompt-completion" and
"prompt-only"; the pictures in `images`, which TRL puts before the prompt's words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.hub.forms.exported import Exported
from engine.hub.forms.form import Form
from engine.hub.forms.parquet_files import TALK, write_parquet
from engine.hub.forms.worded import Worded

_SFT = [("id", pa.string()), ("prompt", TALK), ("completion", TALK)]
_GRPO = [
    ("id", pa.string()),
    ("prompt", TALK),
    ("question", pa.string()),
    ("options", pa.list_(pa.string())),
    ("gold", pa.string()),
]


def _write(exported: Exported, folder: Path) -> None:
    write_parquet(exported, folder / "data" / "sft", _SFT, _taught)
    write_parquet(exported, folder / "data" / "grpo", _GRPO, _asked)


def _taught(row: Worded, split: str, number: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "prompt": [{"role": "user", "content": row.prompt}],
        "completion": [{"role": "assistant", "content": row.completion}],
    }


def _asked(row: Worded, split: str, number: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "prompt": [{"role": "user", "content": row.examined}],
        "question": row.question,
        "options": list(row.options),
        "gold": row.answer,
    }


FORM = Form(
    tool="TRL",
    write=_write,
    load="""For `SFTTrainer` (`max_length=None`, or image tokens are cut) and `GRPOTrainer`,
whose reward functions get every column:

    datasets.load_dataset("{folder}", "sft", split="train")
    datasets.load_dataset("{folder}", "grpo", split="train")""",
    configs=("sft", "grpo"),
)
