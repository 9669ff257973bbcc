"""Who judges: one protocol (`expert`), and a file for each kind."""

from __future__ import annotations

from collections.abc import Iterable

from engine.config import Config
from engine.errors import TriptychError
from engine.records import Image
from engine.sets.vqa_rad import read_gold
from reward_model.experts.benchmark import GoldExpert
from reward_model.experts.expert import Expert
from reward_model.experts.simulated import PhantomExpert


def open_expert(config: Config, images: Iterable[Image]) -> Expert:
    """The configuration's expert, who knows these images."""
    if config.expert.kind == "phantoms":
        styles = list(config.generator.styles)
        return PhantomExpert(config.expert, styles, config.seed, images)
    if config.expert.kind == "vqa-rad":
        return GoldExpert(config.expert, read_gold(config.source).questions, images)
    raise TriptychError("expert.kind none: there is nobody to ask; give phantoms or vqa-rad")
