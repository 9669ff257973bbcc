"""GRPO's advantages, as TRL computes them from our rewards in a step of the tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.parsing import render_completion
from engine.config.training import Grpo, PaperReward, PolicyReward, RewardWeights
from engine.prompts import judge_prompt
from engine.records import Triplet
from engine.trainer import watched
from engine.vlm.protocol import Request
from pipelines.training.advantages import quarters, tempered
from pipelines.training.composite_reward import Reward, reward_parts
from pipelines.training.grpo import PINNED, grpo_trainer, train_grpo
from reward_model.scoring import Judge
from reward_model.settings import JudgeSettings
from tests.pictures import PNG
from tests.pipelines.training.test_training import IMAGES, OPTIONS, QUESTION, grpo

pytestmark = pytest.mark.loop

WEIGHTS = RewardWeights(correct=1.0, judge=0.3, format=0.1)
ALL_RIGHT, ALL_WRONG, MIXED = [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]


class Fed:
    """A part of the reward that says what it is told, one group after the other."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.__name__, self.values = name, iter(values)

    def __call__(self, completions: list[Any], **columns: Any) -> list[float]:
        return [next(self.values) for _ in completions]


def advantages(
    folder: Path, right: list[int], judged: list[float], reward: PolicyReward = WEIGHTS
) -> tuple[list[float], dict[str, Any]]:
    """What a GRPO step of whole groups of four makes of parts of the reward, and its log entry."""
    job = grpo(folder).with_section(batch=len(right), steps=1, save_steps=0, reward=reward)
    parts = [
        Fed("correct", [float(r) for r in right]),
        Fed("judge", judged),
        *([Fed("format", [1.0] * len(right))] if "format" in reward.weights else []),
    ]
    trainer = watched(grpo_trainer(job, parts), job)
    trainer.train()
    return list(trainer._logs["advantages"]), trainer.state.log_history[0]


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], dict[str, Any]]:
    """A step of three groups: all right, all wrong, three of four right; the judge wobbles."""
    judged = [0.50, 0.55, 0.5, 0.5, 0.5, 0.55, 0.5, 0.5, 1.0, 0.0, 0.5, 1.0]
    return advantages(tmp_path_factory.mktemp("step"), [*ALL_RIGHT, *ALL_WRONG, *MIXED], judged)


def test_a_group_that_is_all_right_or_all_wrong_has_no_advantage(stepped: Any) -> None:
    """TRL's own scaling makes advantages of 1.5 of the judge's 0.05."""
    assert stepped[0][:8] == [0.0] * 8


def test_the_judge_ranks_the_right_and_turns_none_of_them_against_the_verified_answer(
    stepped: Any,
) -> None:
    """Judge 1.0, 0.0, 0.5 on right answers, 1.0 on the wrong one."""
    best, least, middle, wrong = stepped[0][8:]
    assert best > middle > least > 0 > wrong
    rewards = np.array([0.25 + 0.25 * (0.3 * j + 0.1) for j in (1.0, 0.0, 0.5, 1.0)])
    rewards[3] -= 1.0
    expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    assert stepped[0][8:] == pytest.approx(list(expected), abs=1e-4)


def test_a_step_logs_the_parts_as_they_were_given(stepped: Any) -> None:
    entry = stepped[1]
    assert entry["parts/correct"] == pytest.approx(7 / 12)
    assert entry["parts/format"] == 1.0
    assert entry["mixed"] == pytest.approx(1 / 3)
    assert entry["composite"] == pytest.approx(7 / 12 + 0.3 * entry["parts/judge"] + 0.1, abs=1e-5)


def test_in_the_papers_reward_the_judge_alone_carries_advantage_and_a_wrong_answer_can_win(
    tmp_path: Path,
) -> None:
    """All right, all wrong; and a wrong answer judged 1.0 beside right ones judged 0.7."""
    judged = [0.50, 0.55, 0.5, 0.5, 0.5, 0.55, 0.5, 0.5, 0.7, 0.7, 0.7, 1.0]
    found, entry = advantages(tmp_path, [*ALL_RIGHT, *ALL_WRONG, *MIXED], judged, PaperReward())
    rewards = 0.8 * np.array(judged) + 0.2 * np.array([*ALL_RIGHT, *ALL_WRONG, *MIXED])
    groups = rewards.reshape(3, 4)
    centred = groups - groups.mean(axis=1, keepdims=True)
    expected = centred / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-4)
    assert found == pytest.approx(list(expected.ravel()), abs=1e-4)
    assert found[1] > 1 > 0 > found[0]
    assert rewards[11] == pytest.approx(0.80)
    assert rewards[8] == pytest.approx(0.76)
    assert found[11] > 1 > 0 > found[8]
    assert entry["composite"] == pytest.approx(rewards.mean(), abs=1e-5)


def test_without_a_verified_difference_the_weights_stay_as_they_were(tmp_path: Path) -> None:
    job = grpo(tmp_path).with_section(
        batch=8, steps=2, save_steps=0, kl=0.0, lr=1e-2, reward=WEIGHTS
    )
    rng = np.random.default_rng(0)
    parts = [
        Fed("correct", [*ALL_RIGHT, *ALL_WRONG] * 2),
        Fed("judge", list(rng.random(16))),
        Fed("format", list(rng.integers(0, 2, 16).astype(float))),
    ]
    trainer = watched(grpo_trainer(job, parts), job)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.train()
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())


def test_what_trl_would_choose_by_itself_is_pinned(tmp_path: Path) -> None:
    trainer = grpo_trainer(grpo(tmp_path), [Reward("correct")])
    pinned = PINNED | {
        "loss_type": "dapo", "scale_rewards": "group", "num_iterations": 1,
        "importance_sampling_level": "token", "epsilon": 0.2, "epsilon_high": 0.2,
        "mask_truncated_completions": False,
    }  # fmt: skip
    assert {k: getattr(trainer.args, k) for k in pinned} == pinned
    assert trainer.args.beta == Grpo().kl
    assert trainer.args.reward_weights == [1.0]


@given(
    st.integers(2, 12).flatmap(
        lambda n: st.lists(
            st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1)), min_size=n, max_size=n
        )
    )
)
def test_the_sign_of_an_advantage_is_that_of_the_verified_answer(
    group: list[tuple[bool, float, float]],
) -> None:
    rewards = torch.tensor([[float(r), j, f] for r, j, f in group], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)
    total = tempered(rewards, len(group)) @ weights
    advantage = total - total.mean()
    right = rewards[:, 0] == 1
    if right.all() or not right.any():
        assert not advantage.any()
    else:
        assert (advantage[right] > 0).all()
        assert (advantage[~right] < 0).all()


def test_the_judges_part_is_what_the_judge_says_of_the_completion(tmp_path: Path) -> None:
    """A real judge: each completion's own image and words, as it scores rows of the same words."""
    job = grpo(tmp_path)
    correct, judged, form = reward_parts(WEIGHTS, job.judge, PNG, 1, 40)
    assert [p.__name__ for p in (correct, judged, form)] == ["correct", "judge", "format"]
    paper = reward_parts(PaperReward(), job.judge, PNG, 1, 40)
    assert [p.__name__ for p in paper] == ["correct", "judge"]
    texts = [
        render_completion("", "yes"),
        render_completion("A cyst is seen.", "no"),
        "no form at all",
        render_completion("", "perhaps"),
    ]
    ids = IMAGES[:4]
    columns = {
        "image_id": ids, "question": [QUESTION] * 4, "options": [OPTIONS] * 4, "gold": ["no"] * 4,
    }  # fmt: skip
    said = judged(texts, **columns)
    judge = Judge(job.judge, "x", 1)
    rows = [
        Triplet(
            id=i, image_id=i, generator_id="", task_id="", prompt_hash="", seed=0, sample=0,
            round=1, question=QUESTION, options=OPTIONS, answer=a, rationale=r, raw="", logprob=0.0,
        )
        for i, a, r in ((ids[0], "yes", ""), (ids[1], "no", "A cyst is seen."))
    ]  # fmt: skip
    scores = np.array([j.overall for j in judge.judge(rows, PNG)])
    assert said[:2] == pytest.approx(list(1 / (1 + np.exp(-scores))), abs=1e-4)
    assert said[0] != said[1]
    assert said[2:] == [0.0, 0.0]  # neither has a form to be judged
    assert correct(texts, **columns) == [0.0, 1.0, 0.0, 0.0]
    assert form(texts, **columns) == [1.0, 1.0, 0.0, 0.0]


def test_the_judge_is_asked_in_the_words_that_it_was_trained_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = grpo(tmp_path)
    judged = reward_parts(WEIGHTS, job.judge, PNG, 1, 40)[1]
    asked: list[Any] = []
    scores = Judge.scores

    def listen(judge: Judge, requests: Any, *rest: Any) -> np.ndarray:
        asked.extend(requests)
        return scores(judge, requests, *rest)

    monkeypatch.setattr(Judge, "scores", listen)
    image = IMAGES[3]
    columns = {"image_id": [image], "question": [QUESTION], "options": [OPTIONS], "gold": ["no"]}
    judged([render_completion("Seen.", "yes")], **columns)
    assert [(r.png, r.text) for r in asked] == [
        (PNG[image], judge_prompt("compact", QUESTION, OPTIONS, "Seen.", "yes"))
    ]


def test_the_process_part_is_the_worst_prefix_and_nothing_where_a_step_contradicts(
    tmp_path: Path,
) -> None:
    """A real judge: of each completion the reasoning criterion after each step."""
    job = grpo(tmp_path)
    settings = JudgeSettings.load(Path(job.judge))
    replace(settings, reasoning=(1.5, 0.2)).save(Path(job.judge))
    weights = RewardWeights(judge=0.2, process=0.2)
    parts = reward_parts(weights, job.judge, PNG, 1, 40)
    assert [p.__name__ for p in parts] == ["correct", "judge", "process", "format"]
    process = parts[2]
    assert process.judge is parts[1].judge  # loaded once
    image, steps = IMAGES[0], "It is dark. It is round."
    texts = [
        render_completion(steps, "no"),
        render_completion("It is dark. The answer is yes.", "no"),
        render_completion("", "no"),
        f"{steps} no form",
    ]
    columns = {
        "image_id": [image] * 4, "question": [QUESTION] * 4, "options": [OPTIONS] * 4,
        "gold": ["no"] * 4,
    }  # fmt: skip
    said = process(texts, **columns)
    judge = Judge(job.judge, "x", 1)
    asked = [
        Request(PNG[image], judge_prompt("compact", QUESTION, OPTIONS, part, "no"))
        for part in ("It is dark.", steps)
    ]
    logits = judge.scores(asked)[:, 1]
    assert said[0] == pytest.approx(1 / (1 + np.exp(-(1.5 * logits.min() + 0.2))), abs=1e-4)
    assert said[1:] == [0.0, 0.0, 0.0]
    assert Reward("process", judge=judge, pixels=PNG)(texts, **columns) == pytest.approx(said)


def test_the_process_part_is_tempered_and_logged_as_the_others_are(tmp_path: Path) -> None:
    """Where all answers are right or all are wrong, no reasoning makes an advantage."""
    right = ALL_RIGHT + ALL_WRONG + MIXED
    weights = RewardWeights(judge=0.0, process=0.5)
    job = grpo(tmp_path).with_section(batch=len(right), steps=1, save_steps=0, reward=weights)
    worst = [0.0, 1.0, 0.5, 0.2, 0.9, 0.0, 0.3, 1.0, 1.0, 0.0, 0.5, 1.0]
    parts = [Fed("correct", [float(r) for r in right]), Fed("process", worst)]
    trainer = watched(grpo_trainer(job, parts), job)
    trainer.train()
    told = list(trainer._logs["advantages"])
    assert told[:8] == pytest.approx([0.0] * 8, abs=1e-6)
    assert told[8] > told[10] > told[9] > 0 > told[11]
    assert trainer.state.log_history[0]["parts/process"] == pytest.approx(np.mean(worst))


def test_a_judge_without_weight_is_not_loaded() -> None:
    for reward, expected in (
        (RewardWeights(judge=0.0), ["correct", "format"]),
        (RewardWeights(judge=0.0, length=0.2), ["correct", "format", "length"]),
        (PaperReward().without_judge(), ["correct"]),
    ):
        parts = reward_parts(reward, "nowhere", {}, 1, 40)
        assert [p.__name__ for p in parts] == expected


def test_every_step_is_logged_and_the_quarters_share_none(tmp_path: Path) -> None:
    done = train_grpo(grpo(tmp_path).with_section(save_steps=0))
    assert len(done.rewards) == done.steps == 4
    assert done.reward_first == pytest.approx(done.rewards[0], abs=1e-4)
    assert done.reward == pytest.approx(done.rewards[-1], abs=1e-4)
    assert done.teaching is not None
    assert 0 <= done.teaching <= 1
    assert quarters([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0]) == (1.5, 8.0)
    assert quarters([1.0]) == (None, None)
