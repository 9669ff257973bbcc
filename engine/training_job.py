"""A training as a stage asks for it, and what every training gives back.

Trainings that need more than `TrainingJob` extend it where they are written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from engine.config.training import Optimiser


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What every training is given. Paths are absolute, for it runs in other processes.

    `section` is its section of the configuration; `model` is a folder or a Hub id; `data` is a
    folder of `engine.trainer.write_training_set`, whose pictures are those of the folder
    `workspace`, and weights are written to `out`. A picture has at most `max_pixels` (width x
    height); `threads` are torch's, a worker.
    """

    stage: str
    section: Optimiser
    model: str
    data: Path
    workspace: Path
    out: Path
    seed: int
    threads: int
    max_pixels: int

    @property
    def section_name(self) -> str:
        """As the configuration calls the section: sft, grpo or reward."""
        return type(self.section).__name__.lower()

    def beside(self, suffix: str) -> Path:
        """The path of what stands beside the weights: theirs with a suffix."""
        return self.out.with_name(self.out.name + suffix)

    def with_section(self, **values: Any) -> Self:
        """The same training with other values of its section."""
        return replace(self, section=self.section.model_copy(update=values))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training came to: the mean loss of its steps, and how many it took."""

    loss: float
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """As the record has it."""
        return asdict(self)
