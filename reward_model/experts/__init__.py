"""Who judges: one protocol (`expert`), a file for each kind, and all that depends on the kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.config import Config
from engine.config.expert import Asked, FromBenchmark, FromTable, Nobody, People, Simulated
from engine.errors import TriptychError
from engine.records import Image
from engine.sets.benchmark import NOTHING, Benchmark
from generators.phantoms.bank import PROMPT_STYLES
from reward_model.experts.benchmark import BenchmarkExpert, read_benchmark
from reward_model.experts.expert import Exemplar, Expert
from reward_model.experts.label_questions import labels_of
from reward_model.experts.people import PeopleExpert
from reward_model.experts.simulated import SimulatedExpert
from reward_model.experts.table import TableExpert, questions_about
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
            return SimulatedExpert(section, list(styles_of(config)), config.seed, images)
        case FromBenchmark() as section:
            return BenchmarkExpert(section, read_benchmark(section, config.source), images)
        case FromTable() as section:
            readers = PeopleExpert(Journal(workspace), gold)
            return TableExpert(section, config.source.labels, images, readers)
        case People():
            return PeopleExpert(Journal(workspace), gold)
        case Nobody() as section:
            raise _nobody(section)


def asked_of(config: Config) -> Asked:
    """How much is asked of the expert; raises TriptychError where there is nobody to ask."""
    if isinstance(config.expert, Nobody):
        raise _nobody(config.expert)
    return config.expert


def compares_generated(config: Config) -> bool:
    """Whether the expert compares what a generator wrote; raises as `asked_of`."""
    kinds: dict[type[Asked], type[Expert]] = {
        Simulated: SimulatedExpert,
        FromBenchmark: BenchmarkExpert,
        FromTable: TableExpert,
        People: PeopleExpert,
    }
    return kinds[type(asked_of(config))].compares_generated


def styles_of(config: Config) -> dict[str, float]:
    """By style the share in which rows are written from truth: the generator's, but no debates."""
    own = {str(s): float(n) for s, n in config.generator.styles.items() if s in PROMPT_STYLES}
    return own if sum(own.values()) else dict.fromkeys(own or ("step",), 1.0)


def _nobody(section: Nobody) -> TriptychError:
    return TriptychError(
        f"expert.kind {section.kind}: there is nobody to ask; give people, table, benchmark or "
        "simulated"
    )


def reads_journal(config: Config) -> bool:
    """Whether what people answer, or what is brought in from a file, is listened to."""
    return isinstance(config.expert, People | FromTable)


def benchmark_of(config: Config) -> Benchmark:
    """What the expert's file says of the images, nothing where there is no such file.

    Raises TriptychError where it cannot be read.
    """
    section = config.expert
    return read_benchmark(section, config.source) if isinstance(section, FromBenchmark) else NOTHING


def label_problems(
    config: Config, labels: Sequence[tuple[str, str, str]]
) -> tuple[dict[str, list[str]], list[str]]:
    """What of a table cannot be asked about: by file which cells and why, and which columns.

    `labels` are a file, its split and its labels, as `Image.labels`. Nothing where the expert does
    not ask about labels.
    """
    section = config.expert
    if not isinstance(section, FromTable):
        return {}, []
    training = Counter(text for _, split, text in labels if split == "train")
    asked = questions_about(section.templates, config.source.labels, training)
    wrong = {text: asked.of(labels_of(text), "").problems for _, _, text in labels}
    return {name: wrong[text] for name, _, text in labels if wrong[text]}, asked.unasked()
