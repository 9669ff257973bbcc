"""What ends a training with one line: a number that is not finite, or memory that runs out.

A NaN goes on for ever: into the gradient, the weights, and from there into every score; and no
comparison with it is true. transformers logs the mean of earlier losses in its place.
"""

from __future__ import annotations

from typing import Any

from engine.errors import TriptychError
from engine.training_job import TrainingJob


def guarded(trainer_class: Any) -> Any:
    """A Trainer class that raises TriptychError, naming stage and step, at the first such number.

    Its `job` is the training's, which `engine.trainer.watched` gives it.
    """

    class Guarded(trainer_class):
        job: TrainingJob
        accelerator: Any

        def __init__(self, *inputs: Any, **options: Any) -> None:
            super().__init__(*inputs, **options)
            self.losses: list[Any] = []  # of the step under way

        def train(self, *inputs: Any, **options: Any) -> Any:
            try:
                return super().train(*inputs, **options)
            except TriptychError as error:
                raise TriptychError(_own_line(error)) from error
            except (RuntimeError, MemoryError) as error:
                line = _in_words(error, self.job, self.state.global_step + 1)
                if line is None:
                    raise
                raise TriptychError(line) from error

        def training_step(self, *inputs: Any, **options: Any) -> Any:
            loss = super().training_step(*inputs, **options)
            self.losses.append(loss)
            if self.accelerator.sync_gradients:  # a step's last batch: to look is to wait for it
                losses, self.losses = self.losses, []
                require_finite(self.job, self.state.global_step + 1, "loss", losses)
            return loss

    return Guarded


def guard(job: TrainingJob) -> Any:
    """A callback for `guarded` trainers: gradients before each step are finite, weights after."""
    from transformers import TrainerCallback

    class Guard(TrainerCallback):
        def on_pre_optimizer_step(
            self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
        ) -> None:
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            require_finite(job, state.global_step + 1, "gradient", gradients)

        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
        ) -> None:
            trained = [p.detach() for p in model.parameters() if p.requires_grad]
            require_finite(job, state.global_step, "weights", trained)

    return Guard()


def require_finite(job: TrainingJob, step: int, what: str, tensors: list[Any]) -> None:
    """Raise TriptychError, naming stage and step, where a tensor holds NaN or an infinity."""
    import torch

    norm = torch.nn.utils.get_total_norm(tensors, norm_type=float("inf"))  # one number to fetch
    if not torch.isfinite(norm):
        raise TriptychError(_diverged(job, step, f"{what}: {float(norm)}"))


def _diverged(job: TrainingJob, step: int, what: str) -> str:
    return (
        f"{job.stage}: not a finite number at step {step} ({what}), and no "
        f"weights are kept: lower {job.section_name}.lr, which is {job.section.lr}"
    )


def _in_words(error: BaseException, job: TrainingJob, step: int) -> str | None:
    """Of torch's errors for want of memory, for probabilities that are not finite, for a loader."""
    from engine.vlm.memory import ran_out

    if ran_out(error):
        return _no_room(job, step)
    if "probability tensor contains" in str(error):
        return _diverged(job, step, "probabilities")
    if "DataLoader worker" in str(error):
        return (
            f"{job.stage}: a loader died at step {step}, as where memory or /dev/shm runs out: run "
            f"it again with --set {job.section_name}.loaders={job.section.loaders // 2}"
        )
    return None


def _own_line(error: TriptychError) -> str:
    """What was said in a loader, without the traceback that torch tells with it."""
    return str(error).rpartition(f"{TriptychError.__name__}: ")[2].strip()


def _no_room(job: TrainingJob, step: int) -> str:
    section, batch = job.section_name, job.section.batch
    line = f"{job.stage}: out of memory at step {step} with {section}.batch "
    if batch < 2:
        return f"{line}1: use a larger device, {section}.lora_rank, or a smaller max_pixels"
    rest = batch * job.section.accumulate
    smaller = next(n for n in range(batch // 2, 0, -1) if rest % n == 0)
    return (
        f"{line}{batch}: run it again with --set {section}.batch={smaller} --set "
        f"{section}.accumulate={rest // smaller}; their product decides the steps, so the run goes "
        "on where it is"
    )
