"""Evaluate on held-out images: accuracy by modality and question type, invalid answers counted."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine import cluster
from engine.answers import is_correct, is_valid, parse_completion
from engine.records import Evaluation, Image, Model, Triplet, content_id
from engine.statistics import cluster_bootstrap
from engine.vlm import Request, Sampling, open_vlm
from engine.workspace import Stage
from generators.prompts import answer_prompt
from pipelines.context import Context
from pipelines.expertise import Exemplar, held_out

VALIDATION_SHARE = 0.5  # of as many questions as the test has, for the planner


def make_examinee(model: str, section: dict[str, Any], threads: int) -> cluster.Worker:
    """A Ray Data worker: rows of {png, text} in, the greedy reply added."""
    vlm = open_vlm(model, section["backend"], section["url"], section["max_model_len"], threads)
    sampling = Sampling(1, 0.0, section["max_tokens"])

    def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
        replies = vlm.generate([Request(r["png"], r["text"]) for r in rows], sampling)
        return [{"key": r["key"], "text": reply[0].text} for r, reply in zip(rows, replies)]

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
    parsed = parse_completion(text)
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


def examine(
    context: Context, model: Model, questions: list[Exemplar], arm: str, round: int
) -> list[Evaluation]:
    """Ask a model every question greedily, on Ray Data, and mark its answers."""
    section, config = context.config.evaluate, context.config
    images = {i.id: i for i in context.images()}
    rows = [
        {
            "key": n,
            "png": images[q.image_id].png,
            "text": answer_prompt(config.generator.prompts, q.question, q.options, section.style),
        }
        for n, (q, _) in enumerate(questions)
    ]
    size = max(section.batch, 128)
    shards = {f"{i:06d}": rows[i : i + size] for i in range(0, len(rows), size)}
    arguments = {
        "model": context.path_of(model),
        "section": section.model_dump(),
        "threads": config.cluster.threads,
    }
    texts: dict[int, str] = {}
    for _, replies in cluster.map_shards(
        make_examinee, arguments, shards, section.actors, config.cluster.threads, section.gpus
    ):
        texts |= {r["key"]: r["text"] for r in replies}
        context.display.advance(len(texts), len(rows), f"answers ({arm})")
    return [
        marked(q, task.question_type, images[q.image_id], model, arm, round, texts[n])
        for n, (q, task) in enumerate(questions)
    ]


def evaluate(context: Context, stage: Stage) -> None:
    """Base (once), SFT and policy on the same test questions; the policy on validation too."""
    test = held_out(context, "test", context.config.evaluate.questions)
    number = int(context.config.evaluate.questions * VALIDATION_SHARE)
    validation = held_out(context, "val", number)
    rows: list[Evaluation] = []
    if stage.round == 1:
        rows += examine(context, context.base(), test, "base", stage.round)
    rows += examine(context, context.model("sft"), test, "sft", stage.round)
    rows += examine(context, context.model("policy"), test + validation, "policy", stage.round)
    stage.write(Evaluation, rows)
    stage.metrics = {"arms": arm_metrics(rows, context)}


def arm_metrics(rows: list[Evaluation], context: Context) -> dict[str, Any]:
    """Test accuracy of each arm with a 95 % interval from resampling patients, invalid counted."""
    groups = {i.id: i.group for i in context.images()}
    arms: dict[str, Any] = {}
    for arm in dict.fromkeys(r.arm for r in rows):
        mine = [r for r in rows if r.arm == arm and r.split == "test"]
        if not mine:
            continue
        correct = np.array([r.correct for r in mine])
        low, high = cluster_bootstrap(correct, np.array([groups[r.image_id] for r in mine]), 0)
        arms[arm] = {
            "accuracy": round(float(correct.mean()), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "n": len(mine),
            "invalid": sum(not r.valid for r in mine),
        }
    return arms
