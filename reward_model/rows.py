"""A judge's training set: an example a row, with all that training and measuring ask of it.

first, second          prompts; second is null where the example is one row
factuality, …          how likely it is right, or the first is better; null: nothing is said
tier_first, _second    MedGR2's tiers, of pairs
accepted               the share of readers who accept it, where they gave verdicts
logprob                the generator's mean log-probability of the first row, where it is known
patient, set           whose image it is, and in which of the four sets they are
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.prompts import judge_prompt
from engine.records import Triplet
from engine.trainer import write_training_set
from reward_model.criteria import CRITERIA
from reward_model.examples import Example
from reward_model.patient_sets import set_of

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id", "patient", "set", "first", "second")),
        *(
            (name, pa.float64())
            for name in (*CRITERIA, "tier_first", "tier_second", "accepted", "logprob")
        ),
        ("stream", pa.string()),
        ("round", pa.int64()),
    ]
)


def row_of(example: Example, patient: str, prompts: str) -> dict[str, Any]:
    """An example as a row; `prompts` is the named set of the judge's words."""

    def text(row: Triplet) -> str:
        return judge_prompt(prompts, row.question, row.options, row.rationale, row.answer)

    return {
        "image_id": example.first.image_id,
        "patient": patient,
        "set": set_of(patient),
        "first": text(example.first),
        "second": text(example.second) if example.second else None,
        **{name: example.targets.get(name) for name in CRITERIA},
        "tier_first": example.tiers[0],
        "tier_second": example.tiers[1],
        "accepted": example.accepted,
        "logprob": example.first.logprob,
        "stream": example.stream,
        "round": example.round,
    }


def write_examples(
    folder: Path, examples: Iterable[Example], patients: Mapping[str, str], prompts: str
) -> int:
    """Examples as a training set; `patients` are by image. Returns how many."""
    rows = (row_of(example, patients[example.first.image_id], prompts) for example in examples)
    return write_training_set(folder, rows, SCHEMA)
