"""What every training shares: where rows come from, Trainer arguments, how weights are written."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.guards import guard, guarded
from engine.training_job import TrainingJob

if TYPE_CHECKING:
    from datasets import Dataset

WARMUP = 0.1  # of a training's steps, in which the learning rate rises
ROWS = "rows.arrow"  # of a training set: an Arrow stream
CHUNK = 1000  # of its rows, which are read together


def write_training_set(
    folder: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema | None = None
) -> int:
    """Rows that name their picture, `image_id`: a batch reads its own from the workspace.

    Written as they come; returns how many. Without a schema it is that of the first rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left, count = iter(rows), 0
    some = list(islice(left, CHUNK))
    schema = schema or pa.Table.from_pylist(some).schema
    with pa.ipc.new_stream(folder / ROWS, schema) as stream:
        while some:
            stream.write_table(pa.Table.from_pylist(some, schema=schema))
            count += len(some)
            some = list(islice(left, CHUNK))
    return count


def read_training_set(folder: Path) -> Dataset:
    """The rows, which stay on disk until they are asked for."""
    from datasets import Dataset

    return Dataset.from_file(str(folder / ROWS))


def epoch_steps(rows: int, per_step: int) -> int:
    """How many steps go once over `rows` rows."""
    return -(-rows // per_step)


def first_use(rows: int, per_step: int, steps: int | None) -> tuple[int, int | None]:
    """(earliest, latest) step at which a training first saw any one of `rows` rows.

    A shuffled epoch shows each row once, in an order that is not kept: the first step at the
    earliest, the epoch's last at the latest. The latest is None where the training ended before,
    so that a row may never have been seen.
    """
    epoch = epoch_steps(rows, per_step)
    return 1, epoch if steps is not None and steps >= epoch else None


def prepare(seed: int, threads: int) -> None:
    """Seed everything and cap torch's threads, before anything is drawn or loaded."""
    import torch
    from transformers import set_seed

    set_seed(seed)
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)


def arguments_of(job: TrainingJob) -> Any:
    """transformers.TrainingArguments of a job."""
    from transformers import TrainingArguments

    return TrainingArguments(**common_arguments(job))


def common_arguments(job: TrainingJob) -> dict[str, Any]:
    """Keyword arguments that TrainingArguments, SFTConfig and GRPOConfig share."""
    import torch

    section = job.section
    on_gpu = torch.cuda.is_available()
    checkpointing = on_gpu if section.checkpointing is None else section.checkpointing
    return {
        "output_dir": str(job.beside(".checkpoints")),
        "per_device_train_batch_size": section.batch,
        "gradient_accumulation_steps": section.accumulate,
        "num_train_epochs": section.epochs,
        "learning_rate": section.lr,
        "warmup_steps": WARMUP,
        "max_grad_norm": 1.0,
        "seed": job.seed,
        "data_seed": job.seed,
        "bf16": section.bf16 and on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "save_strategy": "steps" if section.save_steps else "no",
        "save_steps": section.save_steps or 500,
        "save_total_limit": 1,
        "logging_steps": 10,
        "logging_nan_inf_filter": False,  # it would log earlier losses in the place of a NaN
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "dataloader_num_workers": section.loaders,
        "dataloader_persistent_workers": section.loaders > 0,
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
    }


def watched(trainer: Any, job: TrainingJob) -> Any:
    """Let a trainer leave its step beside its weights, where `steps_done` reads it, and return it.

    The trainer's own printing is taken off: the driver shows progress. A loss, gradient or weight
    that is not finite ends it: `engine.guards`.
    """
    from transformers import PrinterCallback, TrainerCallback

    path = job.beside(".progress")

    class Steps(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                path.write_text(f"{state.global_step} {state.max_steps}")

    trainer.remove_callback(PrinterCallback)
    trainer.job = job
    trainer.add_callback(guard(job))
    trainer.add_callback(Steps())
    return trainer


def steps_done(job: TrainingJob) -> tuple[int, int] | None:
    """(steps done, all steps) of a training under way; None before its first step."""
    try:
        done, total = job.beside(".progress").read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(done), int(total)


def last_checkpoint(job: TrainingJob) -> str | None:
    """The last whole checkpoint that an interrupted training left, if there is one.

    The first worker's last file is the trainer's state; each worker writes its random state.
    """
    folder = job.beside(".checkpoints")
    whole = [
        path.parent
        for path in folder.glob("checkpoint-*/trainer_state.json")
        if len(list(path.parent.glob("rng_state*.pth"))) >= job.section.workers
    ]
    found = sorted(whole, key=lambda path: int(path.name.partition("-")[2]))
    return str(found[-1]) if found else None


def rate(step: int, warmup: int, steps: int) -> float:
    """The share in [0, 1] of the learning rate at a step counted from 0: linear up, linear down.

    transformers' own begins with a step at 0, so that a training of one step changes nothing.
    """
    return min((step + 1) / max(warmup, 1), max(steps - step, 0) / (steps - warmup + 1))


def resumable(trainer_class: Any) -> Any:
    """A guarded Trainer class whose checkpoints load again: weights under their names in memory.

    transformers writes Qwen2.5-VL's under the Hub's names, which its own resume does not find, so
    that a training goes on from untrained weights; and it refuses tied ones of other modules.
    LoRA adapters are written and found by peft. Its schedule is `rate`.
    """
    from safetensors.torch import save_file

    class Resumable(guarded(trainer_class)):  # type: ignore[misc]
        lr_scheduler: Any

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            from torch.optim.lr_scheduler import LambdaLR

            if self.lr_scheduler is None:
                warmup = self.args.get_warmup_steps(num_training_steps)
                self.lr_scheduler = LambdaLR(
                    optimizer or self.optimizer, lambda step: rate(step, warmup, num_training_steps)
                )
                self._created_lr_scheduler = True
            return self.lr_scheduler

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            if output_dir is None or hasattr(self.model, "peft_config"):
                super().save_model(output_dir, _internal_call)
            elif self.args.should_save:
                weights = self.model.state_dict().items()
                Path(output_dir).mkdir(parents=True, exist_ok=True)
                copies = {name: value.to("cpu", copy=True) for name, value in weights}
                save_file(copies, Path(output_dir) / "model.safetensors")

    return Resumable
