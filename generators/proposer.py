"""A VLM writes triplets: first a question about an image, then several answers to it.

The two halves form one text, `<question>…</question><options>…</options>` followed by
`<think>…</think><answer>…</answer>`, which is stored as the triplet's raw text. Other forms are
read as `engine.answers.reading` says; a half that cannot be read gives a row with its reason, and
nothing raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.answers.matching import is_valid
from engine.answers.parsing import ParsedQuestion
from engine.answers.reading import read_completion, read_question
from engine.cluster import Rows
from engine.config.backend import Backend
from engine.config.filters import Filters
from engine.pixels import Pixels
from engine.prompts import answer_prompt, ask_prompt
from engine.records import Prompt, Task, Triplet, content_id, unique
from engine.resume import Made, Worker
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import VLM, Request, Sample, Sampling
from generators.filters import marked


@dataclass(frozen=True, slots=True)
class ProposerSettings:
    """How to propose: the generator's identity, its words, and how many answers to sample."""

    generator_id: str
    prompts: str
    samples: int
    ask_temperature: float
    temperature: float
    max_tokens: int
    seed: int
    round: int


def _task_fields(task: Task) -> dict[str, str]:
    return {
        "modality": task.modality,
        "question_type": task.question_type,
        "difficulty": task.difficulty,
        "answer_format": task.answer_format,
    }


def prompt_of(words: str, task: Task) -> Prompt:
    """The prompt that asks for a task's question in a named set of words."""
    text = ask_prompt(words, _task_fields(task))
    return Prompt(id=content_id(words, text), words=words, text=text)


def propose(
    vlm: VLM,
    pixels: Mapping[str, bytes],
    pairs: Sequence[tuple[str, Task]],
    settings: ProposerSettings,
) -> list[Triplet]:
    """`settings.samples` triplets for each pair of an image's id and a task.

    One row with a problem where asking failed. `pixels` are PNG bytes by image id.

    Answered questions come first, in the order of the pairs, then the failed ones.
    """
    asks = [
        Request(pixels[image_id], ask_prompt(settings.prompts, _task_fields(task)), seed=k)
        for k, (image_id, task) in enumerate(pairs)
    ]
    sampling = Sampling(1, settings.ask_temperature, settings.max_tokens, settings.seed)
    asked = [samples[0] for samples in vlm.generate(asks, sampling)]
    questions = [_question(sample) for sample in asked]
    good = [k for k, question in enumerate(questions) if question.problem is None]
    requests = []
    for k in good:
        (image_id, task), question = pairs[k], questions[k]
        text = answer_prompt(settings.prompts, question.text, question.options, task.prompt_style)
        requests.append(Request(pixels[image_id], text, seed=k))
    sampling = Sampling(
        settings.samples, settings.temperature, settings.max_tokens, settings.seed + 1
    )
    answered = [
        _answered(settings, pairs[k], questions[k], asked[k].text, sample, number)
        for k, samples in zip(good, vlm.generate(requests, sampling))
        for number, sample in enumerate(samples)
    ]
    failed = [
        _triplet(
            settings, *pair, sample.text, sample.logprob, problem=f"question: {question.problem}"
        )
        for pair, sample, question in zip(pairs, asked, questions)
        if question.problem is not None
    ]
    return [*answered, *failed]


def _question(sample: Sample) -> ParsedQuestion:
    """The question that a sample asks, or its problem."""
    question = read_question(sample.text)
    return replace(question, problem=sample.problem) if sample.problem else question


def _answered(
    settings: ProposerSettings,
    pair: tuple[str, Task],
    question: ParsedQuestion,
    asked: str,
    sample: Sample,
    number: int,
) -> Triplet:
    parsed = read_completion(sample.text, question.options)
    problem = sample.problem or parsed.problem
    if problem is None and not is_valid(parsed.answer, question.options):
        problem = "not one of the options"
    return _triplet(
        settings,
        *pair,
        asked + sample.text,
        sample.logprob,
        sample=number,
        question=question.text,
        options=question.options,
        answer=parsed.answer,
        rationale=parsed.rationale,
        problem=f"answer: {problem}" if problem else None,
    )


def _triplet(
    settings: ProposerSettings,
    image_id: str,
    task: Task,
    raw: str,
    logprob: float | None,
    *,
    sample: int = 0,
    question: str = "",
    options: tuple[str, ...] = (),
    answer: str = "",
    rationale: str = "",
    problem: str | None,
) -> Triplet:
    if logprob is not None and not math.isfinite(logprob):
        logprob, problem = 0.0, problem or "log-probability: not a finite number"
    prompt_hash = prompt_of(settings.prompts, task).id
    parts = (image_id, settings.generator_id, prompt_hash, task.id, settings.seed, sample, raw)
    return Triplet(
        id=content_id("triplet", *parts),
        image_id=image_id,
        generator_id=settings.generator_id,
        task_id=task.id,
        prompt_hash=prompt_hash,
        seed=settings.seed,
        sample=sample,
        round=settings.round,
        question=question,
        options=options,
        answer=answer,
        rationale=rationale,
        raw=raw,
        logprob=logprob,
        problem=problem,
    )


@dataclass(frozen=True)
class Proposing:
    """What a worker needs to propose: whose pictures, which model run how, and the settings.

    `held_to` is what its rows are held to before anybody judges them.
    """

    workspace: Path
    model: str
    backend: Backend
    settings: ProposerSettings
    threads: int
    max_pixels: int
    held_to: Filters = field(default_factory=Filters)


def make_proposer(job: Proposing) -> Worker:
    """A worker on shards of {image_id, task}: triplets out, seeded by the shard's name.

    One that a filter refuses has its reason as its problem.
    """
    vlm = open_vlm(job.backend, job.model, job.threads, job.max_pixels)
    pixels = Pixels(job.workspace)

    def work(shard: str, rows: Rows) -> Made:
        seeded = replace(job.settings, seed=int(content_id(job.settings.seed, shard)[:7], 16))
        pairs = [(r["image_id"], Task.from_dict(r["task"])) for r in rows]
        made = propose(vlm, pixels, pairs, seeded)
        return {Triplet: unique(marked(row, job.held_to) for row in made)}

    return work
