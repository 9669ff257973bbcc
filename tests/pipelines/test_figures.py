"""The report's figures: nothing that tells what a line is lies outside."""

from __future__ import annotations

import pytest

from pipelines.report.figures import _canvas, _legend, waterfall_figure


@pytest.mark.parametrize(
    "labels",
    [
        ("base", "sft", "policy"),
        ("precision before", "precision after", "kept fraction"),
        ("generator's log-probability, own pairs", "a judge that reads words alone", "judge"),
    ],
)
def test_a_legend_lies_in_its_figure(labels: tuple[str, ...]) -> None:
    figure, axes = _canvas()
    for label in labels:
        axes.plot([0, 1], [0, 1], label=label)
    _legend(axes)
    figure.draw_without_rendering()
    legend = axes.get_legend()
    assert legend is not None
    inside = legend.get_window_extent()
    assert 0 <= inside.x0 < inside.x1 <= figure.bbox.x1
    assert inside.y1 <= figure.bbox.y1


def test_a_waterfall_has_a_bar_for_what_entered_each_reason_and_what_is_kept() -> None:
    steps = [
        {"step": "generated", "out": 0, "left": 720},
        {"step": "form: answer", "out": 45, "left": 675},
        {"step": "near-duplicate", "out": 6, "left": 669},
    ]
    svg = waterfall_figure("waterfall-1", steps)
    for told in ("generated", "form: answer", "near-duplicate", "kept", "720", "45", "6", "669"):
        assert f">{told}<" in svg
    assert svg == waterfall_figure("waterfall-1", steps)
