"""A benchmark's questions and gold answers as an expert."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from engine.config.expert import FromBenchmark
from engine.config.source import Source
from engine.records import Image, Triplet
from engine.sets.benchmark import Benchmark
from engine.sets.vqa_rad import read_gold
from reward_model.experts.gold import Gold, GoldExpert

READERS = {"vqa-rad": read_gold}


def read_benchmark(section: FromBenchmark, source: Source) -> Benchmark:
    """What the source's JSON says; raises TriptychError where it cannot be read."""
    return READERS[section.name](source)


class BenchmarkExpert(GoldExpert):
    """A benchmark's questions and gold answers; an answer is made wrong by one of its type."""

    def __init__(
        self, section: FromBenchmark, benchmark: Benchmark, images: Iterable[Image]
    ) -> None:
        super().__init__(section)
        self.questions: dict[str, list[Gold]] = defaultdict(list)
        for q in benchmark.questions:
            told = Gold(q.question, q.options, q.answer, q.question_type)
            self.questions[f"images/{q.image}"].append(told)
        self.types: dict[str, str] = {}
        self.answers: dict[str, set[str]] = defaultdict(set)
        for image in images:
            if image.split == "train":
                for question in self.gold(image):
                    self.types[question.question] = question.question_type
                    self.answers[question.question_type].add(question.answer)

    def knows(self, image_id: str, source: str) -> bool:
        return source in self.questions

    def gold(self, image: Image) -> list[Gold]:
        return self.questions.get(image.source, [])

    def others(self, row: Triplet) -> list[str]:
        return sorted(self.answers[self.types[row.question]])
