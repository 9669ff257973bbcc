"""A VLM writes triplets: first a question about an image, then several answers to it.

The two halves form one text, `<question>…</question><options>…</options>` followed by
`<think>…</think><answer>…</answer>`, which is stored as the triplet's raw text. A half that does
not parse gives a row with its reason; nothing raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.answers import is_valid, parse_completion, parse_question
from engine.records import Image, Prompt, Task, Triplet, content_id
from engine.vlm import VLM, Request, Sample, Sampling
from generators.prompts import answer_prompt, ask_prompt


@dataclass(frozen=True, slots=True)
class Plan:
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


def propose(vlm: VLM, pairs: Sequence[tuple[Image, Task]], plan: Plan) -> list[Triplet]:
    """`plan.samples` triplets for each pair, or one row with a problem where asking failed."""
    asks = [Request(i.png, ask_prompt(plan.prompts, _task_fields(t))) for i, t in pairs]
    sampling = Sampling(1, plan.ask_temperature, plan.max_tokens, plan.seed)
    asked = [samples[0] for samples in vlm.generate(asks, sampling)]
    questions = [parse_question(sample.text) for sample in asked]
    good = [k for k, question in enumerate(questions) if question.problem is None]
    answers = answer(
        vlm,
        [(pairs[k][0], questions[k].text, questions[k].options, pairs[k][1]) for k in good],
        plan,
        [asked[k].text for k in good],
    )
    failed = [
        _triplet(image, task, plan, "", (), sample.text, sample, 0, f"question: {q.problem}")
        for (image, task), sample, q in zip(pairs, asked, questions)
        if q.problem is not None
    ]
    return [*answers, *failed]


def answer(
    vlm: VLM,
    questions: Sequence[tuple[Image, str, tuple[str, ...], Task]],
    plan: Plan,
    asked: Sequence[str] | None = None,
) -> list[Triplet]:
    """`plan.samples` answers to each (image, question, options, task)."""
    requests = [
        Request(image.png, answer_prompt(plan.prompts, text, options, task.prompt_style))
        for image, text, options, task in questions
    ]
    sampling = Sampling(plan.samples, plan.temperature, plan.max_tokens, plan.seed + 1)
    rows = []
    for k, samples in enumerate(vlm.generate(requests, sampling)):
        image, text, options, task = questions[k]
        for number, sample in enumerate(samples):
            raw = (asked[k] if asked else "") + sample.text
            rows.append(_answered(image, task, plan, text, options, raw, sample, number))
    return rows


def _answered(
    image: Image,
    task: Task,
    plan: Plan,
    text: str,
    options: tuple[str, ...],
    raw: str,
    sample: Sample,
    number: int,
) -> Triplet:
    parsed = parse_completion(sample.text)
    problem = parsed.problem
    if problem is None and not is_valid(parsed.answer, options):
        problem = "not one of the options"
    return _triplet(
        image,
        task,
        plan,
        text,
        options,
        raw,
        sample,
        number,
        f"answer: {problem}" if problem else None,
        parsed.answer,
        parsed.rationale,
    )


def _triplet(
    image: Image,
    task: Task,
    plan: Plan,
    text: str,
    options: tuple[str, ...],
    raw: str,
    sample: Sample,
    number: int,
    problem: str | None,
    answered: str = "",
    rationale: str = "",
) -> Triplet:
    prompt_hash = prompt_of(plan.prompts, task).id
    parts = (image.id, plan.generator_id, prompt_hash, task.id, plan.seed, number, raw)
    return Triplet(
        id=content_id("triplet", *parts),
        image_id=image.id,
        generator_id=plan.generator_id,
        task_id=task.id,
        prompt_hash=prompt_hash,
        seed=plan.seed,
        sample=number,
        round=plan.round,
        question=text,
        options=options,
        answer=answered,
        rationale=rationale,
        raw=raw,
        logprob=sample.logprob,
        problem=problem,
    )
