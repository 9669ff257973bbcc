"""Score triplets with a trained judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.prompts import judge_prompt
from engine.records import Judgement, Triplet, content_id
from engine.vlm.inputs import sift
from engine.vlm.memory import Parts
from engine.vlm.protocol import Request
from reward_model.calibration import probability_with
from reward_model.criteria import CRITERIA


def judge_request(triplet: Triplet, png: bytes, prompts: str) -> Request:
    """What the judge is shown of a triplet."""
    text = judge_prompt(
        prompts, triplet.question, triplet.options, triplet.rationale, triplet.answer
    )
    return Request(png, text)


class Judge:
    """A trained judge in this process."""

    def __init__(self, model: str, judge_id: str, threads: int | None = None) -> None:
        import torch

        from reward_model.model import load_reward_model
        from reward_model.settings import JudgeSettings

        if threads:
            torch.set_num_threads(threads)
        self.id = judge_id
        self.parts = Parts("judge")
        self.settings = JudgeSettings.load(Path(model))
        self.model, self.processor = load_reward_model(model)
        self.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def scores(self, requests: Sequence[Request], batch: int = 64) -> np.ndarray:
        """(N, 3) logits in the order of CRITERIA; NaN for a request that cannot be read.

        At most `batch` requests are read at once, fewer where memory runs out.
        """
        found = self.parts.map(self._scores, requests, batch)
        return np.array(found).reshape(-1, len(CRITERIA))

    def _scores(self, part: Sequence[Request]) -> list[np.ndarray]:
        import torch

        inputs, problems = sift(self.processor, part, self.settings.max_pixels)
        found = np.full((len(part), len(CRITERIA)), np.nan)
        if inputs is not None:
            with torch.no_grad():
                scores = self.model(**inputs.to(self.model.heads.weight.device))
            found[[problem is None for problem in problems]] = scores.float().cpu().numpy()
        return list(found)

    def overall(self, scores: np.ndarray) -> np.ndarray:
        """(N,) weighted mean of the criteria's logits."""
        weights = np.array([self.settings.criteria.get(c, 0.0) for c in CRITERIA])
        return np.asarray(scores @ weights / weights.sum())

    def judge(self, triplets: Sequence[Triplet], pngs: Mapping[str, bytes]) -> list[Judgement]:
        """One judgement a triplet; none for a triplet whose score is not finite."""
        prompts = self.settings.prompts
        scores = self.scores([judge_request(t, pngs[t.image_id], prompts) for t in triplets])
        overall = self.overall(scores)
        logprobs = np.array([np.nan if t.logprob is None else t.logprob for t in triplets])
        fitted = self.settings.calibration, self.settings.with_logprob
        accepted = probability_with(overall, logprobs, *fitted)
        sound = np.isfinite(np.column_stack([scores, overall, accepted])).all(1)
        return [
            Judgement(
                id=content_id("judgement", triplet.id, self.id),
                triplet_id=triplet.id,
                judge_id=self.id,
                **{name: round(float(v), 5) for name, v in zip(CRITERIA, row)},
                overall=round(float(total), 5),
                probability=round(float(p), 5),
            )
            for triplet, row, total, p, known in zip(triplets, scores, overall, accepted, sound)
            if known
        ]
