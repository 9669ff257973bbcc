"""The words a model is prompted with: the sets `compact` (tiny VLM) and `full`, or a user's file.

A set is a YAML file beside this module; `engine.prompts.files` reads and checks one of a user's.
Everywhere else a set is a text: its name, or the whole set as JSON, so that it travels to workers,
into the record and beside a judge's weights as what it is. What a prompt was is part of a triplet's
id, so changed words make new rows.

    ask, options, judge   templates (`str.format`) that every set has
    answer                the words of each style; the policy is trained and tested on them
    means                 what a field of the task means: `{difficulty_means}` in `ask`
    examples              worked examples by modality: `{examples}` in `ask`
    knowledge             how what is known is told, `{known}`; to a generator or verifier alone
    retry                 what a reply that could not be read is answered: `{problem}`, `{reply}`
    debate                two readings and a verdict: `first`, `second`, `verdict`
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any

import yaml

from engine.answers.parsing import render_completion

NAMES = ("compact", "full")
CANNOT_BE_TOLD = "cannot be told from this image"  # the option and the answer, in these words
LONGEST_REPLY = 1000  # characters of an unreadable reply that are shown again


@cache
def prompt_set(words: str) -> dict[str, Any]:
    """A set by its name, or from its JSON; raises FileNotFoundError for an unknown name."""
    if words.startswith("{"):
        return dict(json.loads(words))
    return dict(yaml.safe_load(text_of(words)))


def text_of(name: str) -> str:
    """The file of a named set, with its comments; raises FileNotFoundError for an unknown one."""
    return (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")


def has(words: str, part: str) -> bool:
    """Whether a set has words for a part that not every set has, such as `retry`."""
    return part in prompt_set(words)


def ask_prompt(words: str, task: Mapping[str, Any]) -> str:
    """The user turn that asks for a question about the image, from a task's fields.

    A line that has nothing to fill in where something would stand is left out: an anatomy that is
    not asked for, one step, a modality without examples.
    """
    told = prompt_set(words)
    values = {field: str(value) for field, value in task.items()}
    values |= {
        f"{field}_means": meanings.get(values.get(field), "")
        for field, meanings in told.get("means", {}).items()
    }
    values["examples"] = told.get("examples", {}).get(values["modality"], "").strip()
    lines = [line for line in str(told["ask"]).splitlines() if _is_told(line, values)]
    filled = "\n".join(lines).format(**values)
    return "\n".join(line.rstrip() for line in filled.splitlines()).strip()


def _is_told(line: str, values: dict[str, str]) -> bool:
    named = [field for _, field, _, _ in Formatter().parse(line) if field]
    return not named or any(values[field] for field in named)


def answer_prompt(words: str, question: str, options: tuple[str, ...], style: str) -> str:
    """The user turn that asks for an answer; the policy is trained and tested on the same words."""
    return f"{asked(words, question, options)}\n{prompt_set(words)['answer'][style]}".strip()


def asked(words: str, question: str, options: tuple[str, ...]) -> str:
    """A question with its options, as it is put before a model."""
    listed = str(prompt_set(words)["options"]).format(options=" | ".join(options))
    return f"{question}\n{listed}" if options else question


def judge_prompt(
    words: str, question: str, options: tuple[str, ...], rationale: str, answer: str
) -> str:
    """The user turn that a judge reads; its reply would be `yes` or `no` (arXiv 2408.15240)."""
    return str(prompt_set(words)["judge"]).format(
        question=question,
        options="\nOptions: " + " | ".join(options) if options else "",
        proposed=render_completion(rationale, answer),
    )


def with_knowledge(words: str, prompt: str, known: str) -> str:
    """A prompt that also tells what is known of the image; as it is where nothing is.

    For who writes or verifies rows. No policy, question or training prompt goes through here.
    """
    if not known:
        return prompt
    return f"{prompt}\n\n{str(prompt_set(words)['knowledge']).format(known=known).strip()}"


def retry_prompt(words: str, prompt: str, reply: str, problem: str) -> str:
    """A prompt again, with the reply that could not be read and what was wrong with it."""
    shown = reply if len(reply) <= LONGEST_REPLY else reply[:LONGEST_REPLY] + " …"
    told = str(prompt_set(words)["retry"]).format(problem=problem, reply=shown)
    return f"{prompt}\n\n{told.strip()}"


def debate_prompt(
    words: str,
    turn: str,
    question: str,
    options: tuple[str, ...],
    first: str = "",
    second: str = "",
) -> str:
    """A turn of a debate on a question: `first`, `second` or `verdict`."""
    told = str(prompt_set(words)["debate"][turn]).format(first=first, second=second)
    return f"{asked(words, question, options)}\n{told}".strip()
