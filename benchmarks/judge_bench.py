"""What the parts of `benchmarks.judge` share: judges trained in a workspace, scores compared."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loop import Pieces
from engine.records import Image, Judgement, Triplet
from engine.statistics import auc, auc_interval
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.judge_training import Taught, fit_judge
from reward_model.criteria import CRITERIA
from reward_model.examples import Example
from reward_model.scoring import Judge
from reward_model.threshold import answer_key


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows with what is known of them: whether they are right, whose, and of what kind."""

    rows: list[Triplet]
    right: np.ndarray
    patients: np.ndarray
    kinds: list[str]

    def where(self, chosen: np.ndarray) -> Asked:
        return Asked(
            [row for row, own in zip(self.rows, chosen) if own],
            self.right[chosen],
            self.patients[chosen],
            [kind for kind, own in zip(self.kinds, chosen) if own],
        )


def figure(scores: np.ndarray, asked: Asked, right: np.ndarray | None = None) -> dict[str, Any]:
    """An AUC with its interval, and by kind of question."""
    labels = asked.right if right is None else right
    low, high = auc_interval(scores, labels, asked.patients, seed=0)
    kinds = np.array(asked.kinds)
    by_kind = {
        kind: round(auc(scores[kinds == kind], labels[kinds == kind]), 3)
        for kind in sorted(set(asked.kinds))
        if 0 < labels[kinds == kind].sum() < (kinds == kind).sum()
    }
    told = {"auc": round(auc(scores, labels), 3), "low": round(low, 3), "high": round(high, 3)}
    return told | {"by_kind": by_kind}


def agreement(rows: Sequence[Triplet], among: Sequence[Triplet]) -> np.ndarray:
    """Of each row the share of its question's samples that answer as it does."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in among:
        votes[row.question_key][answer_key(row)] += 1
    return np.array(
        [votes[r.question_key][answer_key(r)] / votes[r.question_key].total() for r in rows]
    )


def length(rows: Sequence[Triplet]) -> np.ndarray:
    return np.array([float(len(row.answer) + len(row.rationale)) for row in rows])


def heuristics(asked: Asked, among: Sequence[Triplet], known: Asked) -> dict[str, np.ndarray]:
    """Scores of what asks no judge; `known` are rows by which length's direction is found."""
    votes = agreement(asked.rows, among)
    sure = np.array([row.logprob or 0.0 for row in asked.rows])
    longer = auc(length(known.rows), known.right) >= 0.5
    return {
        "length": length(asked.rows) * (1 if longer else -1),
        "agreement": votes,
        "confidence": sure,
        "both": sure + np.log(votes),
    }


def taught_by(examples: Sequence[Example]) -> tuple[list[Triplet], list[float]]:
    """Rows of examples by themselves, and how likely each is right: what a blind judge learns."""
    rows: list[Triplet] = []
    targets: list[float] = []
    for example in examples:
        target = example.targets.get(CRITERIA[0])
        if target is None:
            continue
        rows.append(example.first)
        targets.append(target)
        if example.second is not None:
            rows.append(example.second)
            targets.append(1 - target)
    return rows, targets


class Bench:
    """A workspace with what was generated, and judges trained in it."""

    def __init__(self, context: Context, pieces: Pieces) -> None:
        self.context, self.pieces = context, pieces
        self.images: dict[str, Image] = {image.id: image for image in context.images()}

    def train(self, name: str, examples: Sequence[Example], frozen: Sequence[Example]) -> Path:
        """A judge trained from the base on examples, measured and calibrated on frozen ones."""
        folder = self.pieces.folder / name.replace(" ", "-").replace(",", "")
        if (folder / "done").exists():
            return folder / "weights"
        shutil.rmtree(folder, ignore_errors=True)
        ids = {row.first.image_id for row in (*examples, *frozen)}
        told = Taught(
            learned=list(examples),
            frozen=list(frozen),
            opinions=[],
            images={i: self.images[i] for i in ids},
            left_out=Counter(),
        )
        stage = Stage("reward", 0, "", folder)
        fit_judge(self.context, stage, self.context.base(), told, self.context.config.reward.epochs)
        (folder / "done").touch()
        return folder / "weights"

    def judge(self, weights: Path) -> Judge:
        return Judge(str(weights), "judge", self.context.config.cluster.threads)

    def judged(self, judge: Judge, rows: Sequence[Triplet]) -> list[Judgement]:
        """Judgements in the order of the rows; every one must have a finite score."""
        found: list[Judgement] = []
        for low in range(0, len(rows), 256):
            found += judge.judge(list(rows[low : low + 256]), self.context.pixels)
        assert [j.triplet_id for j in found] == [row.id for row in rows]
        return found

    def scores(self, weights: Path, rows: Sequence[Triplet]) -> np.ndarray:
        """(N,) overall scores."""
        return np.array([j.overall for j in self.judged(self.judge(weights), rows)])
