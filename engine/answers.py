"""What a completion says, and whether an answer is right. Written to resist gaming.

Known ways in which reward code was gamed elsewhere, each refused here: an empty answer (the empty
string is a substring of everything), several options at once, an option inside a longer answer, the
option list repeated, two answer tags, and fuzzy matching that always picks some option.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_QUESTION = re.compile(
    r"\s*<question>(.*?)</question>\s*(?:<options>(.*?)</options>)?\s*", re.DOTALL
)
_TAG = re.compile(r"</?(?:question|options|think|answer)>")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b(?=\s+\S)")  # not a last word: "type A" has none
_LETTER = re.compile(r"\(?([A-Za-z])(?:[).:]+|\s|$)")
_NUMBERS = {
    word: str(n)
    for n, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_STRIP = str.maketrans({c: " " for c in string.punctuation if c not in ".-+%/<>"})


@dataclass(frozen=True, slots=True)
class Completion:
    """A parsed completion; `problem` is None where the form is right, else one short reason."""

    rationale: str
    answer: str
    problem: str | None = None


def parse_completion(text: str) -> Completion:
    """Read `<think>…</think><answer>…</answer>` (the think part optional).

    The form is right when there is exactly one answer tag pair, it is not empty, nothing follows
    it, nothing but the think part precedes it, and no tag is inside another.
    """
    text = text.strip()
    answers = _ANSWER.findall(text)
    if not answers:
        return Completion("", "", "no answer tag")
    if len(answers) > 1 or text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return Completion("", "", "more than one answer")
    answer = answers[0].strip()
    if not answer:
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
class Question:
    """A parsed question; `problem` is None where the form is right."""

    text: str
    options: tuple[str, ...]
    problem: str | None = None


def parse_question(text: str) -> Question:
    """Read `<question>…</question><options>a | b</options>` (no options: an open question)."""
    found = _QUESTION.fullmatch(text)
    if not found:
        return Question("", (), "no question tag")
    stem = found.group(1).strip()
    options = tuple(o.strip() for o in (found.group(2) or "").split("|") if o.strip())
    if not stem or _TAG.search(stem):
        return Question("", (), "empty or nested question")
    if any(_TAG.search(o) for o in options):
        return Question(stem, (), "a tag inside the options")
    if len(options) == 1:
        return Question(stem, options, "a single option")
    if len({normalise(o) for o in options}) < len(options):
        return Question(stem, options, "repeated options")
    return Question(stem, options)


def render_question(text: str, options: tuple[str, ...]) -> str:
    """The inverse of `parse_question`."""
    listed = f"<options>{' | '.join(options)}</options>" if options else ""
    return f"<question>{text}</question>{listed}"


def normalise(text: str) -> str:
    """Lower case, no articles, no punctuation at word ends, number words as digits."""
    plain = text.lower().translate(_STRIP)
    words = [w.rstrip(".") or w for w in _ARTICLES.sub(" ", plain).split()]
    return " ".join(_NUMBERS.get(w, w) for w in words)


def resolve(answer: str, options: tuple[str, ...]) -> str | None:
    """The one option that `answer` names, or None.

    An option is named by its whole text, by its letter alone ("B", "b)", "(B)"), or by both
    ("B. left"). Anything else names none: containing an option's text is not naming it.
    """
    named = [o for o in options if normalise(o) == normalise(answer)]
    if len(named) == 1:
        return named[0]
    letter = _LETTER.match(answer.strip())
    if not letter:
        return None
    place = ord(letter.group(1).lower()) - ord("a")
    if place >= len(options):
        return None
    rest = answer.strip()[letter.end() :].strip()
    return options[place] if not rest or normalise(rest) == normalise(options[place]) else None


def is_valid(answer: str, options: tuple[str, ...]) -> bool:
    """Whether an answer is one at all: not empty, and one of the options where there are any."""
    return bool(normalise(answer)) and (not options or resolve(answer, options) is not None)


def is_correct(answer: str, gold: str, options: tuple[str, ...] = ()) -> bool:
    """Whether `answer` is `gold`: the same option, or the same normalised text without options."""
    if not is_valid(answer, options) or not normalise(gold):
        return False
    if options:
        wanted = resolve(gold, options)
        return wanted is not None and resolve(answer, options) == wanted
    return normalise(answer) == normalise(gold)
