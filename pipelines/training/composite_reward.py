"""The composite reward of a completion: is it right, what does the judge think, is it well formed.

Reward = correct·[right] + judge·sigmoid(score) + process·[worst step] + format·[well formed] +
length·[not near its end], weights from the configuration, which is refused unless correct exceeds
the others together. The worst step is `reward_model.process.Reasoning.score`: 0 for a reply without
reasoning, so that a policy gains nothing by leaving it away. An answer counts as right only in the
right form, so a wrong answer never outscores a right one. Within a group all but the verified part
counts as far as the verified answers differ: `pipelines.training.advantages`.

MedGR2's reward, 0.8·R + 0.2·[right], is `grpo.reward: paper`: the same parts `judge` and `correct`,
and none of these promises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.answers.matching import is_correct, is_valid
from engine.answers.parsing import parse_completion
from engine.config.training import PolicyReward, RewardWeights
from engine.errors import TriptychError
from pipelines.training.advantages import VERIFIED
from reward_model.process import Reply, reasonings
from reward_model.scoring import Judge

PROCESS = "process"


def verdict(text: str, gold: str, options: tuple[str, ...]) -> tuple[bool, bool]:
    """Whether a completion is right, and whether it is well formed: no right one is not."""
    parsed = parse_completion(text, options)
    formed = parsed.problem is None and is_valid(parsed.answer, options)
    return formed and is_correct(parsed.answer, gold, options), formed


def opinion(judged: float) -> float:
    """The judge's logit as a number in [0, 1]; raises TriptychError where it is none."""
    return float(1 / (1 + np.exp(-np.clip(finite(judged), -30, 30))))


def finite(judged: float) -> float:
    """What the judge says, if it is a finite number; raises TriptychError where it is none."""
    if not np.isfinite(judged):
        raise TriptychError(
            f"grpo: the judge scores a completion {judged}: train the judge again with a lower "
            "reward.lr, or leave it out: --set 'grpo.reward={judge: 0, process: 0}'"
        )
    return judged


class Reward:
    """One part of the reward as TRL calls it: a batch of completions in, a number in [0, 1] each.

    `part` is correct, judge, process or format; `judge` and `pixels` (PNG by id) are for judge and
    process alone.
    """

    def __init__(
        self, part: str, judge: Judge | None = None, pixels: Mapping[str, bytes] | None = None
    ) -> None:
        self.__name__, self.judge, self.pixels = part, judge, pixels

    def __call__(self, completions: list[Any], **columns: Any) -> list[float]:
        texts = [c if isinstance(c, str) else _text(c[0]["content"]) for c in completions]
        options = [tuple(o) for o in columns["options"]]
        found = [verdict(*each) for each in zip(texts, columns["gold"], options)]
        if self.judge is None:
            return [float(right if self.__name__ == VERIFIED else form) for right, form in found]
        replies = self._replies(texts, columns["image_id"], columns["question"], options)
        if self.__name__ == PROCESS:
            scores = [reasoning.score for reasoning in reasonings(replies, self.judge)]
            return [finite(one) if formed else 0.0 for one, (_, formed) in zip(scores, found)]
        judged = self._judged(replies)
        return [opinion(one) if formed else 0.0 for one, (_, formed) in zip(judged, found)]

    def _replies(
        self, texts: list[str], image_ids: list[str], questions: list[str], options: list[Any]
    ) -> list[Reply]:
        assert self.pixels is not None
        read = [parse_completion(text, opts) for text, opts in zip(texts, options)]
        return [
            Reply(self.pixels[image], question, opts, said.rationale, said.answer)
            for said, image, question, opts in zip(read, image_ids, questions, options)
        ]

    def _judged(self, replies: list[Reply]) -> np.ndarray:
        assert self.judge is not None
        words = self.judge.settings.prompts
        requests = [reply.request(words, reply.rationale) for reply in replies]
        return self.judge.overall(self.judge.scores(requests))


class Length:
    """1 for a completion that ends early enough, 0 for one of `max_tokens`, linear between.

    DAPO's soft punishment of overlong completions (arXiv 2503.14476, equation 13) plus 1, so that
    it is in [0, 1] as the other parts are: it falls in the last `buffer`, a share of `max_tokens`.
    """

    def __init__(self, max_tokens: int, buffer: float) -> None:
        self.__name__, self.max_tokens, self.buffer = "length", max_tokens, buffer

    def __call__(
        self, completions: list[Any], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float]:
        left = self.max_tokens - np.array([len(ids) for ids in completion_ids])
        return list(np.clip(left / (self.buffer * self.max_tokens), 0.0, 1.0).tolist())


def reward_parts(
    reward: PolicyReward, judge: str, pixels: Mapping[str, bytes], threads: int, max_tokens: int
) -> list[Reward | Length]:
    """The parts that have a weight, the verified one first.

    The judge is loaded from its folder where it has a weight; `pixels` are PNG bytes by id, and a
    completion has at most `max_tokens`.
    """
    weighted = [name for name, weight in reward.weights.items() if weight]
    parts: list[Reward | Length] = [Reward(VERIFIED)]
    judged = [name for name in ("judge", PROCESS) if name in weighted]
    if judged:
        scorer = Judge(judge, "grpo", threads)
        parts += [Reward(name, scorer, pixels) for name in judged]
    if "format" in weighted:
        parts.append(Reward("format"))
    if "length" in weighted and isinstance(reward, RewardWeights):
        parts.append(Length(max_tokens, reward.buffer))
    return parts


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


def mixed(texts: Iterable[str], gold: str, options: tuple[str, ...]) -> bool:
    """Whether some completions of a group are right and others wrong, so that it teaches."""
    return len({verdict(text, gold, options)[0] for text in texts}) > 1
