"""A rationale step by step: what the judge says after each, which is worst, what it contradicts.

The judge scores each prefix of the rationale: the same question and answer, the rationale cut after
step k. So a step's score is of everything up to it, as in the process reward model of Lightman et
al. (arXiv 2305.20050), which reads a solution so far. They rank solutions by the product of the
steps' probabilities and name the minimum beside it. Here it is the minimum: scores of prefixes
count the first step in each, so a product would charge it k times, and it falls with every step
that is added, so that a policy rewarded by it would learn to say little.

Beside the judge stand rules (`reward_model.contradictions`): a step that contradicts the answer, or
a step before, makes the whole worth nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from engine.answers.sentences import in_brackets, sentence_ends
from engine.prompts import judge_prompt
from engine.records import Judgement, Triplet
from engine.vlm.protocol import Request
from reward_model.calibration import probability
from reward_model.contradictions import ANSWER, EARLIER, Contradiction, contradictions
from reward_model.criteria import CRITERIA

if TYPE_CHECKING:
    from reward_model.scoring import Judge

REASONING = CRITERIA.index("reasoning")
IMAGE = "the image"
EVEN = 0.5  # below it the judge holds that the reasoning is not sound
AGAINST_ANSWER = f"reasoning: a step contradicts {ANSWER}"
AGAINST_EARLIER = f"reasoning: a step contradicts {EARLIER}"
UNSOUND = "reasoning: judged unsound"
FLAWS = (AGAINST_ANSWER, AGAINST_EARLIER, UNSOUND)

_ITEM = r"(?:\(?\d{1,2}[.)]|[-*•]|[Ss]tep \d+)\s"
_BREAK = re.compile(rf"\s*\n\s*(?:\n\s*|(?={_ITEM}))|;\s+|\s+(?=\d{{1,2}}\) )")
_MARK = re.compile(r"(?:\(?(?:\d{1,2}|[A-Za-z]|[ivx]+)[.)]|[-*•]|[Ss]tep \d+[.:]?|\W*)")


@lru_cache(maxsize=1 << 14)
def steps_of(rationale: str) -> tuple[str, ...]:
    """The steps of a rationale: sentences, items of a list, and what a semicolon parts.

    Each is a part of the text as written, and together they are the text, up to the spaces between
    them. The mark of a list ("1.", "Step 2:") belongs to the step behind it.
    """
    ends = set(sentence_ends(rationale))
    for found in _BREAK.finditer(rationale):
        before = rationale[: found.start()]
        if not in_brackets(before) and not before.rstrip().endswith((":", ",")):
            ends.add(found.end())
    spans: list[tuple[int, int]] = []
    start = 0
    for end in (*sorted(ends), len(rationale)):
        piece = rationale[start:end].strip()
        if _MARK.fullmatch(piece) and end < len(rationale):
            continue
        if spans and not any(sign.isalnum() for sign in piece):
            spans[-1] = (spans[-1][0], end)
        elif piece:
            spans.append((start, end))
        start = end
    return tuple(rationale[start:end].strip() for start, end in spans)


def prefixes_of(rationale: str) -> tuple[str, ...]:
    """The rationale up to the end of each of its steps; the last is all of it."""
    found, place = [], 0
    for step in steps_of(rationale):
        place = rationale.index(step, place) + len(step)
        found.append(rationale[:place].strip())
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to a question about an image (PNG bytes), with the reasoning before its answer."""

    png: bytes
    question: str
    options: tuple[str, ...]
    rationale: str
    answer: str

    def request(self, prompts: str, rationale: str) -> Request:
        """What a judge is shown of it with so much of its reasoning, in the words of `prompts`."""
        words = judge_prompt(prompts, self.question, self.options, rationale, self.answer)
        return Request(self.png, words)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A rationale's steps, and what was found of them.

    `sound` is the probability in [0, 1] after each step that the reasoning is sound (NaN without a
    finite score), empty where no judge has a say; `found` what contradicts, in the steps' order.
    """

    steps: tuple[str, ...]
    sound: tuple[float, ...]
    found: tuple[Contradiction, ...]

    @property
    def score(self) -> float:
        """The process score in [0, 1]: the worst step's; 0 where there is a contradiction by rule.

        Without a step nothing is shown, and it is 0. Without a judge it is 1 where no rule speaks.
        """
        if not self.steps or any(c.of != IMAGE for c in self.found):
            return 0.0
        return float(min(self.sound, key=lambda p: (not np.isnan(p), p), default=1.0))

    @property
    def worst(self) -> int | None:
        """The step to look at: the first that contradicts, else that of the lowest probability."""
        if self.found:
            return self.found[0].step
        return int(np.argmin(self.sound)) if self.sound else None


def reasonings(replies: Sequence[Reply], judge: Judge | None) -> list[Reasoning]:
    """Each reply's reasoning, step by step; the prefixes of all are scored together.

    A judge has a say where it is known what its logits are worth (`JudgeSettings.reasoning`).
    """
    steps = [steps_of(reply.rationale) for reply in replies]
    has_say = judge is not None and judge.settings.reasoning is not None
    after = _after(replies, judge) if judge is not None and has_say else [()] * len(replies)
    return [
        Reasoning(mine, sound, _found(reply, mine, sound))
        for reply, mine, sound in zip(replies, steps, after)
    ]


def _after(replies: Sequence[Reply], judge: Judge) -> list[tuple[float, ...]]:
    """Of each reply the probability after each step that its reasoning is sound."""
    prefixes = [prefixes_of(reply.rationale) for reply in replies]
    words = judge.settings.prompts
    requests = [
        reply.request(words, part) for reply, parts in zip(replies, prefixes) for part in parts
    ]
    assert judge.settings.reasoning is not None
    sound = probability(judge.scores(requests)[:, REASONING], *judge.settings.reasoning)
    cuts = np.cumsum([len(parts) for parts in prefixes])[:-1]
    return [tuple(map(float, part)) for part in np.split(sound, cuts)] if replies else []


def _found(
    reply: Reply, steps: tuple[str, ...], sound: Sequence[float]
) -> tuple[Contradiction, ...]:
    """What rules find, and the first step after which the judge no longer holds it sound."""
    found = list(contradictions(steps, reply.question, reply.answer, reply.options))
    low = next((place for place, chance in enumerate(sound) if chance < EVEN), None)
    if low is not None and all(c.step != low for c in found):
        found.append(Contradiction(low, IMAGE, f"sound with {sound[low]:.2f}, says the judge"))
    return tuple(sorted(found, key=lambda c: c.step))


def least_logit(chance: float, calibration: Sequence[float] | None) -> float:
    """The reasoning logit that a probability asks for; -infinity where logits are worth nothing.

    `calibration` are the slope and offset of `JudgeSettings.reasoning`.
    """
    if calibration is None or chance <= 0:
        return -np.inf
    slope, offset = calibration
    return float((np.log(chance) - np.log1p(-chance) - offset) / slope)


def flaw_of(row: Triplet, opinion: Judgement | None, least: float) -> str | None:
    """Why a row's reasoning is not to be taught, one of FLAWS; None where it is, or there is none.

    `least` is the judge's reasoning logit from which it is sound; without an opinion rules decide.
    """
    steps = steps_of(row.rationale)
    if not steps:
        return None
    found = contradictions(steps, row.question, row.answer, row.options)
    if found:
        return AGAINST_ANSWER if found[0].of == ANSWER else AGAINST_EARLIER
    return None if opinion is None or opinion.reasoning >= least else UNSOUND
