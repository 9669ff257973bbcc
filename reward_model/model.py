"""The judge: a VLM backbone and three scalar heads read at the place where it would say yes or no.

With readout `token` each head starts as the difference of the output embeddings of "yes" and "no",
so that an untrained judge is exactly the generative verifier of arXiv 2408.15240 and its score is
the log-odds of "yes". With readout `head` the heads start at random (MedGR2's scalar head).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from engine.vlm.transformers import load_model, load_processor
from reward_model.criteria import CRITERIA
from reward_model.settings import HEADS, JudgeSettings


class RewardModel(nn.Module):
    """(B, 3) logits for factuality, reasoning and relevance of a batch of judge prompts."""

    def __init__(self, backbone: Any, heads: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads

    def forward(self, **inputs: Any) -> torch.Tensor:
        """Left-padded inputs of `engine.vlm.inputs.encode`; the last place is read."""
        hidden = self.backbone.model(**inputs)[0]
        return self.heads(hidden[:, -1].to(self.heads.weight.dtype))

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """As `Trainer` calls it, of the backbone."""
        self.backbone.gradient_checkpointing_enable(**options)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether the backbone computes activations again."""
        return bool(self.backbone.is_gradient_checkpointing)

    def save(self, folder: Path, settings: JudgeSettings) -> None:
        """Write backbone, heads and settings; the folder is a model for `folder_id` too."""
        self.backbone.save_pretrained(folder)
        heads = {"weight": self.heads.weight.detach(), "bias": self.heads.bias.detach()}
        save_file({k: v.contiguous() for k, v in heads.items()}, folder / HEADS)
        settings.save(folder)


def _token_heads(backbone: Any, tokenizer: Any) -> nn.Linear:
    table = backbone.get_output_embeddings().weight
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
    heads = nn.Linear(table.shape[1], len(CRITERIA))
    with torch.no_grad():
        heads.weight.copy_((table[yes] - table[no]).float().expand_as(heads.weight))
        heads.bias.zero_()
    return heads


def load_reward_model(
    model: str, readout: str = "token", dtype: str = "auto"
) -> tuple[RewardModel, Any]:
    """A judge from its folder, or a fresh one on a backbone; returns (model, processor).

    `dtype` and what is raised are those of `load_model`.
    """
    backbone = load_model(model, dtype)
    processor = load_processor(model)
    saved = Path(model) / HEADS
    if saved.exists():
        heads = nn.Linear(backbone.config.text_config.hidden_size, len(CRITERIA))
        heads.load_state_dict(load_file(saved))
    elif readout == "token":
        heads = _token_heads(backbone, processor.tokenizer)
    else:
        heads = nn.Linear(backbone.config.text_config.hidden_size, len(CRITERIA))
        nn.init.normal_(heads.weight, std=0.02)
        nn.init.zeros_(heads.bias)
    return RewardModel(backbone, heads), processor
