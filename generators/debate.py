"""Debate: two opposed readings of an image, then a verdict that names what in it decided.

After Dialectic-Med, where one model argues for a reading, another against it, and a third decides.
Three requests make a row: the first reading, one that has to answer otherwise, and the verdict,
which is shown both. The whole exchange is the row's raw text, `<first>…</first><second>…</second>`
around the replies as they came and then the verdict's; `read_exchange` reads the row from it. The
rationale is the verdict's, after the two answers that it weighed: an argument for what turned out
wrong is no step of the reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.answers.forms import of_answer
from engine.answers.matching import is_correct, is_valid, resolve
from engine.answers.parsing import Completion
from engine.answers.reading import read_completion
from engine.prompts import debate_prompt, with_knowledge
from engine.vlm.protocol import VLM, Request, Sampling
from generators.replies import Reply, replies

TURNS = ("first", "second", "verdict")
NAMES = {"first": "first reading", "second": "second reading", "verdict": "verdict"}
SEEDS = 2  # between the seeds of turns, which follow those of questions (0) and answers (1)
_EXCHANGE = re.compile(r"<first>\n(.*?)\n</first>\n<second>\n(.*?)\n</second>\n(.*)", re.DOTALL)
_MARK = re.compile(r"</?(?:first|second)>")


@dataclass(frozen=True, slots=True)
class Debated:
    """A question to debate, of an image (PNG bytes); `seed` tells it from others, `known` is told.

    `structured` holds the replies to their form.
    """

    png: bytes
    question: str
    options: tuple[str, ...]
    seed: int
    known: str = ""
    structured: bool = False


@dataclass(slots=True)
class _Debate:
    """A debate as far as it went: the replies of its turns."""

    about: Debated
    seed: int
    turns: list[Reply[Completion]] = field(default_factory=list)

    def request(self, words: str) -> Request:
        """Of the next turn, which shows the turns before it."""
        one, turn = self.about, TURNS[len(self.turns)]
        before = [_reading(reply.read) for reply in self.turns]
        text = debate_prompt(words, turn, one.question, one.options, *before)
        form = of_answer(one.options, True) if one.structured else None
        return Request(one.png, with_knowledge(words, text, one.known), self.seed, form)

    def read(self, text: str) -> Completion:
        """The next turn's reply; the second has to answer otherwise than the first."""
        found = read_answer(text, self.about.options)
        if found.problem is None and _MARK.search(text):
            return replace(found, problem="a mark of the exchange inside it")
        if found.problem is None and len(self.turns) == 1:
            first = self.turns[0].read.answer
            if is_correct(found.answer, first, self.about.options):
                return replace(found, problem="it answers as the reading that it has to oppose")
        return found

    def reply(self) -> Reply[Completion]:
        """The whole debate as one reply; one that ended early has that turn's problem."""
        last, tries = self.turns[-1], max(turn.tries for turn in self.turns)
        texts = [turn.sample.text for turn in self.turns]
        marked = [f"<{t}>\n{text}\n</{t}>" for t, text in zip(TURNS, texts[:2])]
        raw = "\n".join([*marked, *texts[2:]])
        sample = replace(last.sample, text=raw, problem=None)
        if last.problem:
            ended = Completion("", "", f"{NAMES[TURNS[len(self.turns) - 1]]}: {last.problem}")
            return Reply(sample, ended, tries)
        return Reply(sample, read_exchange(raw, self.about.options), tries)


def debates(
    vlm: VLM, asked: Sequence[Debated], sampling: Sampling, words: str, again: bool
) -> list[list[Reply[Completion]]]:
    """`sampling.n` debates on each question, each as one reply: the exchange, and what it came to.

    Its log-probability is that of the verdict's tokens, its tries the most that a turn took. Where
    a turn cannot be read, or the second reading does not oppose the first, the debate ends there,
    with that problem. With `again` each turn has a second try.
    """
    held = [
        _Debate(one, one.seed * sampling.n + number)
        for one in asked
        for number in range(sampling.n)
    ]
    for turn in range(len(TURNS)):
        open_ = [one for one in held if len(one.turns) == turn and not _ended(one)]
        single = replace(sampling, n=1, seed=sampling.seed + 1 + SEEDS * turn)
        _take_turn(vlm, open_, single, words, again)
    finished = [one.reply() for one in held]
    return [finished[low : low + sampling.n] for low in range(0, len(finished), sampling.n)]


def _take_turn(
    vlm: VLM, open_: Sequence[_Debate], sampling: Sampling, words: str, again: bool
) -> None:
    """One more turn of each debate."""
    requests = [one.request(words) for one in open_]
    retry = words if again else None
    said = replies(vlm, requests, sampling, lambda at, text: open_[at].read(text), retry)
    for one, (reply,) in zip(open_, said):
        one.turns.append(reply)


def _ended(one: _Debate) -> bool:
    return bool(one.turns and one.turns[-1].problem)


def read_answer(text: str, options: tuple[str, ...]) -> Completion:
    """An answer to a question as a row takes it: read tolerantly, and one of the options."""
    found = read_completion(text, options)
    if found.problem is None and not is_valid(found.answer, options):
        return replace(found, problem="not one of the options")
    return found


def read_exchange(text: str, options: tuple[str, ...]) -> Completion:
    """A whole debate read: the verdict's answer, and its reasoning after what was weighed."""
    found = _EXCHANGE.fullmatch(text)
    if not found:
        return Completion("", "", "no debate of two readings and a verdict")
    first, second, verdict = (read_answer(part, options) for part in found.groups())
    problem = next((part.problem for part in (first, second, verdict) if part.problem), None)
    if problem:
        return replace(verdict, problem=problem)
    weighed = f"Two readings were weighed: {_said(first, options)}, or {_said(second, options)}."
    return replace(verdict, rationale=f"{weighed} {verdict.rationale}".strip())


def _said(read: Completion, options: tuple[str, ...]) -> str:
    """An answer in its option's words."""
    return (resolve(read.answer, options) or read.answer).rstrip(".")


def _reading(read: Completion) -> str:
    """A reading in a line: its answer, and what speaks for it."""
    return " ".join(f"{read.answer.rstrip('.')}. {read.rationale}".split())
