"""Rows of a dataset in the words of our own trainings, for tools that train elsewhere.

Placeholders of pictures and special tokens of chats that a row quotes are words in every form
(`engine.vlm.inputs.marks_as_words`): a tool would take `<image>` in a question for another picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.answers.parsing import render_completion
from engine.prompts import answer_prompt, prompt_set
from engine.vlm.inputs import marks_as_words

COLUMNS = ("id", "image_id", "question", "options", "answer", "rationale", "asked_style")


@dataclass(frozen=True, slots=True)
class Worded:
    """A row as SFT teaches it, `prompt` and `completion`, and as GRPO and examinations ask it.

    `examined` is the prompt in the style of examinations; the right reply gives `answer`, in the
    words of one of the `options` where there are any.
    """

    id: str
    image_id: str
    prompt: str
    completion: str
    examined: str
    question: str
    options: tuple[str, ...]
    answer: str


def worded(rows: Iterable[Mapping[str, Any]], words: str, style: str) -> Iterator[Worded]:
    """Rows of COLUMNS in the prompts `words`; `style` is that of examinations.

    A row is taught in the style that was asked for, with its reasoning; in the style `direct` where
    it has none.
    """
    known = prompt_set(words)["answer"]
    for row in rows:
        question, answer, rationale = (
            marks_as_words(row[name] or "") for name in ("question", "answer", "rationale")
        )
        options = tuple(map(marks_as_words, row["options"] or ()))
        own = row["asked_style"] if row["asked_style"] in known else style
        yield Worded(
            id=row["id"],
            image_id=row["image_id"],
            prompt=answer_prompt(words, question, options, own if rationale else "direct"),
            completion=render_completion(rationale, answer),
            examined=answer_prompt(words, question, options, style),
            question=question,
            options=options,
            answer=answer,
        )
