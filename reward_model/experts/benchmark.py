"""A benchmark's questions and gold answers as an expert."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from engine.config.expert import FromBenchmark
from engine.config.source import Source
from engine.records import Image
from engine.sets.benchmark import Benchmark
from engine.sets.vqa_rad import read_gold
from reward_model.experts.gold import Gold, GoldExpert

READERS = {"vqa-rad": read_gold}


def read_benchmark(section: FromBenchmark, source: Source) -> Benchmark:
    """What the source's JSON says; raises TriptychError where it cannot be read."""
    return READERS[section.name](source)


class BenchmarkExpert(GoldExpert):
    """A benchmark's questions and gold answers."""

    def __init__(
        self, section: FromBenchmark, benchmark: Benchmark, images: Iterable[Image]
    ) -> None:
        super().__init__()
        self.questions: dict[str, list[Gold]] = defaultdict(list)
        for q in benchmark.questions:
            told = Gold(q.question, q.options, q.answer, q.question_type)
            self.questions[f"images/{q.image}"].append(told)
        for image in images:
            if image.source in self.questions:
                self.meet(image)

    def knows(self, image_id: str, source: str) -> bool:
        return source in self.questions

    def gold(self, image: Image) -> list[Gold]:
        return self.questions.get(image.source, [])
