"""Weights and operations of a model, counted from its configuration alone."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest

from engine.errors import TriptychError
from engine.vlm import tiny
from engine.vlm.known import known_models
from pipelines.training.preflight.models import describe
from pipelines.training.preflight.shapes import KIND, shape_of

KNOWN = known_models()


def stored_weights(path: Path) -> int:
    """How many numbers a safetensors file holds, by its head."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    return sum(math.prod(one["shape"]) for name, one in head.items() if name != "__metadata__")


@pytest.mark.parametrize("name", KNOWN)
def test_weights_of_known_models_are_counted_to_the_last_one(name: str) -> None:
    assert shape_of(KNOWN[name]["config"]).weights == KNOWN[name]["weights"]


def test_the_three_sizes_have_the_weights_that_their_files_hold() -> None:
    sizes = {name.split("-")[2]: model["weights"] for name, model in KNOWN.items()}
    assert sizes == {"3B": 3_754_622_976, "7B": 8_292_166_656, "72B": 73_410_777_344}


def test_weights_of_the_tiny_model_are_those_of_its_file() -> None:
    shape = describe(str(tiny.FOLDER)).shape
    assert shape.weights == stored_weights(tiny.FOLDER / "model.safetensors")


def test_a_known_model_has_a_whole_commit() -> None:
    assert {len(model["commit"]) for model in KNOWN.values()} == {40}


def test_adapters_are_those_that_peft_makes() -> None:
    """7B, rank 64, all linear layers: what benchmarks/gpu trained."""
    shape = shape_of(KNOWN["Qwen/Qwen2.5-VL-7B-Instruct"]["config"])
    layer = 64 * sum(a + b for a, b in [(3584, 3584)] * 2 + [(3584, 512)] * 2)
    layer += 64 * 3 * (3584 + 18944)
    assert shape.adapters(64, everywhere=False) == 28 * layer
    assert shape.adapters(64, everywhere=True) > 28 * layer


def test_a_model_of_another_kind_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(TriptychError, match=f"kind llava: only {KIND}") as refused:
        describe(str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "qwen2_5_vl"}'])
def test_a_broken_configuration_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TriptychError) as refused:
        describe(str(tmp_path))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_nowhere_is_told_with_what_to_do(tmp_path: Path) -> None:
    for name in ("nobody/nothing", "nobody/nothing@main", "no name", str(tmp_path)):
        with pytest.raises(TriptychError, match=r"hf download|config\.json"):
            describe(name)


def test_a_folder_is_read_as_it_is(tmp_path: Path) -> None:
    """As transformers 5 writes it, the text's values in a section of their own."""
    flat = KNOWN["Qwen/Qwen2.5-VL-3B-Instruct"]["config"]
    nested = {"model_type": KIND, "vision_config": flat["vision_config"], "text_config": flat}
    (tmp_path / "config.json").write_text(json.dumps(nested | {"torch_dtype": "float32"}))
    shape = describe(str(tmp_path)).shape
    assert (shape.weights, shape.bytes) == (3_754_622_976, 4)
