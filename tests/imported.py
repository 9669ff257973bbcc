"""What commands import while they run, imported: see `tests/forked.py`."""

from importlib import import_module

from pipelines import loop
from pipelines.training.grpo import grpo_classes

__all__ = ["loop"]

grpo_classes()
for name in (
    "pipelines.cli",
    "pipelines.commands.run",
    "pipelines.report.page",
    "engine.hub.export",
    "engine.vlm.transformers",
    "reward_model.model",
    "transformers",
    "trl.trainer.sft_trainer",
    "datasets",
    "pydicom",
):
    import_module(name)
