"""Texts that a model writes, read: a question with its options, or an answer with its reasoning.

Strictly, as rewards and examinations read; `engine.answers.reading` reads what becomes rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import ascii_lowercase

from engine.answers.matching import _named
from engine.answers.spelling import normalise, says_something

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)


_QUESTION = re.compile(
    r"\s*<question>(.*?)</question>\s*+(?:<options>(.*?)</options>)?\s*+", re.DOTALL
)


_TAG = re.compile(r"</?(?:question|options|think|answer)>")


_NUMBERED = re.compile(r"\(?([A-Za-z])[).:]\s*(?=\S)")


@dataclass(frozen=True, slots=True)
class Completion:
    """A parsed completion; `problem` is None where the form is right, else one short reason."""

    rationale: str
    answer: str
    problem: str | None = None


def parse_completion(text: str, options: tuple[str, ...] = ()) -> Completion:
    """Read `<think>…</think><answer>…</answer>` (the think part optional).

    The form is right when there is exactly one answer tag pair, it is not empty, nothing follows
    it, nothing but the think part precedes it, and no tag is inside another. An answer without a
    letter or digit is empty, but where it is an option as written: "+" of a test's "+" and "-".
    """
    text = text.strip()
    answers = _ANSWER.findall(text)
    if not answers:
        return Completion("", "", "no answer tag")
    if len(answers) > 1 or text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return Completion("", "", "more than one answer")
    answer = answers[0].strip()
    if not (says_something(answer) or _named(answer, options)):
        return Completion("", "", "empty answer")
    if _TAG.search(answer):
        return Completion("", "", "a tag inside the answer")
    before, _, after = text.partition(f"<answer>{answers[0]}</answer>")
    if after.strip():
        return Completion("", answer, "text after the answer")
    before = before.strip()
    thought = _THINK.fullmatch(before)
    if before and not thought:
        return Completion("", answer, "text outside the tags")
    rationale = thought.group(1).strip() if thought else ""
    if _TAG.search(rationale):
        return Completion("", answer, "a tag inside the reasoning")
    return Completion(rationale, answer)


def render_completion(rationale: str, answer: str) -> str:
    """The inverse of `parse_completion`."""
    thought = f"<think>{rationale}</think>" if rationale else ""
    return f"{thought}<answer>{answer}</answer>"


@dataclass(frozen=True, slots=True)
class ParsedQuestion:
    """A parsed question; `problem` is None where the form is right."""

    text: str
    options: tuple[str, ...]
    problem: str | None = None


def parse_question(text: str) -> ParsedQuestion:
    """Read `<question>…</question><options>a | b</options>` (no options: an open question).

    Options that are all numbered by their letters, as in "A. left | B. right", lose these.
    """
    found = _QUESTION.fullmatch(text)
    if not found:
        return ParsedQuestion("", (), "no question tag")
    stem = found.group(1).strip()
    options = _unlettered([o.strip() for o in (found.group(2) or "").split("|") if o.strip()])
    if not says_something(stem) or _TAG.search(stem):
        return ParsedQuestion("", (), "empty or nested question")
    if any(_TAG.search(o) for o in options):
        return ParsedQuestion(stem, (), "a tag inside the options")
    if len(options) == 1:
        return ParsedQuestion(stem, options, "a single option")
    if len({normalise(o) for o in options}) < len(options):
        return ParsedQuestion(stem, options, "repeated options")
    bare = [o for o in options if not says_something(o)]
    if len(bare) == 1 or not all(map(normalise, bare)):  # "+" against "-" is a choice
        return ParsedQuestion(stem, options, "an empty option")
    return ParsedQuestion(stem, options)


def _unlettered(options: list[str]) -> tuple[str, ...]:
    """Options without "A.", "B." … where each has its own before a text."""
    found = [_NUMBERED.match(option) for option in options]
    letters = "".join(match.group(1).lower() for match in found if match)
    if len(letters) == len(options) and ascii_lowercase.startswith(letters):
        return tuple(o[match.end() :] for o, match in zip(options, found) if match)
    return tuple(options)


def render_question(text: str, options: tuple[str, ...]) -> str:
    """The inverse of `parse_question`."""
    listed = f"<options>{' | '.join(options)}</options>" if options else ""
    return f"<question>{text}</question>{listed}"
