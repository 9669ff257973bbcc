"""The paper's ablation in miniature: what filtering, GRPO and a second round are worth.

    python -m benchmarks.loop --seeds 3

For each seed one run of two rounds on phantoms, and beside it the arms that the loop does not
need: SFT on unfiltered rows, on all that were kept in round one and in both rounds, on as many
random rows, and on truth-labelled rows (the ceiling). The loop's own SFT sees a share of the kept
questions and leaves the rest to GRPO. The expert seed is part of every arm but the base. The arms
that the loop does not need take as many optimiser steps as SFT on the filtered rows of their round.
With --judges the judge is also trained in every way that the configuration knows: read from the
yes/no token or from fresh heads, on pairs or on tiers. With --grpo round two's SFT model is also
trained by GRPO in other ways: on true labels, on more questions, with a KL penalty, with LoRA.
Figures are means over seeds with their standard deviation; a seed draws new phantoms, expert rows,
preferences and samples. Ends with one line of JSON. Runs without Ray: it measures learning, not
machinery.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from engine.answers import render_completion
from engine.config import load
from engine.records import Judgement, Model, Preference, Task, Triplet
from engine.statistics import auc
from engine.training import write_training_set
from engine.workspace import Stage
from generators.expert import is_true, truth_of, write_rows
from generators.questions import answer_of
from pipelines.context import Context, opened
from pipelines.evaluate import arm_metrics, examine
from pipelines.expertise import held_out
from pipelines.grpo import divided_rows, fit_policy
from pipelines.loop import ONCE, ROUND, step
from pipelines.reward import fit_judge
from pipelines.select import purity
from pipelines.sft import (
    fresh_triplets,
    kept_triplets,
    seed_triplets,
    train_sft,
    training_arguments,
    turns_of,
)

ARMS = (
    "base",
    "expert seed",
    "unfiltered",
    "random, as many",
    "filtered",
    "filtered, SFT's share",
    "filtered, SFT + GRPO",
    "round two, all",
    "round two, SFT's share",
    "round two, SFT + GRPO",
    "truth-labelled",
)
LOOP = (
    ("filtered, SFT's share", "filtered, SFT + GRPO"),
    ("round two, SFT's share", "round two, SFT + GRPO"),
)
BEFORE_AFTER = (
    ("unfiltered", "filtered"),
    ("random, as many", "filtered"),
    *LOOP,
    ("filtered", "filtered, SFT + GRPO"),
    ("round two, all", "round two, SFT + GRPO"),
    ("filtered", "round two, all"),
    ("filtered, SFT + GRPO", "round two, SFT + GRPO"),
)
SIZES = (
    "source.phantoms={MR: 700, ultrasound: 700}",
    "source.split={train: 0.7, val: 0.06, test: 0.24}",
    "expert.images=60",
    "expert.rows_per_image=5",
    "expert.preference_images=200",
    "expert.pairs=600",
    "generator.tasks=800",
    "generator.samples=5",
    "reward.refine_pairs=150",
    "sft.ask_share=0.5",
    "grpo.lr=3e-5",
    "grpo.share=0.25",
    "grpo.steps=20",
    "evaluate.questions=1000",
)
NEW_QUESTIONS = 2000
ROUND_FIGURES = (
    "purity_before",
    "purity_after",
    "purity_grpo",
    "kept_fraction",
    "judge_auc",
    "judge_pairwise",
    "triplet_auc_judge",
    "triplet_auc_confidence",
    "grpo_on_validation",
)


def truth_labelled(context: Context, rows: list[Triplet]) -> list[Triplet]:
    """Every answerable question of a round once, with its true answer."""
    images = {i.id: i for i in context.images()}
    found: dict[str, Triplet] = {}
    for row in rows:
        truth = truth_of(images[row.image_id])
        gold = answer_of(truth, row.question) if truth and row.problem is None else None
        if gold is not None and (not row.options or gold in row.options):
            told = replace(row, answer=gold, rationale="", raw=render_completion("", gold))
            found.setdefault(row.question_key, told)
    return list(found.values())


def extra_arm(
    context: Context, rows: list[Triplet], folder: Path, turns: int | None = None
) -> tuple[Model, int]:
    """SFT of the base on the seed and `rows`, and how many turns that took; `turns` sets them."""
    config = context.config
    tasks = {t.id: t for t in context.rows(Task)}
    data = turns_of(
        seed_triplets(context) + rows,
        tasks,
        config.generator.prompts,
        config.evaluate.style,
        config.sft.ask_share,
        config.seed,
    )
    pngs = context.pngs()
    write_training_set(folder / "data", {t["image_id"]: pngs[t["image_id"]] for t in data}, data)
    arguments = training_arguments(context, Stage("arm", 1, "", folder), config.sft, context.base())
    turns = turns or len(data)
    arguments["epochs"] = config.sft.epochs * turns / len(data)
    train_sft(arguments)
    model = Model(
        id=folder.name,
        role="sft",
        stage="arm",
        round=1,
        parent_id=None,
        path=str(folder / "weights"),
        metrics="{}",
    )
    return model, turns


def run_seed(
    seed: int, config_file: Path, overrides: list[str], root: Path, judges: bool, grpo: bool
) -> dict[str, Any]:
    """All arms of one seed: {"accuracy": {arm: …}, "rounds": [...], "judge": {...}}."""
    settings = [f"seed={seed}", "cluster.address=inline", "rounds=2", *overrides]
    with opened(load(config_file, settings), root / f"seed{seed}") as context:
        torch.set_num_threads(context.config.cluster.threads)
        for name in ONCE:
            step(context, name)
        questions = held_out(context, "test", context.config.evaluate.questions)

        def score(model: Model, arm: str) -> float:
            rows = examine(context, {arm: (model, questions)}, 1)
            value = float(arm_metrics(rows, context)[arm]["accuracy"])
            print(f"seed {seed}: {arm:24s} {value:.1%}", flush=True)
            return value

        accuracy = {"expert seed": score(context.model("generator"), "expert seed")}
        judged = judge_variants(context, root / f"seed{seed}") if judges else {}
        rounds = [run_round(context, 1)]
        accuracy["base"] = rounds[0]["arms"]["base"]
        parsed = [t for t in context.rows(Triplet, "generate", 1) if t.problem is None]
        kept = kept_triplets(context, 1)
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(parsed), size=len(kept), replace=False)
        random = [parsed[i] for i in sorted(chosen)]
        arms = {
            "filtered": kept,
            "unfiltered": parsed,
            "random, as many": random,
            "truth-labelled": truth_labelled(context, parsed),
        }
        folder, turns = root / f"seed{seed}", None
        for number, (arm, rows) in enumerate(arms.items()):
            model, turns = extra_arm(context, rows, folder / f"arm{number}", turns)
            accuracy[arm] = score(model, arm)
        rounds.append(run_round(context, 2))
        model, _ = extra_arm(context, kept_triplets(context, 2), folder / "arm-both")
        accuracy["round two, all"] = score(model, "round two, all")
        for record, (share, policy) in zip(rounds, LOOP):
            accuracy[share] = record["arms"]["sft"]
            accuracy[policy] = record["arms"]["policy"]
        for record in rounds:
            print(f"seed {seed}: {record}", flush=True)
        commits = {(c["stage"], c["round"]): c["metrics"] for c in context.workspace.commits()}
        share = accuracy["round two, SFT's share"]
        return {
            "seed": seed,
            "accuracy": accuracy,
            "rounds": rounds,
            "judge": commits["reward", 0],
            "judges": judged,
            "grpo": grpo_variants(context, folder, share, score) if grpo else {},
            "purity_of_random": purity(context, random),
            "questions": len(questions),
        }


def judge_variants(context: Context, folder: Path) -> dict[str, dict[str, float]]:
    """AUC and pairwise accuracy on the frozen pairs, by how the judge is read and trained."""
    found = {}
    for readout in ("token", "head"):
        for objective in ("bradley-terry", "tiers"):
            name = f"{readout}, {objective}"
            section = context.config.reward.model_copy(
                update={"readout": readout, "objective": objective}
            )
            config = context.config.model_copy(update={"reward": section})
            stage = Stage("reward", 0, "", folder / name.replace(", ", "-"))
            metrics, _ = fit_judge(
                replace(context, config=config),
                stage,
                context.base(),
                context.rows(Preference, "prefer"),
                section.epochs,
            )
            found[name] = {"auc": metrics["auc"], "pairwise": metrics["pairwise"]}
            print(f"judge, {name}: {found[name]}", flush=True)
    return found


def grpo_variants(
    context: Context, folder: Path, before: float, score: Callable[[Model, str], float]
) -> dict[str, dict[str, Any]]:
    """Gains in [-1, 1] over `before`, round two's SFT model, by what GRPO trains on and how.

    `context` has finished round two; `score` tells a model's accuracy in [0, 1]. True labels tell
    what the judge's mistakes cost; new questions on the training images, truly labelled too, what
    the number of questions does.
    """
    start, judge = context.model("sft"), context.model("judge")
    left = fresh_triplets(context, kept_triplets(context, 2))
    true = truth_labelled(context, left)
    images = context.images("train")
    each = -(-NEW_QUESTIONS // len(images))
    new = [row for i in images for row, _ in write_rows(i, each, ["direct"], 1, False)]
    found: dict[str, dict[str, Any]] = {}
    for name, rows, select, changes in (
        ("true labels", true, True, {}),
        ("KL 0.1, undivided questions too", left, False, {"kl": 0.1}),
        ("LoRA of rank 8", left, True, {"lora_rank": 8, "lr": 5e-4}),
        (f"{NEW_QUESTIONS:,} new questions, true labels", new[:NEW_QUESTIONS], True,
         {"batch": 128, "steps": 100, "lr": 5e-5}),
    ):  # fmt: skip
        section = context.config.grpo.model_copy(update=changes)
        config = context.config.model_copy(update={"grpo": section})
        varied = replace(context, config=config)
        chosen = divided_rows(varied, start, rows, 2) if select else rows
        stage = Stage("grpo", 2, "", folder / f"grpo{len(found)}")
        metrics = fit_policy(varied, stage, start, judge, chosen)
        model = replace(start, id=name, path=str((stage.folder / "weights").resolve()))
        found[name] = {
            "gain": round(score(model, name) - before, 4),
            "questions": len(chosen),
            "purity": purity(context, chosen),
            "reward_first": metrics["reward_first"],
            "reward": metrics["reward"],
        }
        print(f"GRPO, {name}: {found[name]}", flush=True)
    return found


def triplet_auc(context: Context, number: int) -> dict[str, float]:
    """AUC for a generated row being true: of the judge's score, and of the generator's own."""
    images = {i.id: i for i in context.images()}
    judged = {j.triplet_id: j.overall for j in context.rows(Judgement, "judge", number)}
    rows = [t for t in context.rows(Triplet, "generate", number) if t.id in judged]
    true = np.array([bool(is_true(images[t.image_id], t)) for t in rows])
    return {
        "triplet_auc_judge": round(auc(np.array([judged[t.id] for t in rows]), true), 4),
        "triplet_auc_confidence": round(auc(np.array([t.logprob for t in rows]), true), 4),
    }


def run_round(context: Context, number: int) -> dict[str, Any]:
    """One round of the loop; its select and evaluation figures."""
    metrics = {name: step(context, name, number)["metrics"] for name in ROUND}
    select, trained, refine = metrics["select"], metrics["grpo"], metrics["refine"]
    return {
        "purity_before": select["purity_before"],
        "purity_after": select["purity_after"],
        "purity_grpo": trained["purity"],
        "kept_fraction": select["kept_fraction"],
        "judge_auc": refine.get("auc_after"),
        "judge_pairwise": refine.get("pairwise" if refine["accepted"] else "pairwise_before"),
        **triplet_auc(context, number),
        "accepted": refine["accepted"],
        "grpo_fresh": trained["fresh"],
        "grpo_divided": trained["divided"],
        "grpo_reward_first": trained["reward_first"],
        "grpo_reward": trained["reward"],
        "grpo_on_validation": round(trained["validation"] - trained["validation_before"], 4),
        "grpo_accepted": trained["accepted"],
        "arms": {arm: m["accuracy"] for arm, m in metrics["evaluate"]["arms"].items()},
    }


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{100 * np.mean(values):5.1f} ± {100 * deviation:.1f}"


def closed(result: dict[str, Any], arm: str) -> float:
    """Share of the gap from unfiltered to truth-labelled data that an arm closes."""
    accuracy = result["accuracy"]
    gap = accuracy["truth-labelled"] - accuracy["unfiltered"]
    return float((accuracy[arm] - accuracy["unfiltered"]) / gap) if gap else float("nan")


def report(results: list[dict[str, Any]]) -> None:
    """Print the tables and the line of JSON."""
    print(
        f"\nTest accuracy in %, {results[0]['questions']} held-out questions, "
        f"{len(results)} seeds, mean ± standard deviation"
    )
    for arm in ARMS:
        values = [r["accuracy"][arm] for r in results]
        print(f"  {arm:24s} {spread(values)}   " + "  ".join(f"{100 * v:.1f}" for v in values))
    print("\nFrom one arm to another in points, the same seed's")
    for one, other in BEFORE_AFTER:
        gains = [r["accuracy"][other] - r["accuracy"][one] for r in results]
        told = "  ".join(f"{100 * gain:+.1f}" for gain in gains)
        print(f"  {one:22s} -> {other:22s} {spread(gains)}   {told}")
    print("\nGap from unfiltered to truth-labelled closed, in %")
    for arm in ("filtered", "filtered, SFT + GRPO", "round two, all", "round two, SFT + GRPO"):
        print(f"  {arm:24s} {spread([closed(r, arm) for r in results])}")
    print("\nRows and judge, by round")
    for number in (0, 1):
        rows = [r["rounds"][number] for r in results]
        for key in ROUND_FIGURES:
            known = [row[key] for row in rows if row[key] is not None]
            print(f"  round {number + 1} {key:22s} {spread(known)}")
        accepted = sum(row["grpo_accepted"] for row in rows)
        print(f"  round {number + 1} GRPO kept in {accepted} of {len(rows)} seeds")
    for key in ("auc", "pairwise", "confidence_auc"):
        known = [r["judge"][key] for r in results if r["judge"][key] is not None]
        print(f"  first judge, {key:15s} {spread(known)}")
    for name in results[0]["judges"]:
        figures = [r["judges"][name] for r in results]
        area, pairwise = (spread([f[key] for f in figures]) for key in ("auc", "pairwise"))
        print(f"  judge, {name:22s} AUC {area}   pairwise {pairwise}")
    for name in results[0]["grpo"]:
        figures = [r["grpo"][name] for r in results]
        told = "  ".join(f"{100 * f['gain']:+.1f}" for f in figures)
        questions = "  ".join(f"{f['questions']}" for f in figures)
        print(
            f"  GRPO, {name:34s} {spread([f['gain'] for f in figures])}   {told}   "
            f"questions {questions}"
        )
    print(json.dumps({"benchmark": "loop", "results": results}))


def main(
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 3,
    config: Annotated[Path, typer.Option(help="The configuration.")] = Path("configs/demo.yaml"),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value.")] = None,
    jobs: Annotated[int, typer.Option(help="Seeds at a time; each has its share of cores.")] = 2,
    judges: Annotated[bool, typer.Option(help="Train the judge in the other ways too.")] = False,
    grpo: Annotated[bool, typer.Option(help="Train by GRPO in other ways too.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Keep the workspaces here.")] = None,
) -> None:
    """Run every arm for every seed and print the table."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    root = keep or Path(tempfile.mkdtemp(prefix="triptych-loop-"))
    started = time.time()
    threads = max((os.cpu_count() or 1) // jobs, 1)
    sizes = [*SIZES, f"cluster.threads={threads}", *(overrides or [])]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started_seeds = [
            pool.submit(run_seed, s, config, sizes, root, judges, grpo) for s in range(seeds)
        ]
        results = [future.result() for future in started_seeds]
    report(results)
    print(f"{(time.time() - started) / 60:.0f} minutes", flush=True)
    if keep is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    typer.run(main)
