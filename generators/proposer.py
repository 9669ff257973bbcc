"""A VLM writes triplets: first a question about an image, then several answers to it.

The two halves form one text, `<question>…</question><options>…</options>` followed by
`<think>…</think><answer>…</answer>`, which is stored as the triplet's raw text. Other forms are
read as `engine.answers.reading` says; in the style `debate` the second half is an exchange
(`generators.debate`). A half that cannot be read is asked for once more where the settings say so
(`generators.replies`); then it gives a row with its reason, and nothing raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.answers import forms
from engine.answers.parsing import Completion, ParsedQuestion
from engine.answers.reading import read_question
from engine.cluster import Rows
from engine.config.backend import Backend
from engine.config.filters import Filters
from engine.knowledge import NOTHING, Known, knowing
from engine.pixels import Pixels
from engine.prompts import answer_prompt, ask_prompt, with_knowledge
from engine.prompts.files import name_of, words_id
from engine.records import Prompt, Task, Triplet, content_id, unique
from engine.resume import Made, Worker
from engine.vlm.backends import open_vlm
from engine.vlm.journal import journaled
from engine.vlm.protocol import VLM, Request, Sampling
from generators.debate import Debated, debates, read_answer
from generators.filters import marked
from generators.replies import Reply, replies

DEBATE = "debate"


@dataclass(frozen=True, slots=True)
class ProposerSettings:
    """How to propose: the generator's identity, its words, and how many answers to sample.

    `knowledge` names what is told of an image, `again` asks once more for what cannot be read,
    `structured` holds replies to their form.
    """

    generator_id: str
    prompts: str
    samples: int
    ask_temperature: float
    temperature: float
    max_tokens: int
    seed: int
    round: int
    knowledge: tuple[str, ...] = ()
    again: bool = False
    structured: bool = False

    @property
    def retry(self) -> str | None:
        """The words in which a reply that cannot be read is asked for again, if it is."""
        return self.prompts if self.again else None


def prompt_of(words: str, task: Task, knowledge: Sequence[str] = ()) -> Prompt:
    """The prompt that asks for a task's question in a set of words.

    Of what is told of an image it has the kinds alone: what was told is private and no row's.
    """
    text = ask_prompt(words, task.to_dict())
    if knowledge:
        text = with_knowledge(words, text, f"[private: {', '.join(knowledge)}]")
    return Prompt(
        id=content_id(words, text), words=name_of(words), text=text, words_id=words_id(words)
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A task of an image with the reply that asks its question; `place` is the pair's."""

    place: int
    image_id: str
    task: Task
    reply: Reply[ParsedQuestion]
    known: Known

    @property
    def question(self) -> ParsedQuestion:
        return self.reply.read


def propose(
    vlm: VLM,
    pixels: Mapping[str, bytes],
    pairs: Sequence[tuple[str, Task]],
    settings: ProposerSettings,
    known: Mapping[str, Known] | None = None,
) -> list[Triplet]:
    """`settings.samples` triplets for each pair of an image's id and a task.

    One row with a problem where asking failed. `pixels` are PNG bytes by image id, `known` is what
    the writer is told of an image.

    Answered questions come first, in the order of the pairs, then the failed ones.
    """
    asked = _ask(vlm, pixels, pairs, settings, known or {})
    good = [one for one in asked if one.reply.problem is None]
    plain = [one for one in good if one.task.prompt_style != DEBATE]
    debated = [one for one in good if one.task.prompt_style == DEBATE]
    answers = {
        one.place: said
        for some, answer in ((plain, _answer), (debated, _debate))
        for one, said in zip(some, answer(vlm, pixels, some, settings))
    }
    answered = [
        _answered(settings, one, reply, number)
        for one in good
        for number, reply in enumerate(answers[one.place])
    ]
    failed = [_failed(settings, one) for one in asked if one.reply.problem is not None]
    return [*answered, *failed]


def _ask(
    vlm: VLM,
    pixels: Mapping[str, bytes],
    pairs: Sequence[tuple[str, Task]],
    settings: ProposerSettings,
    known: Mapping[str, Known],
) -> list[_Asked]:
    """Each pair with the reply that asks its question, or why there is none."""
    words = settings.prompts
    requests = []
    for place, (image_id, task) in enumerate(pairs):
        text = ask_prompt(words, task.to_dict())
        text = with_knowledge(words, text, known.get(image_id, NOTHING).told())
        form = forms.of_question(task.answer_format) if settings.structured else None
        requests.append(Request(pixels[image_id], text, place, form))
    sampling = Sampling(1, settings.ask_temperature, settings.max_tokens, settings.seed)
    said = replies(vlm, requests, sampling, lambda _, text: read_question(text), settings.retry)
    return [
        _Asked(place, image_id, task, reply, known.get(image_id, NOTHING))
        for place, ((image_id, task), (reply,)) in enumerate(zip(pairs, said))
    ]


def _answer(
    vlm: VLM, pixels: Mapping[str, bytes], asked: Sequence[_Asked], settings: ProposerSettings
) -> list[list[Reply[Completion]]]:
    """The samples of each question's answer."""
    words = settings.prompts
    requests = []
    for one in asked:
        style, options = one.task.prompt_style, one.question.options
        text = answer_prompt(words, one.question.text, options, style)
        text = with_knowledge(words, text, one.known.told())
        form = forms.of_answer(options, style != "direct") if settings.structured else None
        requests.append(Request(pixels[one.image_id], text, one.place, form))
    return replies(
        vlm,
        requests,
        _answers_sampling(settings),
        lambda at, text: read_answer(text, asked[at].question.options),
        settings.retry,
    )


def _debate(
    vlm: VLM, pixels: Mapping[str, bytes], asked: Sequence[_Asked], settings: ProposerSettings
) -> list[list[Reply[Completion]]]:
    """The debates on each question."""
    if not asked:
        return []
    about = [
        Debated(
            pixels[one.image_id],
            one.question.text,
            one.question.options,
            one.place,
            one.known.told(),
            settings.structured,
        )
        for one in asked
    ]
    return debates(vlm, about, _answers_sampling(settings), settings.prompts, settings.again)


def _answers_sampling(settings: ProposerSettings) -> Sampling:
    return Sampling(settings.samples, settings.temperature, settings.max_tokens, settings.seed + 1)


def _answered(
    settings: ProposerSettings, asked: _Asked, reply: Reply[Completion], number: int
) -> Triplet:
    return _triplet(
        settings,
        asked,
        reply,
        asked.reply.sample.text + reply.sample.text,
        sample=number,
        question=asked.question.text,
        options=asked.question.options,
        answer=reply.read.answer,
        rationale=reply.read.rationale,
        problem=f"answer: {reply.problem}" if reply.problem else None,
    )


def _failed(settings: ProposerSettings, asked: _Asked) -> Triplet:
    raw, problem = asked.reply.sample.text, f"question: {asked.reply.problem}"
    return _triplet(settings, asked, asked.reply, raw, problem=problem)


def _triplet(
    settings: ProposerSettings,
    asked: _Asked,
    reply: Reply[Completion] | Reply[ParsedQuestion],
    raw: str,
    *,
    sample: int = 0,
    question: str = "",
    options: tuple[str, ...] = (),
    answer: str = "",
    rationale: str = "",
    problem: str | None,
) -> Triplet:
    logprob, image_id, task = reply.sample.logprob, asked.image_id, asked.task
    if logprob is not None and not math.isfinite(logprob):
        logprob, problem = 0.0, problem or "log-probability: not a finite number"
    prompt_hash = prompt_of(settings.prompts, task, settings.knowledge).id
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
        known=asked.known.kinds,
        tries=max(asked.reply.tries, reply.tries),
    )


@dataclass(frozen=True)
class Proposing:
    """What a worker needs to propose: whose pictures, which model run how, and the settings.

    `held_to` is what its rows are held to before anybody judges them; `journals` is the folder of
    the shards' journals (`engine.vlm.journal`), where there are any.
    """

    workspace: Path
    model: str
    backend: Backend
    settings: ProposerSettings
    threads: int
    max_pixels: int
    held_to: Filters = field(default_factory=Filters)
    journals: Path | None = None


def make_proposer(job: Proposing) -> Worker:
    """A worker on shards of {image_id, task}: triplets out, seeded by the shard's name.

    One that a filter refuses has its reason as its problem.
    """
    vlm = open_vlm(job.backend, job.model, job.threads, job.max_pixels)
    pixels = Pixels(job.workspace)
    knows = knowing(job.workspace, job.settings.knowledge)

    def work(shard: str, rows: Rows) -> Made:
        seeded = replace(job.settings, seed=int(content_id(job.settings.seed, shard)[:7], 16))
        pairs = [(r["image_id"], Task.from_dict(r["task"])) for r in rows]
        known = knows(image_id for image_id, _ in pairs)
        asked = journaled(vlm, job.journals and job.journals / f"{shard}.jsonl")
        made = propose(asked, pixels, pairs, seeded, known)
        held = (marked(row, job.held_to, known.get(row.image_id, NOTHING)) for row in made)
        return {Triplet: unique(held)}

    return work
