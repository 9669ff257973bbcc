"""The longest prompts that a configuration's words make, in tokens.

What a model wrote itself is at most `max_tokens` long, so a question with its options is, and so is
an answer with its reasoning. What is told of an image in private has no limit and is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from engine.config import Config
from engine.prompts import (
    LONGEST_REPLY,
    answer_prompt,
    ask_prompt,
    debate_prompt,
    judge_prompt,
    prompt_set,
    retry_prompt,
)
from generators.phantoms.bank import MODALITIES, QUESTION_TYPES
from generators.proposer import DEBATE
from pipelines.training.preflight.models import Count

TEMPLATE = 32  # tokens of a chat's marks and of Qwen's system prompt, at most


@dataclass(frozen=True, slots=True)
class Longest:
    """A kind of prompt: tokens of its words, picture and chat marks, and those of the reply.

    `limit` is the backend's `max_model_len`, of the setting `named`; None where there is none.
    """

    what: str
    prompt: int
    reply: int
    limit: int | None = None
    named: str = ""

    @property
    def whole(self) -> int:
        return self.prompt + self.reply


def tasks_of(config: Config) -> Iterator[dict[str, Any]]:
    """Every kind of task that may be asked, as its fields."""
    quotas, examples = config.generator.quotas, prompt_set(config.generator.prompts)
    told = {*MODALITIES, *examples.get("examples", {})}
    axes: dict[str, Sequence[Any]] = {
        "modality": list(quotas.modality) or sorted(told),
        "anatomy": list(quotas.anatomy) or [""],
        "question_type": list(quotas.question_type) or QUESTION_TYPES,
        "difficulty": list(quotas.difficulty),
        "answer_format": list(quotas.answer_format),
        "steps": list(quotas.steps),
    }
    for values in product(*axes.values()):
        yield dict(zip(axes, values))
    for cell in quotas.cells:
        yield {axis: values[0] for axis, values in axes.items()} | cell.named


def longest(config: Config, image: int, count: Count) -> list[Longest]:
    """Of each kind of prompt the longest; `image` is the most tokens of a picture."""
    section, words, around = config.generator, config.generator.prompts, image + TEMPLATE
    written = section.max_tokens  # a question with its options; an answer with its reasoning

    def of_generator(what: str, prompt: int) -> Longest:
        named = "generator.backend.max_model_len"
        return Longest(what, prompt, written, section.backend.max_model_len, named)

    def of_policy(what: str, reply: int) -> Longest:
        prompt = around + count(answer_prompt(words, "", (), config.evaluate.style)) + written
        named = "evaluate.backend.max_model_len"
        return Longest(what, prompt, reply, config.evaluate.backend.max_model_len, named)

    asked = max(count(ask_prompt(words, task)) for task in tasks_of(config))
    styles = [style for style in section.styles if style != DEBATE]
    answered = max((count(answer_prompt(words, "", (), style)) for style in styles), default=0)
    found = [
        of_generator("asking", around + asked),
        of_generator("answering", around + answered + written),
    ]
    if DEBATE in section.styles:
        verdict = count(debate_prompt(words, "verdict", "", ()))
        found.append(of_generator("debating", around + verdict + 3 * written))
    if section.tries_again:
        again = count(retry_prompt(words, "", "", "")) + min(count("x" * LONGEST_REPLY), written)
        found.append(of_generator("a second try", max(one.prompt for one in found) + again))
    judged = count(judge_prompt(words, "", (), "", ""))
    found.append(Longest("judging", around + judged + 2 * written, 0))
    found.append(of_policy("examining", config.evaluate.max_tokens))
    if config.grpo.steps:
        found.append(of_policy("GRPO", config.grpo.max_tokens))
    return found
