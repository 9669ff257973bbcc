"""Whether a policy learns more from several reasonings of an answer: `select.rationales`.

    python -m benchmarks.rationales runs/seed0 runs/seed1 runs/seed2

Of each finished run the rows of round one are decided again, from what is recorded, with one
reasoning of a kept answer and with up to --most. Two policies are trained from the base, on the
expert's rows and on one of the two sets, and shown the same (`benchmarks.arms`): as many steps, the
expert's turns as often, and as many turns of their own as it takes to see the larger set as often
as SFT does. So one has seen fewer reasonings more often. Both answer the run's test questions: the
difference in accuracy is paired, with its 95 % interval from resampling patients. Near-duplicates,
contamination and balance are left out, in both alike.

Ends with one line of JSON. Runs without Ray.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import arms
from engine.caveats import at_chance
from engine.reasons import FURTHER
from engine.records import Judgement, Task, Triplet
from engine.statistics import cluster_bootstrap
from pipelines.context import Context, config_of, opened
from pipelines.examine import examine
from pipelines.record import held_out, images_of, judge_metrics
from pipelines.training.sft import Turn, turns_of
from reward_model.process import least_logit
from reward_model.threshold import decide


class Budget(arms.Budget):
    """As every arm has it; of further rows the reasoning alone is taught, as in the loop."""

    def __init__(self, context: Context, rows: list[Triplet], further: set[str]) -> None:
        self.further = further
        super().__init__(context, rows)

    def turns(self, rows: Any) -> list[Turn]:
        config, tasks = self.context.config, {t.id: t for t in self.context.rows(Task)}
        words, style = config.generator.prompts, config.evaluate.style
        return list(turns_of(rows, tasks, words, style, 0.0, config.seed, self.further))


def kept(context: Context, rationales: int) -> tuple[list[Triplet], set[str]]:
    """The rows of round one that are kept with so many reasonings, and which are further ones."""
    rows: list[Triplet] = context.rows(Triplet, "generate", 1)
    judged = {j.triplet_id: j for j in context.rows(Judgement, "judge", 1)}
    judge = judge_metrics(context, {j.judge_id for j in judged.values()})
    rules = context.config.select.model_copy(update={"rationales": rationales})
    sound = least_logit(rules.reasoning, judge.get("reasoning"))
    decided = decide(rows, judged, rules, 1, (), not at_chance(judge), sound)
    stay = {d.triplet_id for d in decided if d.keep}
    further = {d.triplet_id for d in decided if d.reason == FURTHER}
    return [row for row in rows if row.id in stay], further


def of_run(root: Path, most: int) -> dict[str, Any]:
    """Both policies of a run: what they were shown, their accuracies and the difference."""
    config = config_of(root, ["cluster.address=inline"])
    with opened(config, root) as context, TemporaryDirectory() as scratch:
        (one, _), (several, further) = kept(context, 1), kept(context, most)
        budget = Budget(context, several, further)
        questions = held_out(context, "test", config.evaluate.questions)
        told: dict[str, Any] = {"run": root.name, "further": len(further)}
        right: dict[str, np.ndarray] = {}
        for name, rows in (("one", one), ("several", several)):
            trained = arms.sft_arm(budget, rows, Path(scratch) / name)
            replies = Path(scratch) / f"{name}-replies"
            answers = examine(context, {name: (trained.model, questions)}, 1, replies)
            right[name] = np.array([answer.correct for answer in answers], float)
            told[name] = {"accuracy": round(float(right[name].mean()), 4)} | trained.shown()
        images = images_of(context, [row.image_id for row, _ in questions])
        gains = right["several"] - right["one"]
        patients = [images[row.image_id].group for row, _ in questions]
        low, high = cluster_bootstrap(gains, patients, seed=0)
        gain = {"gain": gains.mean(), "low": low, "high": high}
        return told | {name: round(float(value), 4) for name, value in gain.items()}


def main(
    runs: Annotated[list[Path], typer.Argument(help="Workspaces of finished runs.")],
    most: Annotated[int, typer.Option(help="Reasonings of an answer.", min=2)] = 4,
) -> None:
    """Print a line a run, then all as JSON."""
    found = [of_run(root, most) for root in runs]
    for run in found:
        print(
            f"| {run['run']} | {run['one']['rows']} + {run['further']} rows | "
            f"{run['one']['accuracy']:.1%} → {run['several']['accuracy']:.1%} | "
            f"{100 * run['gain']:+.1f} ({100 * run['low']:+.1f} to {100 * run['high']:+.1f}) |"
        )
    print(json.dumps({"benchmark": "rationales", "most": most, "runs": found}))


if __name__ == "__main__":
    typer.run(main)
