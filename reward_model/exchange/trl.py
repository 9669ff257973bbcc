"""Preferences as TRL's trainers take them: `prompt`, `chosen` and `rejected` as conversations.

A line is one preference by one criterion. `images` holds the picture, which TRL puts before the
prompt's words; what is beside these columns is for whoever reads the file, and TRL leaves it alone.
`datasets.load_dataset("parquet", data_files=FILE)` reads it.
https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.answers.parsing import render_completion
from engine.prompts import answer_prompt
from engine.records import Triplet
from reward_model.criteria import CRITERIA
from reward_model.verdicts import FIRST, PREFERENCE, SECOND, Answer

_TALK = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = ("criterion", "image_id", "chosen_id", "rejected_id", "expert")
SAID = ("prompt", "chosen", "rejected")
GROUP = 64  # lines of a row group: each has a picture


def _schema() -> pa.Schema:
    """With the metadata by which `datasets` knows that `images` are images."""
    text = {"dtype": "string", "_type": "Value"}
    talk = {"feature": {"role": text, "content": text}, "_type": "List"}
    features: dict[str, Any] = dict.fromkeys(SAID, talk)
    features |= {"images": {"feature": {"_type": "Image"}, "_type": "List"}}
    features |= dict.fromkeys(TEXTS, text)
    columns = [(name, _TALK) for name in SAID] + [("images", pa.list_(_PICTURE))]
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([*columns, *((name, pa.string()) for name in TEXTS)], told)


def write(
    answers: Iterable[Answer],
    rows: Mapping[str, Triplet],
    pictures: Mapping[str, bytes],
    words: str,
    style: str,
) -> tuple[bytes, int, int]:
    """A file, how many preferences are in it, and how many are not: neither was the better one.

    `rows` are by id, `pictures` PNG bytes by image id; `words` is a set of prompts and `style` how
    it asks for an answer (`engine.prompts`). A reader's repeats are left out too, uncounted.
    """
    out, undecided, lines, count = io.BytesIO(), 0, [], 0
    with pq.ParquetWriter(out, _schema(), compression="zstd") as writer:
        for answer in answers:
            if answer.kind != PREFERENCE or answer.repeat:
                continue
            for criterion in CRITERIA:
                choice = answer.preferences.get(criterion)
                if choice in (FIRST, SECOND):
                    lines.append(_line(answer, criterion, choice, rows, pictures, words, style))
                    count += 1
                elif choice:
                    undecided += 1
            if len(lines) >= GROUP:
                writer.write_table(pa.Table.from_pylist(lines, schema=_schema()))
                lines = []
        writer.write_table(pa.Table.from_pylist(lines, schema=_schema()))
    return out.getvalue(), count, undecided


def _line(
    answer: Answer,
    criterion: str,
    choice: str,
    rows: Mapping[str, Triplet],
    pictures: Mapping[str, bytes],
    words: str,
    style: str,
) -> dict[str, Any]:
    first, second = rows[answer.triplet_id], rows[answer.other_id]
    better, worse = (first, second) if choice == FIRST else (second, first)
    asked = answer_prompt(words, better.question, better.options, style)
    image = better.image_id
    return {
        "prompt": [{"role": "user", "content": asked}],
        "chosen": [_turn(better)],
        "rejected": [_turn(worse)],
        "images": [{"bytes": pictures[image], "path": f"{image}.png"}],
        "criterion": criterion,
        "image_id": image,
        "chosen_id": better.id,
        "rejected_id": worse.id,
        "expert": answer.reader,
    }


def _turn(row: Triplet) -> dict[str, str]:
    return {"role": "assistant", "content": render_completion(row.rationale, row.answer)}
