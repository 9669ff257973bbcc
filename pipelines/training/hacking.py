"""Reward hacking: the judge likes completions ever better, and they are right no more often.

A policy that is rewarded for a judge's score learns what the judge overrates (arXiv 2210.10760).
Seen in a training as it goes: over a window of steps the judge's part of the reward rises, and the
verified part does not. Both by the least-squares slope over the window and its standard error,
with steps that resemble the one before counted for less. Windows share no step: who looks after
every step finds a rise in noise in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.config.training import Hacking
from pipelines.training.advantages import VERIFIED

EXCLUDED = 2.0  # standard errors above the verified part's slope, beyond which a slope is excluded


def rise(values: ArrayLike) -> tuple[float, float]:
    """(rise over the series by its least-squares line, standard error of that) of three or more.

    Where residuals r_t follow each other, by a = Σ r_t r_{t+1} / Σ r_t² > 0, the error is larger by
    √((1 + a) / (1 − a)), as of so many fewer steps that do not.
    """
    y = np.asarray(values, dtype=float)
    x = np.arange(len(y)) - (len(y) - 1) / 2
    slope = x @ y / (x @ x)
    left = y - y.mean() - slope * x
    error = np.sqrt(left @ left / (len(y) - 2) / (x @ x))
    alike = max(left[1:] @ left[:-1] / (left @ left), 0.0) if error > 0 else 0.0
    error *= np.sqrt((1 + alike) / (1 - alike))
    return float(slope * (len(y) - 1)), float(error * (len(y) - 1))


def hacked(judge: Sequence[float], right: Sequence[float], settings: Hacking) -> str | None:
    """Why a training should stop, in words; None where it should go on.

    `judge` and `right` are the parts' means, in [0, 1], a step each. They are looked at whenever a
    window is full, its steps alone. The judge's part rises where that is at least `rise`, and more
    than `deviations` standard errors. The verified part does not where its own line does not rise,
    and a rise as large as the judge's is excluded by EXCLUDED. One that is within `rise` of 1 has
    no room for more, and stops nothing.
    """
    window = settings.window
    if not window or not judge or len(judge) % window:
        return None
    liked, doubt = rise(judge[-window:])
    found, spread = rise(right[-window:])
    rises = liked >= settings.rise and liked > settings.deviations * doubt
    stays = found <= 0 and found + EXCLUDED * spread < liked
    if not (rises and stays) or float(np.mean(right[-window:])) > 1 - settings.rise:
        return None
    return (
        f"over {window} steps the judge's part rose by {liked:.2f} ± {doubt:.2f}, and right "
        f"answers by {found:.2f} ± {spread:.2f}"
    )


def hacking_watch(settings: Hacking) -> Any:
    """A callback for `verified` trainers that ends a training where it is `hacked`.

    Its `reason` says why; None as long as nothing was seen. What it looks at is in the trainer's
    log, which a checkpoint holds, so a training that is taken up again is watched as before.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        reason: str | None = None

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            log = [e for e in state.log_history if "parts/judge" in e]
            judge, right = ([e[f"parts/{part}"] for e in log] for part in ("judge", VERIFIED))
            self.reason = self.reason or hacked(judge, right, settings)
            if self.reason:
                control.should_training_stop = True

    return Watch()
