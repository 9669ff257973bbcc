"""GRPO's advantages: a group teaches only where its completions differ in the verified answer.

TRL's advantage of a completion is its reward less its group's mean, over the group's deviation
(GRPO, arXiv 2402.03300). In a group that is all right or all wrong the deviation is the judge's
alone, so that a wobble of 0.05 becomes an advantage of 1. Here what is not verified counts by the
minority share m = min(p, 1 - p), p the share of the group that is right:

    r = correct·right + m·(judge·sigmoid(score) + process·worst step + format·formed + length·short)

With correct above the others' sum, which the configuration demands, a right completion's advantage
is above zero, a wrong one's below, and where p is 0 or 1 each is exactly zero.

MedGR2's reward (`grpo.reward: paper`) is left as TRL has it: there the judge alone carries
advantage in a group that is all right or all wrong, and can carry it against the right answer.
"""

from __future__ import annotations

from typing import Any

VERIFIED = "correct"  # the first reward function's name


def tempered(rewards: Any, group: int) -> Any:
    """Parts of the reward, such that their weighted sum gives the advantages above.

    `rewards` is a tensor (N, K) of whole groups one after the other, all processes' together: in
    column 0 whether the answer is right (0 or 1), in the others what is not verified. Returns a
    tensor of the same shape: column 0 less its group's mean, which no advantage notices and which
    makes a group without a difference exactly zero, the others times m.
    """
    import torch

    right = rewards[:, 0].view(-1, group)
    share = right.mean(dim=1, keepdim=True)
    minority = torch.minimum(share, 1 - share).expand_as(right).reshape(-1, 1)
    return torch.cat([(right - share).reshape(-1, 1), rewards[:, 1:] * minority], dim=1)


def verified(trainer_class: Any, temper: bool = True) -> Any:
    """A GRPOTrainer class with these advantages; its first reward function says what is right.

    Without `temper` the advantages are TRL's own, and only more is logged.

    It steps in where TRL has gathered the rewards of all processes, since a group may be spread
    over several. What TRL logs as `reward` is the tempered one; `composite`, `parts/…` and
    `mixed` (the share of groups that teach) are logged as they were given.
    """

    class Verified(trainer_class):
        def _calculate_rewards(self, *arguments: Any, **more: Any) -> Any:
            rewards = super()._calculate_rewards(*arguments, **more)
            mode = "train" if self.model.training else "eval"
            group = self.num_generations if mode == "train" else self.num_generations_eval
            right = rewards[:, 0].view(-1, group)
            for name, column in zip(self.reward_func_names, rewards.T):
                self._log_metric(f"parts/{name}", column.mean().item())
            total = rewards @ self.reward_weights.to(rewards.device)
            self._log_metric("composite", total.mean().item())
            mixed = right.amin(dim=1) != right.amax(dim=1)
            self._log_metric("mixed", mixed.float().mean().item())
            return tempered(rewards, group) if temper else rewards

    return Verified


def quarters(values: list[float]) -> tuple[float | None, float | None]:
    """Means of the first and of the last quarter of a training's steps, at least one step each.

    The two never share a step: (None, None) for fewer than two.
    """
    if len(values) < 2:
        return None, None
    n = max(len(values) // 4, 1)
    return round(sum(values[:n]) / n, 4), round(sum(values[-n:]) / n, 4)
