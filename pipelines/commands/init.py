"""Init: a configuration for a folder of images, written from what can be found out about it.

triptych init ours --images studies
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from engine.config import load
from engine.config.source import Source
from engine.config.templates import Template
from engine.errors import TriptychError
from engine.imaging.table import NAMES
from engine.private import KEY, key_of_environment, key_of_file
from pipelines.commands.inspection import Found, gpu_memory, look_into
from pipelines.progress import Display
from reward_model.certificate import least_verdicts
from reward_model.experts.default_questions import default_questions
from reward_model.patient_sets import REPORT, SHARES

KEY_FILE = "triptych.key"
SECONDS = 20  # an expert needs for a verdict
CONFIDENCE = 0.9
PROMISES = (0.95, 0.9)  # of precision, the better first
SPARE = 1.5  # random verdicts for one that a promise needs at the least: some lie below, or reject
MODELS = {  # MiB of a GPU's memory from which a base is trained on it with LoRA
    40_000: "Qwen/Qwen2.5-VL-7B-Instruct",
    20_000: "Qwen/Qwen2.5-VL-3B-Instruct",
}


def write_configuration(name: str, folder: Path, force: bool, display: Display) -> None:
    """Write NAME.yaml, a key where there is none, and questions where a table has labels.

    Raises TriptychError where a file of that name is there already, unless `force` replaces it, or
    the folder holds no images.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise TriptychError(f"{name!r} is no name: give letters, digits, - and _, as in `ours`")
    found = look_into(folder)
    path, questions = Path(f"{name}.yaml"), Path(f"{name}-questions.yaml")
    asked = _questions(found)
    files = [path, questions] if asked else [path]
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        raise TriptychError(f"{' and '.join(there)} there already: --force replaces what it writes")
    key_file = _key_file()
    about = _values(name, folder, found, gpu_memory(), key_file, asked)
    about |= {"file": str(path), "templates": str(questions) if asked else ""}
    text = _rendered(about)
    if asked:
        _write(questions, _as_yaml(asked, found, str(questions)))
    _write(path, text)
    load(path)
    for line in _told(found, about, key_file):
        display.say(f"  {line}")
    if key_file and Path.cwd().resolve().is_relative_to(folder.resolve()):
        display.warn(f"  {key_file} lies among the images: whoever is given them has the key too")
    display.done(f"{' and '.join(map(str, files))} written")
    display.say(f"read {'them' if asked else 'it'}, then: triptych ingest {path}")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _key_file() -> str:
    """The key's file, made where there is none; "" where the key is in the environment.

    Raises TriptychError for a key that ingest would refuse.
    """
    if key_of_environment():
        return ""
    path = Path(KEY_FILE)
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"{secrets.token_hex(32)}\n")
    key_of_file(path, "the key")
    return KEY_FILE


def _questions(found: Found) -> dict[str, list[Template]]:
    """Questions about the table's labels, unless the folder has questions of its own."""
    labels = found.table.labels if found.table and not found.questions else {}
    asked = {column: default_questions(column, cells) for column, cells in labels.items()}
    return {column: templates for column, templates in asked.items() if templates}


class _Plain(yaml.SafeDumper):
    """Text without quotes where the questions' file needs none: there every value is text."""


_Plain.yaml_implicit_resolvers = {}


def _as_yaml(asked: Mapping[str, list[Template]], found: Found, name: str) -> str:
    """The questions' file, with what can be said of a column at its head."""
    head = resources.files("pipelines.commands").joinpath("questions-head.txt").read_text("utf-8")
    assert found.table is not None
    lines = [head.format(name=name, table=found.table.name)]
    for column, templates in asked.items():
        lines.append(f"{_value(column)}:")
        for template in templates:
            said = template.model_dump(exclude_defaults=True)
            keys = [f"{key}: {_value(value)}" for key, value in said.items()]
            lines += [f"  {'- ' if n == 0 else '  '}{key}" for n, key in enumerate(keys)]
        lines.append("")
    return "\n".join(lines)


def _value(value: object) -> str:
    """A value on one line of YAML."""
    flow = not isinstance(value, str)
    text = yaml.dump(value, Dumper=_Plain, default_flow_style=flow, allow_unicode=True, width=10**6)
    return str(text).removesuffix("...\n").strip()


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked of generator and readers, by how many images and patients there are."""

    images: int
    patients: int
    large: bool  # a model that follows instructions, on GPUs

    @property
    def training(self) -> int:
        """About how many training images there are."""
        return max(round(self.images * _share("train")), 1)

    @property
    def tasks(self) -> int:
        """Questions a round: a few an image, and not so many that a first run takes days."""
        return max(60, min(4 * self.training, 6000 if self.large else 600))

    @property
    def verdicts(self) -> dict[str, int]:
        """Of people: no more than there are images, and of a patient one that is drawn evenly."""
        held_out = round(self.images * (1 - _share("train")))
        return {
            "first": max(20, min(200, 2 * self.training)),
            "random": max(10, min(150, round(self.patients * _share("train")))),
            "informative": max(10, min(60, self.training)),
            "test": max(10, min(100, 2 * held_out)),
        }

    @property
    def guarantee(self) -> float | None:
        """What may be promised of the kept rows; None where there are too few verdicts."""
        counted = self.verdicts["random"] * (1 - SHARES[REPORT])
        enough = [p for p in PROMISES if counted >= SPARE * least_verdicts(p, CONFIDENCE)]
        return enough[0] if enough else None


def _share(split: str) -> float:
    shares = dict(Source().split)
    return shares[split] / sum(shares.values())  # type: ignore[index]


def _values(
    name: str,
    folder: Path,
    found: Found,
    memory: list[int],
    key_file: str,
    asked: Mapping[str, list[Template]],
) -> dict[str, Any]:
    """What stands in the configuration."""
    model = next((m for least, m in MODELS.items() if memory and min(memory) >= least), "tiny")
    gpus = len(memory) if model != "tiny" else 0
    sizes = Sizes(found.images, found.patients, gpus > 0)
    verdicts, rounds = sizes.verdicts, 3 if gpus else 2
    people = not found.questions and not asked
    hours = {f"{what}_hours": _hours(number) for what, number in verdicts.items()}
    whole = verdicts["first"] + 2 * verdicts["test"]
    whole += rounds * (verdicts["random"] + verdicts["informative"])
    return verdicts | hours | {
        "name": name,
        "path": str(folder),
        "found_in_words": _in_words(found),
        "model": model,
        "why_model": _why(memory, gpus),
        "rounds": rounds,
        "key_file": key_file,
        "questions": found.questions,
        "several": found.kinds["DICOM"] or found.kinds["NIFTI"] or found.kinds["TIFF"],
        "table": found.table,
        "labels": list(asked),
        "known_tables": NAMES,
        "seed_images": max(10, min(1000, sizes.training // 2)),
        "people": people,
        "hours": _hours(whole),
        "seconds": SECONDS,
        "gpus": gpus,
        "backend": "vllm" if find_spec("vllm") else "transformers",
        "training": f"workers: {gpus}, gpus: 1, bf16: true, lora_rank: 32",
        "tasks": sizes.tasks,
        "samples": 8 if gpus else 4,
        "guarantee": sizes.guarantee if people else None,
        "least": least_verdicts(PROMISES[-1], CONFIDENCE),
    }  # fmt: skip


def _hours(verdicts: int) -> str:
    return f"{max(verdicts * SECONDS / 3600, 0.1):.1f}"


def _why(memory: list[int], gpus: int) -> str:
    if gpus:
        here = "this machine's GPU" if gpus == 1 else f"the {gpus} GPUs of this machine"
        return f"base of policy, generator and judge; for {here}"
    why = "no GPU here" if not memory else "the GPUs here are small"
    return f"{why}: shows that the engine works, not medicine; a Hub id on GPUs"


def _in_words(found: Found) -> str:
    """What the folder holds, in a line."""
    kinds = ", ".join(f"{kind}" for kind, _ in found.kinds.most_common())
    shown = ", ".join(modality for modality, _ in found.modalities.most_common(5))
    about = "" if found.opened == found.files else "about "
    return f"{about}{found.images} images ({kinds}{': ' + shown if shown else ''})"


def _told(found: Found, about: dict[str, Any], key_file: str) -> list[str]:
    """What a person should know before reading the files, a line each."""
    opened = "" if found.opened == found.files else f" (of {found.opened} files that were opened)"
    lines = [f"{about['found_in_words']}{opened}, of about {found.patients} patients"]
    table = found.table
    if table:
        labels = ", ".join(table.labels) or "none that looks like a label"
        lines.append(f"{table.name}: {table.rows} rows; labels: {labels}")
        if table.reports:
            lines.append(f"{table.name}: reports are kept without what may name somebody")
        if table.without_file:
            lines.append(f"{table.name}: {table.without_file} of its paths are no file below it")
        for column, ours in table.to_rename.items():
            lines.append(f"{table.name}: if {column} is the {ours}'s, rename the column to {ours}")
    for name in found.tables_without_path:
        lines.append(f"{name} has no column `path` with the files' names, and is not read")
    if found.questions:
        lines.append(f"{found.questions} questions in VQA-RAD's form: their answers are the expert")
    if key_file:
        lines.append(
            f"{key_file} has the secret of the patients' hashes: keep it where only you can read "
            "it, out of version control; another key makes other ids"
        )
    else:
        lines.append(f"the secret of the patients' hashes is in {KEY}")
    return lines


def _rendered(values: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    text = resources.files("pipelines.commands").joinpath("init.yaml.jinja").read_text("utf-8")
    place = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return place.from_string(text).render(values) + "\n"
