"""What a judge knows that words, votes and the generator's confidence do not, and what it costs.

    python -m benchmarks.judge                 # all tables, within 50 minutes; go on by the same
    python -m benchmarks.judge --part phantoms # or vqa-rad, gate

Phantoms (MR and ultrasound, as the demo draws them): the tiny generator, tuned on 300 expert rows,
writes candidates on one set of images, of which a simulated expert gives verdicts and pairs, and
then a round of rows, which nobody judged. On the round's rows of patients from whom no judge
learns:

    blind judge    a regression on the words of question, answer and reasoning, taught the same
    length         of answer and reasoning in characters, the direction found where judges learn
    agreement      the share of the question's samples that answer alike
    confidence     the generator's mean log-probability of the answer
    both           log agreement + log-probability: how rows are chosen without a judge
    judge          trained on verdicts and pairs
    as used        its probability, which is calibrated with the generator's confidence

as AUC of telling rows with the true answer, and rows that an expert accepts (true, and the
reasoning is of this image), with 95 % intervals from resampling patients; the judge against `both`
is paired, alone and as used. Then: what the judge learns from (pairs, verdicts, both), how often a
true row is ranked above one that is made wrong in a way, by readers' errors from 0 to 40 %, by
number of verdicts where these are asked in random order or where the judge is least sure, and what
finds the judge's own mistakes.

The gate: how often a refined judge takes over, by how good it is, on drawn scores.

VQA-RAD, split by patient: the generator answers gold questions, and gold answers tell which answers
are right. Judges learn from swapped gold pairs, from answers to the questions of training patients,
or both. Without `../shared/data/vqa_rad`, or --data, that part is left out with a line.

What was finished stays in --keep. Ends with one line of JSON. Runs without Ray.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.judge_bench import Asked, Bench, figure, heuristics, taught_by
from benchmarks.judge_gate import gate
from benchmarks.judge_unsure import unsure
from benchmarks.judge_vqa_rad import vqa_rad
from benchmarks.loop import OutOfTime, Pieces
from engine.config import load
from engine.lineage.runs import code_id
from engine.records import Item, Triplet, Verdict, content_id
from engine.statistics import auc, auc_difference
from generators.phantoms import bank, composer, reporter
from generators.phantoms.oracle import is_true, reasons_truly, truth_of
from pipelines.context import Context, opened
from pipelines.loop import ONCE, step
from reward_model.blind import blind_scores
from reward_model.criteria import CRITERIA
from reward_model.examples import SAID, Example, examples_of
from reward_model.experts.simulated import SimulatedExpert
from reward_model.patient_sets import is_frozen
from reward_model.preferences import derived
from reward_model.verdicts import Answer, verdict_of

SPLIT = ("source.split={train: 0.9, val: 0.05, test: 0.05}",)
PHANTOMS = (
    "source.phantoms={MR: 450, ultrasound: 450}",
    *SPLIT,
    "expert.images=60",
    "expert.rows_per_image=5",
    "expert.preference_images=400",
    "expert.pairs=600",
    "generator.tasks=600",
    "generator.samples=5",
    "sft.ask_share=0.5",
    "reward.epochs=2",
)
USUAL = 0.05  # of opinions that are wrong
NOISE = (0.0, USUAL, 0.1, 0.2, 0.3, 0.4)
SIZES = (50, 100, 200, 300)  # verdicts of the learning curve
ORDERS = 2  # of it, each with a draw of its own
VERDICTS = 400


class Phantoms(Bench):
    """Candidates on which an expert gives opinions, and a round of rows that nobody judged."""

    def __init__(self, context: Context, pieces: Pieces) -> None:
        super().__init__(context, pieces)
        every = [row for row in context.rows(Triplet, "compare") if row.problem is None]
        self.candidates = [row for row in every if row.generator_id not in _MADE]
        self.round = [row for row in context.rows(Triplet, "generate", 1) if row.problem is None]
        frozen = [row for row in self.round if self.frozen(row)]
        self.asked = self.known(frozen)
        self.accepted = np.array([self.accepts(row) for row in frozen])

    def frozen(self, row: Triplet) -> bool:
        return is_frozen(self.images[row.image_id].group)

    def accepts(self, row: Triplet) -> bool:
        image = self.images[row.image_id]
        return bool(is_true(image, row)) and reasons_truly(image, row)

    def known(self, rows: list[Triplet]) -> Asked:
        kinds = [bank.kind_of(row.question) for row in rows]
        return Asked(
            rows,
            np.array([bool(is_true(self.images[r.image_id], r)) for r in rows]),
            np.array([self.images[r.image_id].group for r in rows]),
            [kind[0] if kind else "other" for kind in kinds],
        )

    def expert(self, noise: float) -> SimulatedExpert:
        section = self.context.config.expert.model_copy(update={"error_rate": noise})
        config = self.context.config
        return SimulatedExpert(
            section, list(config.generator.styles), config.seed, self.images.values()
        )  # type: ignore[arg-type]

    def verdicts(self, rows: Sequence[Triplet], noise: float) -> list[Verdict]:
        """What a reader says of rows who errs at a rate."""
        items = [Item.make(row, None, "random", row.round, n, 1) for n, row in enumerate(rows)]
        known = {row.id: row for row in rows}
        answers: list[Answer] = self.expert(noise).opinions(items, known)
        by_id = {item.id: item for item in items}
        return [verdict_of(a, by_id[a.item_id], known[a.triplet_id]) for a in answers]

    def singles(self, rows: Sequence[Triplet], noise: float) -> list[Example]:
        """Examples of verdicts on rows, with what they imply of the candidates."""
        found, _ = examples_of(self.verdicts(rows, noise), [], self.candidates)
        return found

    def pairs(self, noise: float) -> list[Example]:
        """Examples of the expert's pairs, among candidates and of the seed's rows."""
        expert = self.expert(noise)
        seeds = self.context.rows(Triplet, "seed")
        number = self.context.config.expert.pairs  # type: ignore[union-attr]
        made, pairs = expert.pairs(self.candidates, number, self.context.config.seed)
        more, implied = expert.implied([r for r in seeds if r.generator_id == "expert"])
        rows = [*self.candidates, *made, *more]
        return examples_of([], [*pairs, *implied], rows)[0]

    def order(self, seed: int) -> list[Triplet]:
        """One candidate a question, in random order."""
        rng = np.random.default_rng(seed)
        first: dict[str, Triplet] = {}
        for place in rng.permutation(len(self.candidates)):
            first.setdefault(self.candidates[place].question_key, self.candidates[place])
        return list(first.values())

    def divided(self, examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
        """Examples of patients who teach, and what was said of the others."""
        learned = [e for e in examples if not self.frozen(e.first)]
        return learned, [e for e in examples if self.frozen(e.first) and e.kind == SAID]


_MADE = ("expert", "implied", "perturbed", "incoherent", "irrelevant")


def phantoms(bench: Phantoms, result: dict[str, Any]) -> None:
    """All tables of phantoms, into `result`."""
    made, asked = bench.pieces.made, bench.asked
    result["rows"] = {
        "judged": len(asked.rows),
        "patients": len(set(asked.patients)),
        "true": round(float(asked.right.mean()), 3),
        "accepted": round(float(bench.accepted.mean()), 3),
        "candidates": len(bench.candidates),
    }
    rows = bench.order(0)
    teaching = [row for row in rows if not bench.frozen(row)][:VERDICTS]
    measuring = [row for row in rows if bench.frozen(row)][:VERDICTS]

    def learned(noise: float, pairs: bool, singles: bool) -> tuple[list[Example], list[Example]]:
        told = bench.pairs(noise) if pairs else []
        told += bench.singles(teaching, noise) if singles else []
        frozen = bench.singles(measuring, noise)
        return bench.divided([*told, *frozen])

    def judge(name: str, noise: float, pairs: bool = True, singles: bool = True) -> Path:
        return bench.train(name, *learned(noise, pairs, singles))

    def table() -> dict[str, Any]:
        examples, _ = learned(USUAL, True, True)
        blind = blind_scores(*taught_by(examples), asked.rows)
        known = bench.known(teaching)
        scores = {"blind judge": blind} | heuristics(asked, bench.round, known)
        judged = bench.judged(bench.judge(judge("judge", USUAL)), asked.rows)
        scores["judge"] = np.array([j.overall for j in judged])
        scores["as used"] = np.array([j.probability for j in judged])
        found: dict[str, Any] = {
            name: {"true": figure(s, asked), "accepted": figure(s, asked, bench.accepted)}
            for name, s in scores.items()
        }
        for what, labels in (("true", asked.right), ("accepted", bench.accepted)):
            for name in ("judge", "as used"):
                gain = auc_difference(scores["both"], scores[name], labels, asked.patients, seed=0)
                found[name][what]["above both"] = [round(v, 3) for v in gain]
        return {"table": found, "examples": len(examples)}

    result |= made("table", table)
    result["blind"] = made("blind", lambda: blind_table(bench))
    result["perturbed"] = made("perturbed", lambda: perturbed(bench, judge("judge", USUAL)))

    def mistakes() -> dict[str, Any]:
        trained, examples = bench.judge(judge("judge", USUAL)), learned(USUAL, True, True)[0]
        return unsure(bench, trained, asked, bench.accepted, bench.round, examples)

    result["uncertainty"] = made("uncertainty", mistakes)
    sources = {"pairs": (True, False), "verdicts": (False, True), "judge": (True, True)}
    result["learns from"] = {
        name: made(f"from {name}", lambda n=name, u=use: _told(bench, judge(n, USUAL, *u)))
        for name, use in sources.items()
    }
    result["noise"] = {}
    for noise in NOISE:
        name = "judge" if noise == USUAL else f"noise {noise:.2f}"
        result["noise"][f"{noise:.2f}"] = made(
            name, lambda n=noise, name=name: _told(bench, judge(name, n))
        )

    result["curve"] = {}
    for seed in range(ORDERS):
        for order in ("random", "informative"):
            for number, told in curve(bench, order, seed, measuring):
                result["curve"].setdefault(order, {}).setdefault(str(number), []).append(told)


def _told(bench: Phantoms, weights: Path) -> dict[str, Any]:
    """AUC of a judge's scores on the round's frozen rows."""
    scores = bench.scores(weights, bench.asked.rows)
    return {
        "true": figure(scores, bench.asked),
        "accepted": figure(scores, bench.asked, bench.accepted),
    }


def blind_table(bench: Phantoms) -> dict[str, Any]:
    """What words alone tell of pairs, by kind: compared, swapped, and made up as is not done."""
    drawn = np.random.default_rng(0)
    seeds = [r for r in bench.context.rows(Triplet, "seed") if r.generator_id == "expert"]
    names = dict(zip(CRITERIA, ("swapped answers", "swapped reasoning", "swapped questions")))
    found: dict[str, list[Example]] = defaultdict(list)
    for example in bench.pairs(0.0):
        writer, criterion = example.first.generator_id, next(iter(example.targets))
        if writer == "implied":
            found[names[criterion]].append(example)
        elif criterion == CRITERIA[0]:
            corrected = "the generator's answer, corrected by the expert"
            found[corrected if writer == "expert" else "the generator's answers"].append(example)
    old: dict[str, list[Example]] = defaultdict(list)
    for row in seeds:
        for kind, worse in made_up(bench, row, drawn):
            one = Example(first=row, second=worse, targets={CRITERIA[0]: 1.0}, round=0, sources=())
            old[kind].append(one)
    told = {}
    for name, examples in {**found, **old}.items():
        if len(examples) < 20:
            told[name] = {"pairs": len(examples)}
            continue
        sides = bench.divided(examples)
        learned, frozen = ([r for e in s for r in (e.first, e.second) if r] for s in sides)
        targets = [1.0, 0.0] * len(sides[0])
        seen, unseen = (blind_scores(learned, targets, rows) for rows in (learned, frozen))
        told[name] = {
            "pairs": len(examples),
            "same": round(auc(seen, targets), 3),
            "frozen": round(auc(unseen, [1.0, 0.0] * len(sides[1])), 3),
        }
    return told


def made_up(
    bench: Phantoms, row: Triplet, rng: np.random.Generator
) -> Iterator[tuple[str, Triplet]]:
    """An expert's row made worse in the ways that words tell: by kind."""
    truth, kind = truth_of(bench.images[row.image_id]), bank.kind_of(row.question)
    if truth is None or kind is None:
        return
    qa = bank.QA(kind[0], row.question, row.options, row.answer)
    yield (
        "invented answers",
        derived(row, "perturbed", answer=composer.wrong_answer(truth, qa, rng)),
    )
    words = row.rationale.split()
    if len(words) > 2:
        shuffled = " ".join(words[n] for n in rng.permutation(len(words)))
        yield "shuffled words", derived(row, "incoherent", rationale=shuffled)


def perturbed(bench: Phantoms, weights: Path) -> dict[str, Any]:
    """How often the judge ranks a true row above one made wrong in a way, of frozen patients."""
    rng = np.random.default_rng(1)
    true = [row for row in bench.asked.rows if bench.accepts(row)]
    first: dict[str, Triplet] = {}
    for row in true:
        first.setdefault(row.question_key, row)
    pairs: list[tuple[str, Triplet, Triplet]] = []
    rows = list(first.values())[:400]
    for row in rows:
        truth, kind = truth_of(bench.images[row.image_id]), bank.kind_of(row.question)
        if truth is None or kind is None:
            continue
        qa = bank.QA(kind[0], row.question, row.options, row.answer)
        wrong = composer.wrong_answer(truth, qa, rng)
        bare = replace(row, rationale="", id=content_id("bare", row.id))
        pairs.append((f"answer: {kind[0]}", bare, derived(bare, "perturbed", answer=wrong)))
        if row.rationale:
            other = reporter.describe(reporter.corrupt(truth, rng))
            told = derived(row, "incoherent", rationale=other)
            pairs.append(("reasoning of another finding", row, told))
            shuffled = " ".join(rng.permutation(row.rationale.split()))
            pairs.append(
                ("reasoning shuffled", row, derived(row, "incoherent", rationale=shuffled))
            )
        far = rows[rng.integers(len(rows))]
        if not is_true(bench.images[row.image_id], far):
            put = derived(
                bare, "irrelevant", question=far.question, options=far.options, answer=far.answer
            )
            pairs.append(("question and answer of another image", bare, put))
    judge = bench.judge(weights)
    better = bench.judged(judge, [row for _, row, _ in pairs])
    worse = bench.judged(judge, [row for _, _, row in pairs])
    found: dict[str, Any] = {}
    for way in sorted({p[0] for p in pairs}):
        ahead = [b.overall > w.overall for p, b, w in zip(pairs, better, worse) if p[0] == way]
        found[way] = {"pairs": len(ahead), "found": round(float(np.mean(ahead)), 3)}
    return found


def curve(
    bench: Phantoms, order: str, seed: int, measuring: Sequence[Triplet]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """AUC by number of verdicts, asked in random order or where the judge is least sure.

    Both begin with the same random ones; each judge is trained from the base on all verdicts so
    far, without what they imply, so that a verdict counts the same in both orders.
    """
    pool = [row for row in bench.order(seed + 1) if not bench.frozen(row)]
    frozen = [e for e in bench.singles(measuring, USUAL) if e.kind == SAID]
    asked = pool[: SIZES[0]]
    for number in SIZES:
        name = f"{order} {seed} {number}"
        if number > len(asked):
            known = {row.id for row in asked}
            left = [row for row in pool if row.id not in known]
            if order == "informative":
                weights = bench.train(f"{order} {seed} {len(asked)}", *said(bench, asked, frozen))
                found = bench.judged(bench.judge(weights), left)
                left = [
                    r
                    for _, r in sorted(
                        zip((abs(j.probability - 0.5) for j in found), left), key=lambda p: p[0]
                    )
                ]
            asked = asked + left[: number - len(asked)]
        if len(asked) < number:
            return
        some = list(asked)
        told = bench.pieces.made(
            name,
            lambda name=name, some=some: _told(
                bench, bench.train(name, *said(bench, some, frozen))
            ),
        )
        yield number, told


def said(
    bench: Phantoms, rows: Sequence[Triplet], frozen: list[Example]
) -> tuple[list[Example], list[Example]]:
    return [e for e in bench.singles(rows, USUAL) if e.kind == SAID], frozen


# All of it


@contextmanager
def workspace(
    name: str, config: Path, settings: Sequence[str], root: Path, deadline: float, rounds: bool
) -> Iterator[tuple[Context, Pieces]]:
    """A workspace in which everything before the first judge was done, and a round generated."""
    import torch

    pieces = Pieces(root / f"{name}-pieces", 0, deadline)
    values = ["cluster.address=inline", "rounds=1", *settings]
    with opened(load(config, values), root / name) as context:
        torch.set_num_threads(context.config.cluster.threads)
        for stage in ONCE:
            if rounds or stage not in ("reward", "consult", "collect"):
                pieces.check()
                step(context, stage)
        for stage in ("plan", "generate") if rounds else ():
            pieces.check()
            step(context, stage, 1)
        yield context, pieces


def show(result: dict[str, Any]) -> None:
    """Tables in Markdown."""
    for name, told in result.get("gate", {}).items():
        print(f"| {name} | {told['takes over']} | {told['better']} |")
    for part in ("phantoms", "vqa-rad"):
        found = result.get(part, {})
        print(f"\n## {part}\n\n{json.dumps(found.get('rows', {}))}\n")
        for name, told in found.get("table", {}).items():
            for what in ("true", "accepted") if "true" in told else ("",):
                mine = told[what] if what else told
                interval = f"{mine['auc']} [{mine['low']}, {mine['high']}]"
                print(f"| {name} | {what} | {interval} | {mine['by_kind']} |")
        for key in (
            "blind",
            "perturbed",
            "learns from",
            "noise",
            "uncertainty",
            "curve",
            "swapped",
            "frozen swapped pairs",
        ):
            if key in found:
                print(f"\n{key}: {json.dumps(found[key])}")


def main(
    part: Annotated[list[str] | None, typer.Option(help="gate, vqa-rad, phantoms.")] = None,
    data: Annotated[Path, typer.Option(help="VQA-RAD's folder.")] = Path("../shared/data/vqa_rad"),
    minutes: Annotated[float, typer.Option(help="Begin nothing after so many.")] = 45,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value.")] = None,
    keep: Annotated[Path, typer.Option(help="Where pieces are kept.")] = Path("runs/judge"),
) -> None:
    """Train judges, measure them, and print the tables."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    started = time.time()
    parts = part or ["gate", "phantoms", "vqa-rad"]
    own = Path(__file__).read_text()
    root = keep / content_id(PHANTOMS, overrides or [], code_id(), own)[:12]
    print(f"pieces are kept in {root}", flush=True)
    result: dict[str, Any] = {"benchmark": "judge", "complete": True}
    deadline = started + 60 * minutes
    for name in parts:
        found = result[name] = {}
        try:
            if name == "gate":
                found |= gate()
            elif name == "vqa-rad":
                if not data.is_dir():
                    print(f"{data} is not there: VQA-RAD is left out", flush=True)
                    continue
                settings = [f"source.path={data}", *SPLIT, *(overrides or [])]
                config = Path("configs/vqa-rad.yaml")
                with workspace(name, config, settings, root, deadline, False) as (context, pieces):
                    vqa_rad(Bench(context, pieces), found)
            else:
                settings = [*PHANTOMS, *(overrides or [])]
                config = Path("configs/demo.yaml")
                with workspace(name, config, settings, root, deadline, True) as (context, pieces):
                    phantoms(Phantoms(context, pieces), found)
        except OutOfTime:
            result["complete"] = False
    result["minutes"] = round((time.time() - started) / 60, 1)
    show(result)
    if not result["complete"]:
        print(f"\nOut of time after {result['minutes']} minutes: the same command goes on.")
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
