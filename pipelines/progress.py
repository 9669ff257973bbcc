"""Live progress in the terminal, and the summary table at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from engine.errors import printable


def _label(name: str, round: int) -> str:
    return f"{name} (round {round})" if round else name


def _counted(commit: dict[str, Any]) -> str:
    """A commit's rows by table, without those about the run itself and the images' pictures."""
    told = {name: n for name, n in commit["rows"].items() if name not in ("runs", "pictures")}
    return ", ".join(f"{n} {name}" for name, n in told.items())


def _spent(metrics: dict[str, Any]) -> str:
    """What a stage's models read and wrote (`pipelines.spending`), if they told."""
    if "prompt_tokens" not in metrics:
        return ""
    told = f", {metrics['prompt_tokens']:,} tokens read, {metrics['completion_tokens']:,} written"
    if untold := metrics.get("untold_replies"):
        told += f" ({untold:,} replies did not say)"
    if "cost" not in metrics:
        return told
    cost = metrics["cost"]
    return f"{told}, cost {cost:,.2f}" if cost >= 1 else f"{told}, cost {cost:.2g}"


def verbatim(text: object, style: str = "") -> Text:
    """What a file, a model or a person wrote, for rich: shown as it is, brackets and all."""
    return Text(printable(str(text)), style)


class Display:
    """Stage, rows, rate and time left on a terminal; one line a stage where there is none."""

    def __init__(self) -> None:
        self.console = Console()
        self._progress: Progress | None = None
        self._task: Any = None
        self._said = 0.0
        self._unit = ""  # what is counted: a stage may count questions, then steps
        self._first = (0.0, 0)  # when the first progress in this unit came, and how far it was

    def say(self, text: str, style: str = "") -> None:
        """A line. Whatever is in it is text: no markup, no escape sequence."""
        self.console.print(verbatim(text, style), highlight=False)

    def show(self, table: Table) -> None:
        """A table."""
        self.console.print(table)

    def done(self, text: str) -> None:
        """A line with a tick."""
        self.console.print(Text("✓ ", "green") + verbatim(text), highlight=False)

    def warn(self, text: str) -> None:
        """A line in yellow."""
        self.say(text, "yellow")

    def skipped(self, name: str, round: int, commit: dict[str, Any]) -> None:
        self.say(f"{_label(name, round)}: done before, skipped ({commit['folder']})", "dim")

    @contextmanager
    def stage(self, name: str, round: int, resumed: bool) -> Iterator[None]:
        label = _label(name, round) + (" (taken up again)" if resumed else "")
        if not self.console.is_terminal:
            self.say(f"{label} …")
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as progress:
            self._progress = progress
            self._task = progress.add_task(label, total=None, rate="")
            self._unit = ""
            try:
                yield
            finally:
                self._progress = None

    def advance(self, done: int, total: int, unit: str = "rows") -> None:
        """So much of the stage is done; without a terminal, a line every 30 seconds."""
        now = time.time()
        if unit != self._unit:
            self._unit, self._first = unit, (now, done)
            if self._progress is not None:
                self._progress.reset(self._task)
        # Loading a model takes as long as many rows: the rate counts from the first row on.
        speed = (done - self._first[1]) / max(now - self._first[0], 1e-3)
        rate = f"{speed:.1f} {unit}/s" if speed else ""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, rate=rate)
        if not self.console.is_terminal and speed and now - self._said > 30:
            self._said = now
            self.say(f"  {done}/{total} {unit}, {rate}, {(total - done) / speed:.0f} s left")

    def committed(self, commit: dict[str, Any]) -> None:
        rows = _counted(commit)
        label = _label(commit["stage"], commit["round"])
        spent = _spent(commit["metrics"])
        self.done(f"{label}: {rows or 'done'} in {commit['seconds']:.0f} s{spent}")


def summary(commits: list[dict[str, Any]]) -> Table:
    """One row a round: what was made, kept, and what the policy then could do."""
    table = Table(title="Triptych: what the rounds did", title_justify="left")
    for column in ("round", "triplets", "kept", "precision", "judge", "base", "SFT", "+ GRPO"):
        table.add_column(column, no_wrap=True)
    table.caption = (
        "kept: of the questions. precision: true rows before → after select (phantoms only). "
        "judge: AUC on frozen patients. base, SFT, + GRPO: test accuracy in %, 95 % interval."
    )
    if any(map(rolled_back, commits)):
        table.caption += (
            " as SFT: GRPO lost on validation questions, or was stopped and there were none, and "
            "was rolled back."
        )
    if any(commit["metrics"].get("by") == "agreement" for commit in commits):
        table.caption += " at chance: rows were selected by agreement of samples, not by the judge."
    table.caption_justify = "left"
    judge = judge_auc(commits)
    by_round: dict[int, dict[str, dict[str, Any]]] = {}
    for commit in commits:
        by_round.setdefault(commit["round"], {})[commit["stage"]] = commit
    for number, stages in sorted(by_round.items()):
        if number:
            measured = [auc for r, auc in sorted(judge.items()) if r <= number]
            table.add_row(str(number), *_cells(stages, measured[-1] if measured else None))
    return table


def judge_auc(commits: list[dict[str, Any]]) -> dict[int, float]:
    """By round, the AUC in [0, 1] on frozen pairs of the judge in use after it; 0: the first judge.

    Rounds that measured none, for want of pairs, are left out.
    """
    keys = {"reward": "auc", "refine": "auc_after"}
    found = {c["round"]: c["metrics"].get(keys[c["stage"]]) for c in commits if c["stage"] in keys}
    return {r: float(auc) for r, auc in found.items() if auc is not None and not math.isnan(auc)}


def rolled_back(commit: dict[str, Any]) -> bool:
    """Whether a commit is of a GRPO that was refused, so that SFT's model is the policy."""
    return commit["stage"] == "grpo" and commit["metrics"].get("accepted") is False


def _cells(stages: dict[str, Any], auc: float | None) -> list[str]:
    select = stages.get("select", {}).get("metrics", {})
    arms = stages.get("evaluate", {}).get("metrics", {}).get("arms", {})
    before, after = select.get("precision_before"), select.get("precision_after")
    precision = f"{before:.3f}\n→ {after:.3f}" if before is not None and after is not None else "–"
    return [
        str(stages.get("generate", {}).get("rows", {}).get("triplets", "–")),
        f"{select['kept']}\n{select['kept_fraction']:.0%}" if select else "–",
        precision,
        _judged(auc, select),
        *(_accuracy(arms.get(arm)) for arm in ("base", "sft")),
        "as SFT" if any(map(rolled_back, stages.values())) else _accuracy(arms.get("policy")),
    ]


def _judged(auc: float | None, select: dict[str, Any]) -> str:
    """The judge's AUC, and whether selection went without it."""
    shown = f"{auc:.3f}" if auc is not None else "–"
    return f"{shown}\nat chance" if select.get("by") == "agreement" else shown


def _accuracy(arm: dict[str, Any] | None) -> str:
    if not arm:
        return "–"
    value, low, high = (100 * arm[key] for key in ("accuracy", "low", "high"))
    return f"{value:.1f}\n[{low:.0f}, {high:.0f}]"


def stages_table(commits: list[dict[str, Any]]) -> Table:
    """One row a committed stage."""
    table = Table(title="Stages", title_justify="left")
    for column in ("#", "stage", "round", "rows", "seconds"):
        table.add_column(column)
    for commit in commits:
        rows = _counted(commit)
        cells = (commit["sequence"], commit["stage"], commit["round"] or "", rows)
        table.add_row(*map(str, cells), f"{commit['seconds']:.0f}")
    return table
