"""The tiny judge learns from 64 pairs or as many verdicts what holds on other images.

The pairs are of ultrasound phantoms, half of them with a cyst: "Is there a cyst?" with the true
answer chosen and the other one rejected. The question is the same for all, so words alone give an
AUC of 0.5. Heads that start as the difference of "yes" and "no" would pass untrained (a test says
so); these start at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.config.reward import Reward
from engine.records import Triplet
from engine.trainer import prepare
from engine.vlm import tiny
from generators.phantoms.oracle import is_true
from reward_model.criteria import CRITERIA
from reward_model.examples import SAID, examples_of
from reward_model.measure import Measurement, measure, scored
from reward_model.model import load_reward_model
from reward_model.preferences import derived, preference
from reward_model.rows import write_examples
from reward_model.scoring import Judge
from reward_model.settings import HEADS, JudgeSettings
from reward_model.training import JudgeJob, JudgeResult, train_and_measure, train_judge
from tests.drawn_workspace import answered, drawn
from tests.opinions import verdict
from tests.pictures import PNG, workspace_of
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

QUESTION = "Is there a cyst?"
MAX_PIXELS = 2**20
SETTINGS = JudgeSettings(criteria={"factuality": 1.0}, prompts="compact", max_pixels=MAX_PIXELS)
SEED = 1  # of heads that start near chance: the backbone knows the answer, and others read it


@dataclass(frozen=True)
class Bench:
    """Pairs of training images and of others, and a judge as every training here starts from."""

    folder: Path
    before: Measurement

    def job(self, out: Path, data: str, **more: Any) -> JudgeJob:
        section = Reward(batch=16, epochs=3, lr=5e-4, readout="head")
        job = job_in(
            out, section, JudgeJob, data=self.folder / data, seed=SEED, max_pixels=MAX_PIXELS,
            workspace=self.folder / "workspace", holdout=self.folder / "others", settings=SETTINGS,
        )  # fmt: skip
        return job.with_section(**more)

    def trained(self, out: Path, data: str, **more: Any) -> JudgeResult:
        """What training on a set of pairs comes to; the figure before it is told beside it."""
        found = train_and_measure(self.job(out, data, **more))
        assert found is not None
        print(f"AUC on 64 other images: {self.before.report.auc}, then {found.after.report.auc}")
        return found


def write_opinions(
    folder: Path,
    numbers: range,
    criterion: str = "factuality",
    swapped: bool = False,
    singly: bool = False,
) -> None:
    """What was said as the product writes it: a pair an image, the true answer chosen unless
    swapped; or `singly`, every second image's true answer accepted and the others' false one not.
    """
    images = [drawn("ultrasound", n, ("cyst", "none")[n % 2]) for n in numbers]
    rows: dict[str, Triplet] = {}
    pairs, verdicts = [], []
    for number, image in enumerate(images):
        yes = answered(image, QUESTION, "yes")
        no = derived(yes, "perturbed", answer="no")
        right, wrong = (yes, no) if is_true(image, yes) else (no, yes)
        chosen, rejected = (wrong, right) if swapped else (right, wrong)
        pairs.append(preference(chosen, rejected, criterion, "perturbed", "simulated", False))
        rows |= {yes.id: yes, no.id: no}
        said = "accept" if number // 2 % 2 else "reject"
        verdicts.append(verdict(right if said == "accept" else wrong, said))
    workspace_of(folder.parent / "workspace", [image.id for image in images])
    told, _ = examples_of(verdicts if singly else [], [] if singly else pairs, rows.values())
    some = [example for example in told if example.kind == SAID]
    write_examples(folder, some, {i.id: f"patient {i.id}" for i in images}, "compact")


def untrained(folder: Path, readout: str) -> Judge:
    """A judge as `train_judge` makes one before its first step."""
    prepare(SEED, threads=1)
    model, processor = load_reward_model(str(tiny.FOLDER), readout, "float32")
    model.save(folder, SETTINGS)
    processor.save_pretrained(folder)
    return Judge(str(folder), "untrained", 1)


def of_others(judge: Judge, folder: Path) -> Measurement:
    return measure(scored(judge, folder / "others", PNG))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("pairs")
    write_opinions(folder / "pairs", range(64))
    write_opinions(folder / "swapped", range(64), swapped=True)
    write_opinions(folder / "verdicts", range(64), singly=True)
    write_opinions(folder / "relevance", range(4), criterion="relevance")
    write_opinions(folder / "others", range(1000, 1064))
    return Bench(folder, of_others(untrained(folder / "start", "head"), folder))


def test_fresh_heads_know_nothing_and_the_words_yes_and_no_do(bench: Bench, tmp_path: Path) -> None:
    assert 0.3 < bench.before.report.auc < 0.7
    assert of_others(untrained(tmp_path / "token", "token"), bench.folder).report.auc > 0.8


@pytest.mark.parametrize(
    ("data", "objective"),
    [("pairs", "bradley-terry"), ("pairs", "tiers"), ("verdicts", "bradley-terry")],
)
def test_64_images_teach_a_judge_what_holds_on_others(
    bench: Bench, tmp_path: Path, data: str, objective: str
) -> None:
    found = bench.trained(tmp_path, data, objective=objective)
    assert found.training.steps == 12
    assert found.before is None
    assert found.after.report.auc > 0.8 > bench.before.report.auc
    assert found.after.pairwise > 0.8
    settings = JudgeSettings.load(tmp_path / "weights")
    assert settings == replace(SETTINGS, calibration=found.after.calibration) != SETTINGS


def test_swapped_pairs_teach_the_opposite(bench: Bench, tmp_path: Path) -> None:
    found = bench.trained(tmp_path, "swapped")
    assert found.after.report.auc < 0.2 < bench.before.report.auc
    assert found.after.pairwise < 0.2


def test_a_pair_trains_the_head_of_its_own_criterion(bench: Bench, tmp_path: Path) -> None:
    train_judge(bench.job(tmp_path, "relevance", batch=4))
    before, after = (
        load_file(folder / HEADS)["weight"]
        for folder in (bench.folder / "start", tmp_path / "weights")
    )
    moved = {name for name, a, b in zip(CRITERIA, before, after) if not torch.equal(a, b)}
    assert moved == {"relevance"}
