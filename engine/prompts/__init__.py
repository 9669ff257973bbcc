"""The words a model is prompted with, as named sets: `compact` (tiny VLM) and `full`.

A set is a YAML file of `str.format` templates beside this module. What a prompt was is part of a
triplet's id, so a changed template makes new rows.
"""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from engine.answers.parsing import render_completion


@cache
def prompt_set(name: str) -> dict[str, Any]:
    """Load a prompt set by name; raises FileNotFoundError for an unknown one."""
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def ask_prompt(name: str, task: dict[str, str]) -> str:
    """The user turn that asks for a question about the image, from a task's five fields."""
    return str(prompt_set(name)["ask"]).format(**task).strip()


def answer_prompt(name: str, question: str, options: tuple[str, ...], style: str) -> str:
    """The user turn that asks for an answer; the policy is trained and tested on the same words."""
    words = prompt_set(name)
    listed = "\n" + str(words["options"]).format(options=" | ".join(options)) if options else ""
    return f"{question}{listed}\n{words['answer'][style]}".strip()


def judge_prompt(
    name: str, question: str, options: tuple[str, ...], rationale: str, answer: str
) -> str:
    """The user turn that a judge reads; its reply would be `yes` or `no` (arXiv 2408.15240)."""
    return str(prompt_set(name)["judge"]).format(
        question=question,
        options="\nOptions: " + " | ".join(options) if options else "",
        proposed=render_completion(rationale, answer),
    )
