"""Which weights a training changes: all, all but the vision tower's, or LoRA adapters beside them.

A vision-language model is a tower that reads a picture, a projector into the language model's
space (Qwen's `merger`, LLaVA's `multi_modal_projector`), and a language model.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.errors import TriptychError
from engine.training_job import TrainingJob
from engine.vlm.transformers import load_model

PROJECTOR = "merger"  # in the name of a projector that stands inside its tower: Qwen2-VL and later


def load_trained(job: TrainingJob) -> Any:
    """The job's model as it is trained: in its precision, without gradients where it is frozen."""
    return freeze(load_model(job.model, weights_dtype(job), job.section.lora_bits), job)


def weights_dtype(job: TrainingJob) -> str:
    """How weights are loaded to be trained: in float32, or as stored where bf16 adapters learn.

    AdamW on bf16 weights moves few of them at small rates. Under bf16 the arithmetic is bf16 by
    autocast, and adapters are float32 whatever they stand beside.
    """
    return "auto" if job.section.bf16 and job.section.lora_rank else "float32"


def freeze(model: Any, job: TrainingJob) -> Any:
    """`model`, its vision tower without gradients where the job asks for that.

    The projector goes on learning. No gradient is ever asked of what a model is given, as
    transformers does with checkpointing: ours is not reentrant and does not need it, and a tower
    that learns nothing would be computed again and backward for it. Raises TriptychError where no
    tower is found.
    """
    model.enable_input_require_grads = lambda: None
    if job.section.freeze_vision:
        for _, weight in tower_weights(model, job):
            weight.requires_grad_(False)
    return model


def tower_weights(model: Any, job: TrainingJob) -> list[tuple[str, Any]]:
    """(name in the tower, weight) of all of the vision tower but its projector.

    Raises TriptychError where the model has no tower that transformers can name.
    """
    tower = model.get_encoder("image")
    if tower is model or tower is getattr(model, "base_model", None):
        raise TriptychError(
            f"{job.section_name}.freeze_vision: {type(model).__name__} has no vision tower by a "
            f"name that transformers knows: set {job.section_name}.freeze_vision=false"
        )
    return [(name, w) for name, w in tower.named_parameters() if PROJECTOR not in name]


def lora(model: Any, job: TrainingJob) -> Any:
    """The LoRA configuration of a job for `model`, or None where all weights are trained."""
    section = job.section
    if not section.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=section.lora_rank,
        lora_alpha=section.lora_alpha or 2 * section.lora_rank,
        lora_dropout=section.lora_dropout,
        target_modules="all-linear",  # but the output matrix
        exclude_modules=_outside(model) if section.lora_targets == "language" else None,
        task_type="CAUSAL_LM",
    )


def _outside(model: Any) -> str:
    """A regular expression of the names of all modules that are not the language model's."""
    language = model.get_decoder()
    name = next(name for name, module in model.named_modules() if module is language)
    return rf"(?!{re.escape(name)}\.).*"


def adapt(model: Any, job: TrainingJob) -> Any:
    """Put LoRA adapters into `model` (in place) where the job asks for them."""
    config = lora(model, job)
    if config is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, config)


def cast_once(model: Any) -> Any:
    """Let adapters under autocast take their input as it comes, and return the model.

    PEFT casts it to the adapters' float32, and autocast back to bf16: two copies of every input of
    every layer, which change no bit.
    """
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer._cast_input_dtype = _cast_input
    return model


def _cast_input(x: Any, dtype: Any) -> Any:
    """An adapter's input in its `dtype`, but under autocast, which chooses one itself."""
    import torch

    return x if x is None or torch.is_autocast_enabled(x.device.type) else x.to(dtype)


def compile_layers(model: Any) -> Any:
    """Have the model's repeated layers compiled when they are first used, and return it.

    One graph serves all layers of a kind, and batches and lengths of any size. Weights keep their
    names. Generation, whose cache each layer reads at its own place, would compile each by itself.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.compile(dynamic=True)
    return model


def merged(model: Any) -> Any:
    """The model with its LoRA adapters, if it has any, merged into its weights."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def save_trained(model: Any, processor: Any, job: TrainingJob) -> None:
    """Write weights and processor to the job's `out`.

    LoRA adapters are merged, so that a folder is a whole model: into weights as they are stored,
    where they were trained on weights of 4 bits.
    """
    whole = _on_stored(model, job) if job.section.lora_bits else merged(model)
    whole.save_pretrained(job.out)
    processor.save_pretrained(job.out)


def _on_stored(model: Any, job: TrainingJob) -> Any:
    """The job's model with the adapters of `model`, which were trained on another precision."""
    from peft import PeftModel

    with TemporaryDirectory(dir=Path(job.out).parent) as folder:
        model.save_pretrained(folder)
        return merged(PeftModel.from_pretrained(load_model(job.model), folder))
