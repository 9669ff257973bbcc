"""The report's figures, as SVG text that takes the page's colours in light and in dark.

Drawn with matplotlib's object interface (no display, no global state); equal data, equal bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#010203"  # stands for the page's text colour, which the SVG calls currentColor
_WIDTH = 5.4  # inches, the same for all: equal text in every figure
_LETTERS = 50  # letters of labels that stand side by side
PALETTE = ("#8a94a6", "#d98324", "#2a7de1", "#2e9e6b", "#c2455a")


def _canvas(height: float = 3.0) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    axes.xaxis.label.set_color(_INK)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element; `name` salts its ids, which the page holds all together."""
    import matplotlib

    text = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r'(?<= id=")(?=(figure|axes|patch|text|line2d|matplotlib))', f"{name}-", svg)
    return svg.replace(_INK, "currentColor").replace("<svg ", '<svg role="img" ', 1)


def _legend(axes: Axes) -> None:
    """Above the axes, side by side where the labels fit into the figure's width."""
    _, labels = axes.get_legend_handles_labels()
    legend = axes.legend(
        frameon=False,
        labelcolor=_INK,
        fontsize=9,
        ncols=4 if sum(map(len, labels)) <= _LETTERS else 1,
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    legend.set_in_layout(True)


def _rounds(axes: Axes, rounds: list[int]) -> None:
    axes.set_xticks(rounds, [str(r) for r in rounds])
    axes.set_xlim(min(rounds) - 0.5, max(rounds) + 0.5)
    axes.set_xlabel("round")


def accuracy_figure(scores: list[dict[str, Any]]) -> str:
    """Accuracy a round and arm; each score has round, arm, accuracy, low and high."""
    figure, axes = _canvas()
    arms = list(dict.fromkeys(s["arm"] for s in scores))
    for i, arm in enumerate(arms):
        mine = [s for s in scores if s["arm"] == arm]
        x = [s["round"] + (i - (len(arms) - 1) / 2) * 0.12 for s in mine]
        y = [s["accuracy"] for s in mine]
        below = [max(0.0, s["accuracy"] - s["low"]) for s in mine]
        above = [max(0.0, s["high"] - s["accuracy"]) for s in mine]
        colour = PALETTE[i % len(PALETTE)]
        axes.errorbar(x, y, [below, above], fmt="o-", color=colour, label=arm, capsize=3, lw=1.5)
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.03)
    axes.grid(axis="y", alpha=0.25)
    _rounds(axes, sorted({s["round"] for s in scores}))
    _legend(axes)
    return _svg(figure, "accuracy")


def heatmap_figure(cells: list[dict[str, Any]]) -> str:
    """Accuracy by modality and question type, the number of questions written in each cell."""
    rows = sorted({c["modality"] for c in cells})
    columns = sorted({c["question_type"] for c in cells})
    figure, axes = _canvas(0.8 + 0.5 * len(rows))
    grid = [[math.nan] * len(columns) for _ in rows]
    for c in cells:
        y, x = rows.index(c["modality"]), columns.index(c["question_type"])
        grid[y][x] = c["accuracy"]
        ink = "white" if c["accuracy"] > 0.6 else "#1b2330"
        text = f"{c['accuracy']:.0%} (n={c['n']})"
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=ink, fontsize=8.5)
    # vmin below 0: an accuracy of 0 has a colour too, and is not taken for an empty cell.
    axes.pcolormesh(grid, cmap="Blues", vmin=-0.2, vmax=1)
    axes.set_xticks([i + 0.5 for i in range(len(columns))], columns)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _svg(figure, "heatmap")


def lines_figure(name: str, series: dict[str, dict[int, float]], low: float = 0.0) -> str:
    """Quantities in [0, 1] a round, one line a series; the axis starts at `low` or below."""
    figure, axes = _canvas()
    for i, (label, points) in enumerate(series.items()):
        style = "o--" if i == 0 else "o-"
        colour = PALETTE[i % len(PALETTE)]
        if len(points) == 1 < max(map(len, series.values())):
            # Measured once: a level to compare with, not a point of a trend.
            axes.axhline(next(iter(points.values())), ls="--", color=colour, label=label, lw=1.5)
            continue
        axes.plot(list(points), list(points.values()), style, color=colour, label=label, lw=1.5)
    least = min(v for points in series.values() for v in points.values())
    axes.set_ylim(max(0.0, min(low, least - 0.05)), 1.03)
    axes.grid(axis="y", alpha=0.25)
    _rounds(axes, sorted({r for points in series.values() for r in points}))
    _legend(axes)
    return _svg(figure, name)


def steps_figure(name: str, steps: Sequence[int], series: dict[str, list[float | None]]) -> str:
    """Quantities in [0, 1] at the steps of a training, one line a series; None is left out."""
    figure, axes = _canvas()
    for i, (label, values) in enumerate(series.items()):
        points = [math.nan if value is None else value for value in values]
        axes.plot(steps, points, color=PALETTE[i % len(PALETTE)], label=label, lw=1.5)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("step")
    axes.grid(axis="y", alpha=0.25)
    _legend(axes)
    return _svg(figure, name)


def margins_figure(counts: Sequence[int]) -> str:
    """A histogram of margins: `counts` are of tenths from -1 to 1."""
    figure, axes = _canvas()
    places = [round(-1 + n / 10, 1) for n in range(len(counts))]
    colours = [PALETTE[3] if place <= 0 else PALETTE[2] for place in places]
    axes.bar(places, counts, width=0.08, color=colours)
    axes.set_xlabel("share right with the image, less the best share without")
    axes.set_ylabel("questions")
    axes.set_xlim(-1.1, 1.1)
    return _svg(figure, "margins")


def bars_figure(name: str, counts: dict[str, int]) -> str:
    """Horizontal bars, the greatest on top, the count written at each."""
    ordered = sorted(counts.items(), key=lambda kv: (kv[1], kv[0]))
    figure, axes = _canvas(0.5 + 0.36 * len(ordered))
    bars = axes.barh([k for k, _ in ordered], [n for _, n in ordered], color=PALETTE[2], height=0.6)
    axes.bar_label(bars, padding=4, color=_INK, fontsize=9)
    axes.margins(x=0.12)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    return _svg(figure, name)


def waterfall_figure(name: str, steps: list[dict[str, Any]]) -> str:
    """Rows that go, step by step from the top, each bar where it is cut off, and what is left.

    Each step has step, out and left, the first being what entered (out 0).
    """
    figure, axes = _canvas(0.5 + 0.3 * (len(steps) + 1))
    labels = [step["step"] for step in steps] + ["kept"]
    ends = [0, *(step["left"] for step in steps[1:]), 0]
    widths = [steps[0]["left"], *(step["out"] for step in steps[1:]), steps[-1]["left"]]
    colours = [PALETTE[0], *[PALETTE[1]] * (len(steps) - 1), PALETTE[3]]
    places = range(len(labels))
    bars = axes.barh(places, widths, left=ends, color=colours, height=0.62)
    axes.bar_label(bars, [f"{width:,}" for width in widths], padding=4, color=_INK, fontsize=9)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    return _svg(figure, name)
