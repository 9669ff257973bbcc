"""What a completion says, and whether an answer is right. Written to resist gaming.

Known ways in which reward code was gamed elsewhere, each refused here: an empty answer (the empty
string is a substring of everything), several options at once, an option inside a longer answer, the
option list repeated, two answer tags, and fuzzy matching that always picks some option.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import permutations
from string import ascii_lowercase

from engine.spelling import normalise, says_something

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_QUESTION = re.compile(
    r"\s*<question>(.*?)</question>\s*(?:<options>(.*?)</options>)?\s*", re.DOTALL
)
_TAG = re.compile(r"</?(?:question|options|think|answer)>")
_NUMBERED = re.compile(r"\(?([A-Za-z])[).:]\s*(?=\S)")
_LETTER = re.compile(r"\(?([A-Za-z])(?:[).:]+|\s|$)")


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
class Question:
    """A parsed question; `problem` is None where the form is right."""

    text: str
    options: tuple[str, ...]
    problem: str | None = None


def parse_question(text: str) -> Question:
    """Read `<question>…</question><options>a | b</options>` (no options: an open question).

    Options that are all numbered by their letters, as in "A. left | B. right", lose these.
    """
    found = _QUESTION.fullmatch(text)
    if not found:
        return Question("", (), "no question tag")
    stem = found.group(1).strip()
    options = _unlettered([o.strip() for o in (found.group(2) or "").split("|") if o.strip()])
    if not says_something(stem) or _TAG.search(stem):
        return Question("", (), "empty or nested question")
    if any(_TAG.search(o) for o in options):
        return Question(stem, (), "a tag inside the options")
    if len(options) == 1:
        return Question(stem, options, "a single option")
    if len({normalise(o) for o in options}) < len(options):
        return Question(stem, options, "repeated options")
    bare = [o for o in options if not says_something(o)]
    if len(bare) == 1 or not all(map(normalise, bare)):  # "+" against "-" is a choice
        return Question(stem, options, "an empty option")
    return Question(stem, options)


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


def resolve(answer: str, options: tuple[str, ...]) -> str | None:
    """The one option that `answer` names, or None.

    An option is named by its whole text, by its letter alone ("B", "b)", "(B)"), or by both
    ("B. left"). Anything else names none: containing an option's text is not naming it. A letter
    that is also in the text of another option ("A" of "type B" and "type A") names none.
    """
    named = _named(answer, options)
    return named[0] if len(named) == 1 else None if named else _by_letter(answer, options)


def _named(answer: str, options: tuple[str, ...]) -> list[str]:
    """The options whose whole text `answer` is."""
    keep_a = _lettered(options)
    keys = [normalise(o, keep_a) for o in options]
    for said in (normalise(answer, keep_a), normalise(answer)):
        if said and said in keys:
            return [o for o, key in zip(options, keys) if key == said]
    return []


def _lettered(options: tuple[str, ...]) -> bool:
    """Whether an "a" tells options apart, as a letter does: "A dissection" and "B dissection"."""
    texts = [normalise(o, True).split() for o in options]
    for one, other in permutations(texts, 2):
        apart = [(a, b) for a, b in zip(one, other) if a != b] if len(one) == len(other) else []
        if len(apart) == 1 and apart[0][0] == "a" and len(apart[0][1]) == 1:
            return True
    return False


def _by_letter(answer: str, options: tuple[str, ...]) -> str | None:
    plain = unicodedata.normalize("NFKC", answer).strip()
    found = _LETTER.match(plain)
    if not found:
        return None
    letter, rest = found.group(1).lower(), plain[found.end() :].strip()
    place = ord(letter) - ord("a")
    if place >= len(options):
        return None
    if rest:
        return options[place] if normalise(rest) == normalise(options[place]) else None
    texts = [normalise(o, True).split() for o in options]
    own = any(len(text) == 1 and len(text[0]) == 1 and text[0].isalpha() for text in texts)
    elsewhere = any(letter in text for n, text in enumerate(texts) if n != place)
    return None if own or elsewhere else options[place]


def is_valid(answer: str, options: tuple[str, ...]) -> bool:
    """Whether an answer is one at all: not empty, and one of the options where there are any."""
    return resolve(answer, options) is not None if options else says_something(answer)


def is_correct(answer: str, gold: str, options: tuple[str, ...] = ()) -> bool:
    """Whether `answer` is `gold`: the same option, or the same text without options.

    What the same text is, `engine.spelling` says.
    """
    if not is_valid(answer, options):
        return False
    if options:
        wanted = resolve(gold, options)
        return wanted is not None and resolve(answer, options) == wanted
    return normalise(answer) == normalise(gold)
