"""The shape of a model of Qwen2.5-VL's kind, from its configuration: weights and operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import TriptychError

KIND = "qwen2_5_vl"
CHANNELS = 3
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
Matrix = tuple[int, int]  # of a linear layer: inputs, outputs
Seen = tuple[float, float, float]  # of a row: its tokens, its image's patches, its scored tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The language model: grouped-query attention, a gated MLP, RMSNorm."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool  # the output matrix is the embeddings'

    @property
    def kv(self) -> int:
        """Width of a token's keys, and of its values."""
        return self.hidden // self.heads * self.kv_heads

    @property
    def matrices(self) -> list[Matrix]:
        """A layer's: queries, keys, values, output, gate, up, down."""
        h, m = self.hidden, self.intermediate
        return [(h, h), (h, self.kv), (h, self.kv), (h, h), (h, m), (h, m), (m, h)]

    @property
    def weights(self) -> int:
        """Embeddings, layers, last norm, and the output matrix where it is one of its own."""
        h = self.hidden
        layer = _products(self.matrices) + (h + 2 * self.kv) + 2 * h
        return self.layers * layer + h + self.vocabulary * h * (1 if self.tied else 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vision:
    """The vision tower with its projector, the merger."""

    hidden: int
    intermediate: int
    depth: int
    full: int  # layers that attend to the whole picture, not within windows
    window: int  # pixels of a window's side
    patch: int  # pixels of a patch's side
    merge: int  # patches of a token's side
    temporal: int
    out: int

    @property
    def matrices(self) -> list[Matrix]:
        """A layer's: queries, keys and values together, output, gate, up, down."""
        h, m = self.hidden, self.intermediate
        return [(h, 3 * h), (h, h), (h, m), (h, m), (m, h)]

    @property
    def merger(self) -> list[Matrix]:
        merged = self.hidden * self.merge**2
        return [(merged, merged), (merged, self.out)]

    @property
    def projector_weights(self) -> int:
        return _products(self.merger) + sum(out for _, out in self.merger) + self.hidden

    @property
    def patch_values(self) -> int:
        """Numbers of a patch as the tower is given it."""
        return CHANNELS * self.temporal * self.patch**2

    @property
    def weights(self) -> int:
        """All of them, those of the projector too."""
        layer = _products(self.matrices) + sum(out for _, out in self.matrices) + 2 * self.hidden
        return self.depth * layer + self.patch_values * self.hidden + self.projector_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model: its halves, and bytes of a weight as stored."""

    text: Text
    vision: Vision
    bytes: int

    @property
    def weights(self) -> int:
        return self.text.weights + self.vision.weights

    @property
    def quantised(self) -> int:
        """Weights that `lora_bits` rounds: those of the language model's linear layers."""
        return self.text.layers * _products(self.text.matrices)

    def adapters(self, rank: int, everywhere: bool) -> int:
        """Weights of LoRA's adapters in linear layers: the language model's, or the tower's too."""
        text = self.text.layers * _sums(self.text.matrices)
        tower = self.vision.depth * _sums(self.vision.matrices) + _sums(self.vision.merger)
        return rank * (text + (tower if everywhere else 0))

    def operations(self, rows: Iterable[Seen]) -> tuple[float, float]:
        """(language model's, tower's) operations of a forward pass over rows.

        2 for each weight of a matrix and token, and attention's own, half of it where it is causal.
        The output matrix counts for scored tokens alone.
        """
        text, vision = self.text, self.vision
        weights, seen = text.layers * _products(text.matrices), 0.0
        tower = vision.depth * _products(vision.matrices) + vision.hidden * vision.patch_values
        merger = _products(vision.merger) / vision.merge**2
        window = (vision.window // vision.patch) ** 2
        said = 0.0
        for tokens, patches, scored in rows:
            said += 2 * weights * tokens + 2 * text.layers * text.hidden * tokens**2
            said += 2 * text.hidden * text.vocabulary * scored
            attended = vision.full * patches + (vision.depth - vision.full) * window
            seen += 2 * (tower + merger) * patches + 4 * vision.hidden * patches * attended
        return said, seen


def _products(matrices: Iterable[Matrix]) -> int:
    return sum(inputs * outputs for inputs, outputs in matrices)


def _sums(matrices: Iterable[Matrix]) -> int:
    return sum(inputs + outputs for inputs, outputs in matrices)


def shape_of(config: Mapping[str, Any]) -> Shape:
    """A model's shape from its `config.json`, as the Hub has it or as transformers 5 writes it.

    Raises TriptychError where it is of another kind, or says not enough.
    """
    kind = config.get("model_type")
    if kind != KIND:
        raise TriptychError(f"a model of kind {kind}: only {KIND} is reckoned with")
    text = {**config, **config.get("text_config", {})}
    vision = config.get("vision_config", {})
    try:
        return Shape(
            text=Text(
                hidden=text["hidden_size"],
                intermediate=text["intermediate_size"],
                layers=text["num_hidden_layers"],
                heads=text["num_attention_heads"],
                kv_heads=text["num_key_value_heads"],
                vocabulary=text["vocab_size"],
                tied=bool(text.get("tie_word_embeddings", False)),
            ),
            vision=Vision(
                hidden=vision["hidden_size"],
                intermediate=vision["intermediate_size"],
                depth=vision.get("depth", 32),
                full=len(vision.get("fullatt_block_indexes", (7, 15, 23, 31))),
                window=vision.get("window_size", 112),
                patch=vision.get("patch_size", 14),
                merge=vision.get("spatial_merge_size", 2),
                temporal=vision.get("temporal_patch_size", 2),
                out=vision["out_hidden_size"],
            ),
            bytes=BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4),
        )
    except KeyError as error:
        raise TriptychError(f"its config.json has no {error.args[0]}") from None
