"""What a workspace grows to on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.config import Config
from engine.config.training import Optimiser
from pipelines.training.preflight.memory import MOMENTS, Parts, trained_weights
from pipelines.training.preflight.models import Described
from pipelines.training.preflight.shapes import Shape
from pipelines.training.preflight.sizes import Work

RECORD = 2000  # bytes of a triplet in record and ledger: 1e7 take 20 GB (benchmarks/lineage.py)
TOKEN = 4  # bytes of a token of text


def model_bytes(shape: Shape, section: Optimiser) -> float:
    """Of a trained model as it is written: adapters are merged into weights as they are loaded."""
    return shape.weights * (shape.bytes if section.bf16 and section.lora_rank else 4)


def checkpoint_bytes(shape: Shape, section: Optimiser) -> float:
    """Of a checkpoint: weights that learn (all of them, without adapters) and Adam's moments."""
    trained = trained_weights(shape, section)
    return 4 * (trained if section.lora_rank else shape.weights) + MOMENTS * trained


def disk_of(
    config: Config, models: Mapping[str, Described], works: Sequence[Work], pixels: float
) -> Parts:
    """Bytes by what takes them; `pixels` are those of all pictures, a byte each at most."""
    names = [work.stage for work in works]
    triplets = sum(work.number for work in works if work.what.startswith("triplets, "))
    parts: Parts = {"pictures": pixels} if pixels else {}
    parts["record"] = triplets * (RECORD + 4 * TOKEN * config.generator.max_tokens)
    policy = models["policy"].shape
    parts["policies"] = names.count("sft") * model_bytes(policy, config.sft)
    parts["policies"] += names.count("grpo") * model_bytes(policy, config.grpo)
    if "tune" in names:
        parts["generator"] = model_bytes(policy, config.sft)
    sections: list[tuple[Shape, Optimiser]] = [(policy, config.sft), (policy, config.grpo)]
    if "judge" in models:
        judge = models["judge"].shape
        parts["judges"] = (1 + config.rounds) * model_bytes(judge, config.reward)
        sections.append((judge, config.reward))
    kept = [checkpoint_bytes(shape, section) for shape, section in sections if section.save_steps]
    if kept:
        parts["checkpoints at once"] = 2 * max(kept)  # one goes when the next is there
    return parts
