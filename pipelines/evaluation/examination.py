"""Models asked questions about images, and their answers marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import ClassVar

import pyarrow.parquet as pq

from engine.answers.matching import is_correct, is_valid
from engine.answers.parsing import parse_completion
from engine.cluster import Places, Rows
from engine.config.evaluate import Evaluate
from engine.pixels import Pixels
from engine.prompts import answer_prompt
from engine.records import Evaluation, Image, Model, Row, Triplet, content_id, from_arrow
from engine.resume import Made, Shards, Worker, make_shards
from engine.shards import whole_shards
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import VLM, Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Row):
    """What a model said to a question, in so many samples; no table of the record."""

    table: ClassVar[str] = "replies"
    id: str  # the question's
    arm: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Examination:
    """Who is asked, and how: `models` are paths of weights by arm, pictures the workspace's."""

    workspace: Path
    models: Mapping[str, str]
    section: Evaluate
    words: str  # the named set of prompts
    sampling: Sampling
    threads: int
    max_pixels: int


def make_examinees(job: Examination) -> Worker:
    """A worker on shards of {arm, id, image_id, question, options}: replies out.

    One worker serves all arms, one model at a time.
    """
    opened: dict[str, VLM] = {}
    opening = Lock()
    pixels = Pixels(job.workspace)

    def work(shard: str, rows: Rows) -> Made:
        (arm,) = {row["arm"] for row in rows}
        with opening:
            if arm not in opened:
                opened.clear()
                opened[arm] = open_vlm(
                    job.section.backend, job.models[arm], job.threads, job.max_pixels
                )
            vlm = opened[arm]
        requests = [
            Request(
                pixels[r["image_id"]],
                answer_prompt(job.words, r["question"], tuple(r["options"]), job.section.style),
                seed=int(r["id"][:8], 16),
            )
            for r in rows
        ]
        replies = vlm.generate(requests, job.sampling)
        return {
            Reply: [
                Reply(id=r["id"], arm=arm, texts=tuple(sample.text for sample in reply))
                for r, reply in zip(rows, replies)
            ]
        }

    return work


def ask(
    job: Examination,
    arms: Mapping[str, Sequence[Triplet]],
    folder: Path,
    advance: Callable[[int, int], None],
) -> dict[str, list[tuple[str, ...]]]:
    """Each arm's model asked its questions on Ray Data: by arm, the replies to each question.

    What is answered is in `folder`, and not asked again where it is there.
    """
    found = _replies(folder)
    shards: dict[str, Rows] = {}
    for arm, questions in arms.items():
        left = [q for q in questions if (arm, q.id) not in found]
        for low in range(0, len(left), job.section.batch):
            some = left[low : low + job.section.batch]
            shards[content_id(arm, [q.id for q in some])] = [
                {"arm": arm, "id": q.id, "image_id": q.image_id}
                | {"question": q.question, "options": list(q.options)}
                for q in some
            ]
    backend = job.section.backend
    places = Places(job.section.actors, job.threads, backend.gpus, backend.shards)
    total = sum(map(len, arms.values()))
    # Where a model's memory is not given back each arm has workers of its own.
    together = [list(arms)] if backend.frees_memory else [[arm] for arm in arms]
    for group in together:
        mine = {name: rows for name, rows in shards.items() if rows[0]["arm"] in group}
        before = sum((arm, q.id) in found for arm, questions in arms.items() for q in questions)
        make_shards(
            Shards(folder, (Reply,)),
            make_examinees,
            job,
            mine,
            places,
            partial(_tell, advance, before, total),
        )
        found = _replies(folder)
    return {arm: [found[arm, q.id] for q in questions] for arm, questions in arms.items()}


def _tell(advance: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    advance(before + done, total)


def _replies(folder: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """The replies in a folder, by arm and question; a torn file is thrown away."""
    paths = [folder / f"{name}.parquet" for name in sorted(whole_shards(folder))]
    rows = [reply for path in paths for reply in from_arrow(Reply, pq.read_table(path))]
    return {(reply.arm, reply.id): reply.texts for reply in rows}


def marked(
    question: Triplet,
    question_type: str,
    image: Image,
    model: Model,
    arm: str,
    round: int,
    text: str,
) -> Evaluation:
    """One scored answer. An answer that does not parse or names no option is wrong.

    Replies are read strictly, not as `engine.answers.reading` does: the form is asked for in the
    words that a policy is tuned on, GRPO rewards it as it is read here, and a reader that forgives
    more of one model than of another would move their difference. What the form costs a model is
    the share of unreadable answers beside its accuracy.
    """
    parsed = parse_completion(text, question.options)
    valid = parsed.problem is None and is_valid(parsed.answer, question.options)
    return Evaluation(
        id=content_id("evaluation", model.id, question.id, arm, round),
        model_id=model.id,
        image_id=image.id,
        split=image.split,
        round=round,
        arm=arm,
        modality=image.modality,
        question_type=question_type,
        question=question.question,
        options=question.options,
        gold=question.answer,
        answer=parsed.answer,
        valid=valid,
        correct=valid and is_correct(parsed.answer, question.answer, question.options),
    )
