"""What finds a judge's own mistakes: the part of `benchmarks.judge` on its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks.judge_bench import Asked, Bench, agreement, figure, taught_by
from engine.records import Triplet
from engine.statistics import auc_difference
from reward_model.examples import Example
from reward_model.scoring import Judge, judge_request

HEADS, PASSES, DROPPED = 16, 16, 0.1
PENALTY = 1e-2  # of squared weights, beside the mean loss of a row


def unsure(
    bench: Bench,
    judge: Judge,
    asked: Asked,
    accepted: np.ndarray,
    among: Sequence[Triplet],
    examples: Sequence[Example],
) -> dict[str, Any]:
    """What finds the judge's mistakes: AUC of being unsure against being wrong, on frozen rows.

    `even odds` is the distance of the calibrated probability from one half, and costs nothing more.
    `heads` are logistic regressions on what the judge's heads read, each of patients drawn again;
    `dropout` is of what they read, in several passes.
    """
    rows = asked.rows
    chance = np.array([j.probability for j in bench.judged(judge, rows)])
    wrong = (chance > 0.5) != accepted
    read = hidden(bench, judge, rows)
    taught_rows, targets = taught_by(examples)
    seen = hidden(bench, judge, taught_rows)
    patients = np.array([bench.images[r.image_id].group for r in taught_rows])
    heads = ensemble(seen, np.array(targets), patients, read)
    dropped = dropout(judge, read)
    scores = {
        "even odds": -np.abs(chance - 0.5),
        "heads": heads.std(0),
        "heads and even odds": heads.std(0) - np.abs(chance - 0.5),
        "dropout": dropped.std(0),
        "disagreement of samples": -agreement(rows, among),
    }
    mistakes = replace(asked, right=wrong)
    told: dict[str, Any] = {"wrong": round(float(wrong.mean()), 3)}
    for name, values in scores.items():
        found = figure(values, mistakes)
        even = scores["even odds"]
        gain = auc_difference(even, values, wrong, asked.patients, seed=0)
        told[name] = {key: found[key] for key in ("auc", "low", "high")}
        told[name]["above even odds"] = [round(v, 3) for v in gain]
    return told


def hidden(bench: Bench, judge: Judge, rows: Sequence[Triplet]) -> np.ndarray:
    """(N, D) of what the heads read of each row."""
    import torch

    from engine.vlm.inputs import encode

    found = []
    device = judge.model.heads.weight.device
    for low in range(0, len(rows), 64):
        part = rows[low : low + 64]
        prompts = judge.settings.prompts
        asked = [judge_request(r, bench.context.pixels[r.image_id], prompts) for r in part]
        inputs = encode(judge.processor, asked, judge.settings.max_pixels)
        with torch.no_grad():
            read = judge.model.backbone.model(**inputs.to(device))[0][:, -1]
        found.append(read.float().cpu().numpy())
    return np.concatenate(found)


def ensemble(
    seen: np.ndarray, targets: np.ndarray, patients: np.ndarray, read: np.ndarray
) -> np.ndarray:
    """(HEADS, N) probabilities of regressions on rows of patients that are drawn again."""
    rng = np.random.default_rng(0)
    middle, scale = seen.mean(0), seen.std(0) + 1e-6
    seen, read = (seen - middle) / scale, (read - middle) / scale
    names, member = np.unique(patients, return_inverse=True)
    found = []
    for _ in range(HEADS):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
        weight = drawn[member] / drawn[member].sum()

        def loss(w: np.ndarray, weight: np.ndarray = weight) -> tuple[float, np.ndarray]:
            odds = seen @ w[:-1] + w[-1]
            off = (expit(odds) - targets) * weight
            slope = np.append(seen.T @ off, off.sum()) + 2e-2 * w
            return float(weight @ (np.logaddexp(0, odds) - targets * odds)) + 1e-2 * float(
                w @ w
            ), slope

        w = minimize(loss, np.zeros(seen.shape[1] + 1), jac=True, method="L-BFGS-B").x
        found.append(expit(read @ w[:-1] + w[-1]))
    return np.array(found)


def dropout(judge: Judge, read: np.ndarray) -> np.ndarray:
    """(PASSES, N) probabilities with a share of what the heads read left out at random."""
    rng = np.random.default_rng(0)
    weight = judge.model.heads.weight.detach().float().cpu().numpy()
    bias = judge.model.heads.bias.detach().float().cpu().numpy()
    slope, offset = judge.settings.calibration
    found = []
    for _ in range(PASSES):
        kept = (rng.random(read.shape) > DROPPED) / (1 - DROPPED)
        found.append(expit(slope * judge.overall((read * kept) @ weight.T + bias) + offset))
    return np.array(found)
