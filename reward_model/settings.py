"""What is saved beside a judge's backbone, by name, and how a judge is used; without torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

HEADS = "heads.safetensors"
SETTINGS = "judge.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """What a judge is used with, which is saved beside its weights.

    `criteria` are the weights of the overall score, `prompts` the prompt set, `max_pixels` the
    pixel budget (width x height), `calibration` Platt's slope and offset. `with_logprob` are slope,
    weight and offset of score and the generator's log-probability together; None where that does
    not tell more. `reasoning` are slope and offset of the reasoning criterion alone; None where it
    is not known to be better than chance.
    """

    criteria: dict[str, float]
    prompts: str
    max_pixels: int
    calibration: tuple[float, float] = (1.0, 0.0)
    with_logprob: tuple[float, float, float] | None = None
    reasoning: tuple[float, float] | None = None

    def save(self, folder: Path) -> None:
        """Write them into a judge's folder."""
        (folder / SETTINGS).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> JudgeSettings:
        """Read them from a judge's folder."""
        values = json.loads((folder / SETTINGS).read_text())
        fitted = {name: values.get(name) for name in ("calibration", "with_logprob", "reasoning")}
        return cls(**values | {name: of and tuple(of) for name, of in fitted.items()})
