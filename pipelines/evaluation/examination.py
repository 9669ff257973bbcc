"""Models asked questions about images, and their answers marked."""

from __future__ import annotations

import json
from pathlib import Path

from engine import cluster
from engine.answers.matching import is_correct, is_valid
from engine.answers.parsing import parse_completion
from engine.config.backend import Backend
from engine.prompts import answer_prompt
from engine.records import Evaluation, Image, Model, Triplet, content_id
from engine.shards import replace_file
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import VLM, Request, Sampling
from pipelines.context import Context
from reward_model.experts.expert import Exemplar


def make_examinees(
    models: dict[str, str],
    backend: Backend,
    sampling: Sampling,
    threads: int,
    max_pixels: int,
) -> cluster.Worker:
    """A Ray Data worker: rows of {key, png, text} in, `sampling.n` replies to each out.

    One worker serves all arms, one model at a time; a shard's name begins with its arm.
    """
    opened: dict[str, VLM] = {}

    def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
        arm = shard.partition("/")[0]
        if arm not in opened:
            opened.clear()
            opened[arm] = open_vlm(backend, models[arm], threads, max_pixels)
        requests = [Request(r["png"], r["text"], seed=int(r["key"][:8], 16)) for r in rows]
        replies = opened[arm].generate(requests, sampling)
        return [
            {"key": r["key"], "texts": [sample.text for sample in reply]}
            for r, reply in zip(rows, replies)
        ]

    return work


def marked(
    question: Triplet,
    question_type: str,
    image: Image,
    model: Model,
    arm: str,
    round: int,
    text: str,
) -> Evaluation:
    """One scored answer. An answer that does not parse or names no option is wrong."""
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


Replies = dict[tuple[str, str], list[str]]  # by arm and the question's id


def ask(
    context: Context,
    arms: dict[str, tuple[Model, list[Triplet]]],
    sampling: Sampling,
    kept: Path | None = None,
) -> dict[str, list[list[str]]]:
    """Each arm's model asked its questions on Ray Data: by arm, the replies to each question.

    What is answered is written to the folder `kept`, and not asked again where it is there.
    """
    section, config = context.config.evaluate, context.config
    pngs = context.pngs()
    replies = _read_replies(kept)
    shards: dict[str, cluster.Rows] = {}
    for arm, (_, questions) in arms.items():
        left = [q for q in questions if (arm, q.id) not in replies]
        for low in range(0, len(left), section.batch):
            shards[f"{arm}/{left[low].id}"] = [
                {
                    "key": q.id,
                    "png": pngs[q.image_id],
                    "text": answer_prompt(
                        config.generator.prompts, q.question, q.options, section.style
                    ),
                }
                for q in left[low : low + section.batch]
            ]
    arguments = {
        "models": {arm: context.path_of(model) for arm, (model, _) in arms.items()},
        "backend": section.backend,
        "sampling": sampling,
        "threads": config.cluster.threads,
        "max_pixels": config.max_pixels,
    }
    total = sum(len(questions) for _, questions in arms.values())
    # Where a model's memory is not given back each arm has workers of its own.
    together = [list(arms)] if section.backend.frees_memory else [[arm] for arm in arms]
    for group in together:
        mine = {name: rows for name, rows in shards.items() if name.partition("/")[0] in group}
        for shard, answered in cluster.map_shards(
            make_examinees,
            arguments,
            mine,
            section.actors,
            config.cluster.threads,
            section.backend.gpus,
        ):
            arm = shard.partition("/")[0]
            replies |= {(arm, r["key"]): list(r["texts"]) for r in answered}
            _keep_replies(kept, shard, {r["key"]: list(r["texts"]) for r in answered})
            context.display.advance(len(replies), total, "questions")
    return {arm: [replies[arm, q.id] for q in questions] for arm, (_, questions) in arms.items()}


def _read_replies(folder: Path | None) -> Replies:
    """The replies that an interrupted try left."""
    paths = sorted(folder.glob("*/*.json")) if folder else []
    return {
        (path.parent.name, key): texts
        for path in paths
        for key, texts in json.loads(path.read_text(encoding="utf-8")).items()
    }


def _keep_replies(folder: Path | None, shard: str, replies: dict[str, list[str]]) -> None:
    if folder is not None:
        path = folder / f"{shard}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(replies).encode())


def examine(
    context: Context,
    arms: dict[str, tuple[Model, list[Exemplar]]],
    round: int,
    kept: Path | None = None,
) -> list[Evaluation]:
    """Ask each arm's model its questions greedily and mark the answers; `kept` as in `ask`."""
    images = {i.id: i for i in context.images()}
    wanted = {arm: (model, [q for q, _ in rows]) for arm, (model, rows) in arms.items()}
    replies = ask(context, wanted, Sampling(1, 0.0, context.config.evaluate.max_tokens), kept)
    return [
        marked(q, task.question_type, images[q.image_id], model, arm, round, texts[0])
        for arm, (model, questions) in arms.items()
        for (q, task), texts in zip(questions, replies[arm])
    ]
