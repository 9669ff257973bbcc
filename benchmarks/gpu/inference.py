"""Judging and generating, and forward passes of the language model alone."""

from __future__ import annotations

import functools
import statistics
from typing import Any

import numpy as np

from benchmarks.gpu.measures import (
    Figures,
    Options,
    counted,
    forward,
    forward_operations,
    peak_gib,
    spread,
    timed,
)
from benchmarks.gpu.rows import PROMPTS, STYLE, rows_about
from engine.config import MAX_PIXELS
from engine.vlm.inputs import encode, sift
from engine.vlm.protocol import Request, Sampling
from engine.vlm.transformers import TransformersVLM
from pipelines.training.grpo import questions_of
from reward_model.scoring import Judge, judge_request


def judge(options: Options) -> list[Figures]:
    """`Judge.scores` of 32 rows; how long the processor alone takes for the same."""
    number = 8 if options.small else 32
    rows, _, pngs = rows_about(number, options.small)
    requests = [judge_request(row, pngs[row.image_id], PROMPTS) for row in rows]
    load_s, scorer = timed(lambda: Judge(str(options.model), "judge", options.threads))
    scorer.scores(requests[:8])
    runs = [timed(lambda: scorer.scores(requests)) for _ in range(3)]
    times = [seconds for seconds, _ in runs]
    prepared_s, (inputs, _) = timed(lambda: sift(scorer.processor, requests, MAX_PIXELS))
    median = statistics.median(times)
    work = forward_operations(scorer.model.backbone.config, counted(inputs))
    return [
        {
            "batch": f"{number}",
            "load_s": round(load_s, 1),
            **spread(times),
            "fetch_share": round(prepared_s / median, 3),
            "rows_per_s": round(number / median, 2),
            "tokens_per_s": round(int(inputs["attention_mask"].sum()) / median),
            "mfu": round(work / median / options.peak, 4),
            "finite": bool(np.isfinite(runs[-1][1]).all()),
        }
    ]


def generate(options: Options) -> list[Figures]:
    """`TransformersVLM.generate`: eight samples for each of 16 requests; then forward passes."""
    number = 2 if options.small else 16
    rows, _, pngs = rows_about(number, options.small)
    asked = questions_of(rows, PROMPTS, STYLE)
    requests = [Request(pngs[row["image_id"]], row["prompt"]) for row in asked]
    load_s, vlm = timed(lambda: TransformersVLM(str(options.model), options.threads, 4096))
    vlm.generate(requests[:1], Sampling(1, 1.0, 8, 0))
    told: list[Figures] = []
    for samples, tokens in ((1, 1), (8, 1), (8, options.tokens)):
        sampling = Sampling(samples, 1.0, tokens, 0)
        seconds, replies = timed(functools.partial(vlm.generate, requests, sampling))
        said = [sample for reply in replies for sample in reply]
        told.append(
            {
                "batch": f"{number} x {samples}",
                "note": f"{tokens} tokens each",
                "load_s": round(load_s, 1),
                "step_s": round(seconds, 3),
                "rows_per_s": round(number / seconds, 2),
                "tokens_per_s": round(sum(sample.tokens for sample in said) / seconds),
                "peak_gib": peak_gib(),
                "finite": all(np.isfinite(sample.logprob or 0.0) for sample in said),
            }
        )
    inputs = encode(vlm.processor, requests[:4], MAX_PIXELS).to(vlm.model.device)
    return [*told, text(options, vlm.model, inputs)]


def text(options: Options, model: Any, inputs: Any) -> Figures:
    """Forward passes of the language model with all logits, images read as words."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    median, _ = forward(lambda: model(input_ids=ids, attention_mask=mask, use_cache=False))
    tokens = mask.sum(1).tolist()
    work = forward_operations(model.config, [(n, 0, n) for n in tokens])
    return {
        "stage": "text",
        "note": "forward with logits, images as words",
        "batch": f"{len(tokens)}",
        "step_s": round(median, 4),
        "tokens_per_s": round(sum(tokens) / median),
        "mfu": round(work / median / options.peak, 4),
    }
