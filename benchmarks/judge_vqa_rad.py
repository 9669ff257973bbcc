"""VQA-RAD's gold questions answered by the generator: the part of `benchmarks.judge` on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.judge_bench import Asked, Bench, figure, heuristics, taught_by
from engine.answers.matching import is_correct
from engine.answers.parsing import parse_completion
from engine.prompts import answer_prompt
from engine.records import Preference, Triplet, content_id
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import Request, Sampling
from pipelines.record import expert_of
from reward_model.blind import blind_scores
from reward_model.criteria import CRITERIA
from reward_model.examples import Example, examples_of
from reward_model.patient_sets import is_frozen

QUESTIONS = 400  # of frozen patients, and as many of the others


def vqa_rad(bench: Bench, result: dict[str, Any]) -> None:
    """Gold questions answered by the generator: who tells right answers from wrong ones."""
    context, made = bench.context, bench.pieces.made
    expert = expert_of(context)
    gold: dict[bool, list[Triplet]] = {True: [], False: []}
    for image in bench.images.values():
        if image.split == "train":
            own = [row for row, _ in expert.rows(image, 99)]
            gold[is_frozen(image.group)] += own
    rng = np.random.default_rng(0)
    some = {
        frozen: [rows[n] for n in rng.permutation(len(rows))][:QUESTIONS]
        for frozen, rows in gold.items()
    }
    answers = made("answers", lambda: {"texts": answered(bench, [*some[True], *some[False]])})
    by_id = {row.id: row for rows in some.values() for row in rows}
    samples: dict[bool, list[tuple[Triplet, Triplet]]] = {True: [], False: []}
    for name, texts in answers["texts"].items():
        for n, (text, logprob) in enumerate(texts):
            row = by_id[name]
            told = replace(
                row, id=content_id(row.id, n), generator_id="generator", answer=text,
                sample=n, logprob=logprob,
            )  # fmt: skip
            samples[is_frozen(bench.images[row.image_id].group)].append((told, row))
    frozen = _of_gold(bench, samples[True])
    known = _of_gold(bench, samples[False])
    result["rows"] = {
        "answers": len(frozen.rows), "patients": len(set(frozen.patients)),
        "right": round(float(frozen.right.mean()), 3),
    }  # fmt: skip
    pairs = swapped_pairs(bench, expert, [r for rows in gold.values() for r in rows])
    result["swapped"] = {
        "gold rows": sum(len(rows) for rows in gold.values()),
        "pairs that teach": sum(not is_frozen(bench.images[e.first.image_id].group) for e in pairs),
        "pairs that measure": sum(is_frozen(bench.images[e.first.image_id].group) for e in pairs),
    }
    told = [_verdict_example(row, right) for row, right in zip(known.rows, known.right)]
    measured = [_verdict_example(row, right) for row, right in zip(frozen.rows, frozen.right)]
    learned = [e for e in pairs if not is_frozen(bench.images[e.first.image_id].group)]
    held = [e for e in pairs if is_frozen(bench.images[e.first.image_id].group)]
    sources = {"swapped pairs": learned, "answers": told, "both": [*learned, *told]}

    def table() -> dict[str, Any]:
        among = [row for row, _ in samples[True]]
        scores = {"blind judge": blind_scores(*taught_by(sources["both"]), frozen.rows)}
        scores |= heuristics(frozen, among, known)
        for name, examples in sources.items():
            scores[f"judge, {name}"] = bench.scores(
                bench.train(name, examples, [*held, *measured]), frozen.rows
            )
        return {"table": {name: figure(s, frozen) for name, s in scores.items()}}

    result |= made("table", table)

    def of_pairs() -> dict[str, Any]:
        rows = [r for e in held for r in (e.first, e.second) if r is not None]
        right = np.tile([True, False], len(held))
        patients = np.array([bench.images[r.image_id].group for r in rows])
        asked = Asked(
            rows, right, patients, [next(iter(e.targets)) for e in held for _ in range(2)]
        )
        found = {"blind judge": figure(blind_scores(*taught_by(learned), rows), asked)}
        for name in ("swapped pairs", "both"):
            weights = bench.train(name, sources[name], [*held, *measured])
            found[f"judge, {name}"] = figure(bench.scores(weights, rows), asked)
        return found

    result["frozen swapped pairs"] = made("swapped", of_pairs)


def answered(bench: Bench, rows: Sequence[Triplet]) -> dict[str, list[tuple[str, float | None]]]:
    """By gold row, four answers of the tuned generator that parse, with their log-probabilities."""
    config = bench.context.config
    model = bench.context.model("generator")
    vlm = open_vlm(
        config.generator.backend,
        bench.context.path_of(model),
        config.cluster.threads,
        config.max_pixels,
    )
    found: dict[str, list[tuple[str, float | None]]] = {}
    for low in range(0, len(rows), 100):
        part = rows[low : low + 100]
        asked = [
            Request(
                bench.context.pixels[row.image_id],
                answer_prompt(config.generator.prompts, row.question, row.options, "direct"),
                low + n,
            )
            for n, row in enumerate(part)
        ]
        replies = vlm.generate(asked, Sampling(4, 0.8, 24, config.seed))
        for row, samples in zip(part, replies):
            parsed = [(parse_completion(s.text, row.options), s.logprob) for s in samples]
            found[row.id] = [(p.answer, lp) for p, lp in parsed if p.problem is None]
    return found


def _of_gold(bench: Bench, samples: list[tuple[Triplet, Triplet]]) -> Asked:
    rows = [row for row, _ in samples]
    return Asked(
        rows,
        np.array([is_correct(row.answer, gold.answer, gold.options) for row, gold in samples]),
        np.array([bench.images[row.image_id].group for row in rows]),
        ["closed" if row.options else "open" for row in rows],
    )


def _verdict_example(row: Triplet, right: bool) -> Example:
    return Example(
        first=row, targets={CRITERIA[0]: float(right)}, accepted=float(right), stream="given",
        round=0, sources=(row.id,),
    )  # fmt: skip


def swapped_pairs(bench: Bench, expert: Any, gold: list[Triplet]) -> list[Example]:
    """The pairs of gold rows, as many as there are."""
    made, pairs = expert.pairs(gold, 10**6, 0)
    found: list[Preference] = pairs
    return examples_of([], found, [*gold, *made])[0]
