"""Preflight: what a run takes, before anything starts, and what cannot fit.

triptych preflight configs/medgr2-7b.yaml --rate 2.5
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.table import Table

from engine.config import Config
from engine.records import Image
from engine.workspace import Workspace
from pipelines.commands.inspection import gpu_memory as gpus_here
from pipelines.commands.inspection import picture_sizes
from pipelines.progress import Display, verbatim
from pipelines.training.preflight.hours import Timed
from pipelines.training.preflight.memory import GIB
from pipelines.training.preflight.report import Images, Report, report
from pipelines.training.preflight.stages import Machine, gib

SEEN = 10_000  # images of a workspace whose sizes are read
ROWS = {"generate": "sequences", "evaluate": "sequences", "verify": "sequences"}


def check(
    config: Config,
    folder: Path | None,
    gpu_memory: float | None,
    host_memory: float | None,
    rate: float | None,
    as_json: bool,
) -> bool:
    """Print what a run takes; whether nothing was found that cannot fit."""
    machine = machine_of(config, gpu_memory, host_memory)
    found = report(config, machine, images_of(config, folder), _left(folder))
    if as_json:
        print(json.dumps(as_dict(found, rate), indent=1))
    else:
        show(found, rate, Display())
    return not found.problems


def machine_of(config: Config, gpu_memory: float | None, host_memory: float | None) -> Machine:
    """GPUs and memory: as the command says, the configuration, and then this machine."""
    told, here = config.cluster, gpus_here()
    memory = gpu_memory or told.gpu_memory
    said = "as given" if gpu_memory else "as cluster.gpu_memory says" if memory else ""
    if memory is None and here:
        memory, said = min(here) / 1024, "this machine's"
    host = host_memory or told.host_memory
    if host is None and (here or (told.address is None and not _asks_for_gpus(config))):
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    gpus = told.gpus if told.gpus is not None else len(here) or None
    return Machine(gpus=gpus, gpu_memory=memory, host_memory=host, source=said)


def _asks_for_gpus(config: Config) -> bool:
    sections = (config.sft, config.grpo, config.reward)
    backends = (config.generator.backend, config.evaluate.backend)
    return any(one.gpus for one in (*sections, *backends))


def images_of(config: Config, folder: Path | None) -> Images:
    """The images of a workspace that has them, of the source's folder, or that will be drawn."""
    root, source = folder or config.folder(), config.source
    if (root / "workspace.json").is_file():
        paths = [path for _, path, _ in Workspace.existing(root).shards(Image.table)]
        if paths:
            return Images(
                number=sum(pq.read_metadata(path).num_rows for path in paths),
                sizes=_sizes(paths),
                source="of the workspace",
            )
    if source.path is None:
        drawn = sum(source.phantoms.values()) + 2 * source.twins
        return Images(number=drawn, sizes=[(source.size, source.size)], source="as drawn")
    if Path(source.path).is_dir():
        sizes, number = picture_sizes(Path(source.path))
        return Images(number=number, sizes=sizes, source=f"{len(sizes):,} of {source.path}")
    return Images()


def _sizes(paths: Iterable[Path]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for path in paths:
        table = pq.read_table(path, columns=["width", "height"])
        found += zip(table["width"].to_pylist(), table["height"].to_pylist())
        if len(found) >= SEEN:
            break
    return found


def _left(folder: Path | None) -> float | None:
    """Bytes that are left where a workspace is to be; None where none is named."""
    if folder is None:
        return None
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return float(shutil.disk_usage(place).free)


def as_dict(found: Report, rate: float | None) -> dict[str, Any]:
    """The report for a machine: sizes in bytes, times in hours."""
    return {
        "name": found.config.name,
        "machine": asdict(found.machine),
        "models": {
            role: {"name": one.name, "weights": one.shape.weights, "known_from": one.source}
            for role, one in found.models.items()
        },
        "picture_tokens": asdict(found.picture) if found.picture else None,
        "prompts": [asdict(one) for one in found.prompts],
        "memory": [
            asdict(one) | {"total": one.held.total, "all_gpus": one.all_gpus}
            for one in found.stages
        ],
        "stages": [
            asdict(one.work)
            | {"checkpoints": one.work.saves, "hours": one.hours, "gpu_hours": one.gpu_hours}
            for one in found.works
        ],
        "disk": found.disk,
        "hours": found.hours,
        "gpu_hours": found.gpu_hours,
        "money": _money(found, rate),
        "problems": found.problems,
        "warnings": found.warnings,
        "unknown": found.unknown,
    }


def show(found: Report, rate: float | None, display: Display) -> None:
    """The report for a person."""
    for table in (_models(found), _prompts(found), _memory(found), _works(found)):
        if table.row_count:
            display.show(table)
    _lines(display, _totals(found, rate))
    if found.unknown:
        _lines(display, ["not known:", *(f"  {line}" for line in found.unknown)], "dim")
    _lines(display, found.warnings, "yellow")
    _lines(display, (f"✗ {line}" for line in found.problems), "red")
    if not found.problems:
        known = "" if found.stages else ", of what is known"
        display.done(f"nothing was found that cannot fit{known}")


def _lines(display: Display, lines: Iterable[str], style: str = "") -> None:
    """Each on a line of its own, however wide the terminal is."""
    for line in lines:
        display.console.print(verbatim(line, style), highlight=False, soft_wrap=True)


def _table(title: str, *columns: str, right: str = "") -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in right.split(", ") else "left")
    return table


def _models(found: Report) -> Table:
    table = _table("Models", "role", "model", "weights", "known from", right="weights")
    for role, one in found.models.items():
        base = role != "verifier" and one.name == found.config.base_model()
        name = found.config.model if base else one.name
        table.add_row(role, name, f"{one.shape.weights:,}", one.source)
    return table


def _prompts(found: Report) -> Table:
    table = _table(
        "Longest prompts, in tokens", "what", "prompt", "reply", "together", "max_model_len",
        right="prompt, reply, together, max_model_len",
    )  # fmt: skip
    for one in found.prompts:
        cells = (one.prompt, one.reply, one.whole)
        limit = "" if one.limit is None else f"{one.limit:,}"
        table.add_row(one.what, *(f"{n:,}" for n in cells), limit)
    if picture := found.picture:
        seen = found.images.source if picture.seen else "of any size: no image was seen"
        table.caption = (
            f"a picture: {picture.most:,} tokens at most, {picture.mean:,.0f} on average ({seen})"
        )
    return table


def _memory(found: Report) -> Table:
    table = _table(
        "Memory", "stage", "processes", "part", "GiB of each", "GiB of the host, all",
        right="GiB of each, GiB of the host, all",
    )  # fmt: skip
    for one in found.stages:
        where = f"{one.processes}, each {one.gpus:g} GPUs" if one.gpus else f"{one.processes}"
        rows = f", {one.held.rows:,} {ROWS.get(one.name, 'rows')} at once" if one.held.rows else ""
        table.add_row(one.name, where, f"all{rows}", gib(one.held.total), gib(one.host))
        for name, size in one.held.parts.items():
            table.add_row("", "", f"  {name}", gib(size), "", style="dim")
    machine = found.machine
    if machine.gpu_memory:
        room = (machine.room(1) or 0) / GIB
        table.caption = (
            f"a GPU has {machine.gpu_memory:g} GiB ({machine.source}), tensors may take {room:.1f}"
        )
    return table


def _works(found: Report) -> Table:
    table = _table(
        "Stages, at most", "round", "stage", "number", "of what", "steps", "rows a step",
        "checkpoints", "hours", "GPU-hours",
        right="number, steps, rows a step, checkpoints, hours, GPU-hours",
    )  # fmt: skip
    for one in found.works:
        work = one.work
        steps = [work.steps, work.per_step, work.saves] if work.steps else ["", "", ""]
        table.add_row(
            str(work.round or ""), work.stage, f"{work.number:,}", work.what,
            *(f"{n:,}" if isinstance(n, int) else n for n in steps), *_hours(one),
        )  # fmt: skip
    return table


def _hours(one: Timed) -> tuple[str, str]:
    hours = (one.hours, one.gpu_hours)
    first, second = ("" if n is None else f"{n:,.1f}" for n in hours)
    return first, second


def _totals(found: Report, rate: float | None) -> Iterable[str]:
    if found.hours is not None and found.gpu_hours is not None:
        yield f"time: {found.hours:,.0f} hours, {found.gpu_hours:,.0f} GPU-hours, at most"
        money = _money(found, rate)
        if money is not None:
            of = f"all {found.machine.gpus} GPUs" if found.machine.gpus else "GPUs that work"
            yield f"money: {money:,.0f}, at {rate:g} an hour of a GPU, for {of}"
    if found.disk:
        parts = ", ".join(f"{name} {gib(size)}" for name, size in found.disk.items())
        yield f"disk: {gib(sum(found.disk.values()))} GiB: {parts}"


def _money(found: Report, rate: float | None) -> float | None:
    return None if rate is None or found.paid_hours is None else rate * found.paid_hours
