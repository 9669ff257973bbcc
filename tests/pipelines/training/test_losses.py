"""GRPO's losses by name: what TRL is told of each, and what it makes of a real batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.config.training import Grpo
from engine.trainer import watched
from pipelines.grpo import used_by
from pipelines.training.grpo import LOSSES, grpo_trainer, loss_settings
from tests.pipelines.training.test_advantages import ALL_RIGHT, MIXED, WEIGHTS, Fed
from tests.pipelines.training.test_training import grpo

pytestmark = pytest.mark.loop

RIGHT = [*MIXED, *MIXED]
Ran = tuple[Any, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By loss: a trainer after two steps on the same completions, and the batch of the first."""

    @cache
    def train(loss: str) -> Ran:
        job = grpo(tmp_path_factory.mktemp(loss)).with_section(
            loss=loss, iterations=2, steps=2, save_steps=0, kl=0.0, lr=1e-3, reward=WEIGHTS
        )
        judged = np.linspace(0, 1, 8).tolist()
        parts = [Fed("correct", RIGHT), Fed("judge", judged), Fed("format", [1.0] * 8)]
        trainer = watched(grpo_trainer(job, parts), job)
        batches: list[Any] = []
        inner = trainer._compute_loss
        trainer._compute_loss = lambda model, inputs: batches.append(inputs) or inner(model, inputs)
        trainer.train()
        trainer._compute_loss = inner
        return trainer, batches[0]

    return train


def published(loss: str, logps: Any, old: Any, mask: Any, advantages: Any, length: int) -> float:
    """A loss as its paper has it, without KL; (N, T) of tokens, (N,) of advantages."""
    low, high = (3e-4, 4e-4) if loss == "gspo" else (0.2, 0.2)
    tokens = mask.sum(1)
    ratio = torch.exp(logps - old)
    if loss == "gspo":
        ratio = torch.exp(((logps - old) * mask).sum(1) / tokens)[:, None].expand_as(logps)
    gain = torch.minimum(
        ratio * advantages[:, None], ratio.clamp(1 - low, 1 + high) * advantages[:, None]
    )
    sums = (gain * mask).sum(1)
    mean = {
        "grpo": (sums / tokens).mean(),
        "gspo": (sums / tokens).mean(),
        "dapo": sums.sum() / tokens.sum(),
        "dr_grpo": sums.sum() / (len(sums) * length),
    }
    return float(-mean[loss])


def on_one_batch(loss: str, ran: Any) -> tuple[float, float]:
    """TRL's loss of a batch whose completions are older by some noise, and the published one."""
    trainer, inputs = ran(loss)
    seen: list[Any] = []
    inner = trainer._get_per_token_logps_and_entropies

    def listen(*inputs: Any, **more: Any) -> Any:
        seen.append(inner(*inputs, **more))
        return seen[-1]

    mask = inputs["completion_mask"]
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    trainer._get_per_token_logps_and_entropies = listen
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    with torch.no_grad():
        trainer._compute_loss(trainer.model, inputs)
        logps = seen[0][0]
        batch = inputs | {
            "old_per_token_logps": logps + noise,
            "advantages": torch.linspace(-1.5, 1.0, len(mask)),
        }
        found = float(trainer._compute_loss(trainer.model, batch))
    trainer._get_per_token_logps_and_entropies = inner
    old, advantages = batch["old_per_token_logps"], batch["advantages"]
    return found, published(loss, logps, old, mask, advantages, trainer.args.max_completion_length)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_trains_and_is_the_published_one(loss: str, ran: Any) -> None:
    trainer, inputs = ran(loss)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert inputs["advantages"].abs().max() > 0
    found, expected = on_one_batch(loss, ran)
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_losses_of_one_batch_differ(ran: Any) -> None:
    """Completions of different lengths, tokens of different ratios: four sums, four losses."""
    batches = [ran(loss)[1] for loss in LOSSES]
    assert all(torch.equal(batches[0]["completion_ids"], b["completion_ids"]) for b in batches)
    lengths = batches[0]["completion_mask"].sum(1)
    assert lengths.min() < lengths.max()
    found = sorted(on_one_batch(loss, ran)[0] for loss in LOSSES)
    assert min(np.diff(found)) > 1e-3


def test_dr_grpo_divides_by_no_deviation(ran: Any) -> None:
    """A group of three right and one wrong, the judge's part times the minority's share."""
    judged = np.linspace(0, 1, 8)[:4]
    rewards = np.array([1.0, 1.0, 1.0, 0.0]) + 0.25 * (0.3 * judged + 0.1)
    centred = rewards - rewards.mean()
    assert list(ran("dr_grpo")[0]._logs["advantages"])[:4] == pytest.approx(list(centred), abs=1e-5)
    scaled = centred / (centred.std(ddof=1) + 1e-4)
    assert list(ran("grpo")[0]._logs["advantages"])[:4] == pytest.approx(list(scaled), abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_reaches_trl(loss: str, ran: Any) -> None:
    args = ran(loss)[0].args
    assert {name: getattr(args, name) for name in LOSSES[loss]} == LOSSES[loss]
    assert (args.num_iterations, args.mask_truncated_completions) == (2, False)


def test_settings_given_beside_a_loss_reach_trl(tmp_path: Path) -> None:
    section = {"clip_low": 0.1, "clip_high": 0.28, "scale": "batch", "mask_truncated": True}
    job = grpo(tmp_path).with_section(**section, iterations=4)
    args = grpo_trainer(job, [Fed("correct", [])]).args
    assert (args.epsilon, args.epsilon_high, args.scale_rewards) == (0.1, 0.28, "batch")
    assert (args.mask_truncated_completions, args.num_iterations) == (True, 4)


def test_truncated_completions_can_be_left_out_of_the_loss(tmp_path: Path) -> None:
    """Cut off after two tokens all are, and then no weight moves."""
    for masked in (True, False):
        job = grpo(tmp_path / str(masked)).with_section(
            max_tokens=2, steps=1, save_steps=0, kl=0.0, mask_truncated=masked, reward=WEIGHTS
        )
        right = [float(r) for r in [*MIXED, *ALL_RIGHT]]
        parts = [Fed("correct", right), Fed("judge", [0.5] * 8), Fed("format", [1.0] * 8)]
        trainer = watched(grpo_trainer(job, parts), job)
        before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        trainer.train()
        assert trainer.state.log_history[0]["completions/clipped_ratio"] == 1.0
        after = trainer.model.state_dict()
        assert all(torch.equal(v, after[k]) for k, v in before.items()) == masked


def test_a_configuration_without_settings_is_dapo_as_pinned() -> None:
    assert loss_settings(Grpo()) == {
        "loss_type": "dapo", "scale_rewards": "group", "importance_sampling_level": "token",
        "epsilon": 0.2, "epsilon_high": 0.2, "mask_truncated_completions": False,
        "num_iterations": 1,
    }  # fmt: skip


def test_questions_are_seen_every_so_many_steps_as_completions_are_drawn() -> None:
    """Ten questions, four a draw: drawn three times, at steps 1, 2, 3 or at 1, 4, 7."""
    once = Grpo(batch=32, group=8)
    thrice = once.model_copy(update={"iterations": 3})
    assert used_by(once, 10, 3) == (1, 3)
    assert used_by(thrice, 10, 7) == (1, 7)
    assert used_by(thrice, 10, 6) == (1, None)
    assert thrice.model_copy(update={"steps": 7}).draws == 3
