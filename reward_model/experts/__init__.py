"""Who judges: one protocol (`expert`), a file for each kind, and all that depends on the kind."""

from __future__ import annotations

from collections.abc import Iterable

from engine.config import Config
from engine.config.expert import Asked, FromBenchmark, Nobody, Simulated
from engine.errors import TriptychError
from engine.records import Image
from engine.sets.benchmark import NOTHING, Benchmark
from reward_model.experts.benchmark import BenchmarkExpert, read_benchmark
from reward_model.experts.expert import Expert
from reward_model.experts.simulated import SimulatedExpert


def open_expert(config: Config, images: Iterable[Image]) -> Expert:
    """The configuration's expert, who knows these images.

    Raises TriptychError where there is nobody to ask, or what the expert knows cannot be read.
    """
    match config.expert:
        case Simulated() as section:
            return SimulatedExpert(section, list(config.generator.styles), config.seed, images)
        case FromBenchmark() as section:
            return BenchmarkExpert(section, read_benchmark(section, config.source), images)
        case Nobody() as section:
            raise _nobody(section)


def asked_of(config: Config) -> Asked:
    """How much is asked of the expert; raises TriptychError where there is nobody to ask."""
    if isinstance(config.expert, Nobody):
        raise _nobody(config.expert)
    return config.expert


def _nobody(section: Nobody) -> TriptychError:
    return TriptychError(
        f"expert.kind {section.kind}: there is nobody to ask; give simulated or benchmark"
    )


def benchmark_of(config: Config) -> Benchmark:
    """What the expert's file says of the images, nothing where there is no such file.

    Raises TriptychError where it cannot be read.
    """
    section = config.expert
    return read_benchmark(section, config.source) if isinstance(section, FromBenchmark) else NOTHING
