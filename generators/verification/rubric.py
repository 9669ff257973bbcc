"""A verifier answers a rubric about a question and its answers, each item yes or no by itself.

After MedVLSynther (arXiv 2510.25867): essentials must all pass, bonuses count for a row, pitfalls
against it. A reply that cannot be read is kept with its reason, and does not pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from engine.answers.yes_no import is_bare, read_yes_no
from engine.config.rubric import RubricAsks, RubricItem
from engine.knowledge import NOTHING, Known
from engine.records import Triplet, Verification, canonical
from engine.vlm.protocol import VLM, Request, Sample, Sampling
from generators.verification.votes import Answers, identified

SHOWN = 120  # characters of a reply that cannot be read
Replies = dict[str, dict[str, Any]]  # by item: yes (true, false, null), p, and why there is none


@dataclass(frozen=True, slots=True)
class Assessing:
    """Who verifies (a model's id), by which rubric, how many answers of a question, told what."""

    model_id: str
    asks: RubricAsks
    answers: int
    sampling: Sampling
    knowledge: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """One item asked: of which verification, of which answer ("" of the question), and how."""

    place: int
    answer: str
    item: str
    request: Request


def assessed(
    vlm: VLM,
    found: Sequence[Verification],
    questions: Mapping[str, Answers],
    pngs: Mapping[str, bytes],
    how: Assessing,
    known: Mapping[str, Known] | None = None,
) -> list[Verification]:
    """The same with the verifier's replies. `questions` are rows by question and answer, as
    `votes.questions_of` has them, `pngs` and what is `known` by image id."""
    knows = known or {}
    asked = [
        one
        for place, each in enumerate(found)
        for one in _asked(
            place,
            questions[each.question_id],
            pngs[each.image_id],
            how,
            knows.get(each.image_id, NOTHING).told(),
        )
    ]
    replies = vlm.generate([one.request for one in asked], how.sampling)
    said: list[dict[str, Replies]] = [{} for _ in found]
    for one, samples in zip(asked, replies):
        said[one.place].setdefault(one.answer, {})[one.item] = replied(
            samples[0], private=bool(how.knowledge)
        )
    return [
        _told(each, [*islice(questions[each.question_id], how.answers)], replied_to, how)
        for each, replied_to in zip(found, said)
    ]


def _asked(place: int, answers: Answers, png: bytes, how: Assessing, known: str) -> list[_Asked]:
    """Items of the question, then those of each answer, whose surest row is read."""
    rows = {key: same[0] for key, same in islice(answers.items(), how.answers)}
    about = {"": next(iter(rows.values()))} | rows
    return [
        _Asked(place, key, name, Request(png, words_of(how.asks, item, row, known)))
        for key, row in about.items()
        for name, item in how.asks.items.items()
        if item.of == ("answer" if key else "question") and _is_asked(item, row)
    ]


def _is_asked(item: RubricItem, row: Triplet) -> bool:
    match item.needs:
        case "options":
            return bool(row.options)
        case "reasoning":
            return bool(row.rationale.strip())
    return True


def words_of(asks: RubricAsks, item: RubricItem, row: Triplet, known: str = "") -> str:
    """The user turn that asks one item of a row; `known` is what is told of its image."""
    told = asks.known.format(known=known) if known else ""
    options = asks.options.format(options=" | ".join(row.options)) if row.options else ""
    if item.of == "question":
        words = asks.request.format(
            known=told, question=row.question, options=options, item=item.ask
        )
    else:
        thought = row.rationale.strip()
        words = asks.request_of_answer.format(
            known=told,
            question=row.question,
            options=options,
            answer=row.answer,
            reasoning=asks.reasoning.format(reasoning=thought) if thought else "",
            item=item.ask,
        )
    return words.strip()


def replied(sample: Sample, private: bool = False) -> dict[str, Any]:
    """What a reply says: `yes`, and `p`, the probability of yes, or `why` it cannot be read.

    One that cannot be read is shown, but not where it may repeat what is `private`.
    `p` is known where the reply is the word alone and the backend tells log-probabilities: the
    probability of the reply where it is yes, else what is left of it.
    """
    yes, why = (None, sample.problem) if sample.problem else read_yes_no(sample.text)
    if yes is None:
        shown = {} if private else {"said": sample.text[:SHOWN]}
        return {"yes": None, "p": None, "why": why} | shown
    p = None
    if sample.logprob is not None and math.isfinite(sample.logprob) and is_bare(sample.text):
        p = min(math.exp(sample.logprob * sample.tokens), 1.0)
        p = round(p if yes else 1 - p, 6)
    return {"yes": yes, "p": p}


def scored(items: Mapping[str, RubricItem], replies: Replies) -> tuple[float | None, list[str]]:
    """(the score, 0 to 1, None where nothing that gives points was asked; what failed).

    What failed are the essentials that did not pass, by name, in the rubric's order.
    """
    points = most = 0.0
    failed = []
    for name, item in items.items():
        if name not in replies:
            continue
        said = replies[name]["yes"]
        passed = said is not None and said == (item.passes_on == "yes")
        if item.kind == "pitfall":
            points -= 0.0 if passed else item.weight
            continue
        most += item.weight
        points += item.weight if passed else 0.0
        if item.kind == "essential" and not passed:
            failed.append(name if said is not None else f"{name} (not readable)")
    return (round(max(points / most, 0.0), 6) if most else None), failed


def _told(
    one: Verification, answers: list[str], said: dict[str, Replies], how: Assessing
) -> Verification:
    of_question = said.get("", {})
    told: dict[str, Any] = {}
    for answer in answers:
        of_answer = said.get(answer, {}) if answer else {}
        score, failed = scored(how.asks.items, of_question | of_answer)
        told[answer] = {"items": of_answer, "score": score, "failed": failed}
    return identified(
        replace(
            one,
            verifier_id=how.model_id,
            rubric_id=how.asks.id,
            rubric=canonical({"items": of_question, "answers": told}),
            score=told[answers[0]]["score"],
        )
    )
