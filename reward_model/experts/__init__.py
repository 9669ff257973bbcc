"""Who judges: one protocol (`expert`), a file for each kind, and all that depends on the kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.config import Config
from engine.config.expert import Asked, FromBenchmark, FromTable, Nobody, People, Simulated
from engine.errors import TriptychError
from engine.records import Image
from engine.sets.benchmark import NOTHING, Benchmark
from reward_model.experts.benchmark import BenchmarkExpert, read_benchmark
from reward_model.experts.expert import Exemplar, Expert
from reward_model.experts.people import PeopleExpert
from reward_model.experts.simulated import SimulatedExpert
from reward_model.journal import Journal


def open_expert(
    config: Config,
    images: Iterable[Image],
    workspace: Path = Path(),
    gold: Iterable[Exemplar] = (),
) -> Expert:
    """The configuration's expert, who knows these images.

    Of people, `workspace` has the answers and `gold` are the rows that came of them. Raises
    TriptychError where there is nobody to ask, or what the expert knows cannot be read.
    """
    match config.expert:
        case Simulated() as section:
            return SimulatedExpert(section, list(config.generator.styles), config.seed, images)
        case FromBenchmark() as section:
            return BenchmarkExpert(section, read_benchmark(section, config.source), images)
        case FromTable():
            raise TriptychError("expert.kind table is not built yet")
        case People():
            return PeopleExpert(Journal(workspace), gold)
        case Nobody() as section:
            raise _nobody(section)


def asked_of(config: Config) -> Asked:
    """How much is asked of the expert; raises TriptychError where there is nobody to ask."""
    if isinstance(config.expert, Nobody):
        raise _nobody(config.expert)
    return config.expert


def _nobody(section: Nobody) -> TriptychError:
    return TriptychError(
        f"expert.kind {section.kind}: there is nobody to ask; give people, table, benchmark or "
        "simulated"
    )


def benchmark_of(config: Config) -> Benchmark:
    """What the expert's file says of the images, nothing where there is no such file.

    Raises TriptychError where it cannot be read.
    """
    section = config.expert
    return read_benchmark(section, config.source) if isinstance(section, FromBenchmark) else NOTHING
