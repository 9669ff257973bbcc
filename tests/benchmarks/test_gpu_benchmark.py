"""What the benchmark on a GPU divides by, what it is given, what its stages tell."""

from __future__ import annotations

import io
from collections.abc import Callable

import PIL.Image
import pytest
import torch

from benchmarks.gpu import inference, training
from benchmarks.gpu.measures import Figures, Options, counted, forward_operations
from benchmarks.gpu.model import build_processor, make, model_config
from benchmarks.gpu.rows import SIZES, rows_about
from engine.config import MAX_PIXELS

pytestmark = pytest.mark.loop


def test_operations_are_those_of_the_weights_and_of_attention() -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration

    config = model_config(False, build_processor().tokenizer)
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    assert sum(p.numel() for p in model.parameters()) == 8_292_166_656

    def weights(part: torch.nn.Module) -> int:
        return sum(p.numel() for p in part.parameters() if p.ndim > 1)

    tower = model.model.visual
    tokens, patches, scored = 1000, 3600, 17
    products = weights(model.model.language_model.layers) * tokens
    products += weights(model.lm_head) * scored
    products += (weights(tower.blocks) + weights(tower.patch_embed)) * patches
    products += weights(tower.merger) * patches // 4
    causal = 2 * 28 * 3584 * tokens**2
    windows = 4 * 1280 * patches * (4 * patches + 28 * 64)
    found = forward_operations(config, [(tokens, patches, scored)])
    assert found == pytest.approx(2 * products + causal + windows, rel=1e-9)


def test_padding_and_what_is_not_scored_do_not_count() -> None:
    inputs = {
        "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]),
        "image_grid_thw": torch.tensor([[1, 2, 4], [1, 4, 4]]),
        "labels": torch.tensor([[-100, -100, -100, 7], [-100, -100, 8, 9]]),
    }
    assert counted(inputs) == [(3, 8, 1), (4, 16, 2)]
    del inputs["labels"]
    assert counted(inputs) == [(3, 8, 0), (4, 16, 0)]


def test_rows_are_about_pictures_of_four_sizes_in_turn() -> None:
    assert max(width * height for width, height in SIZES) <= MAX_PIXELS
    rows, tasks, pngs = rows_about(9, small=True)
    assert [row.image_id for row in rows] == (list(pngs) * 3)[:9]
    assert all(row.task_id in tasks and row.rationale and row.answer for row in rows)
    sizes = [PIL.Image.open(io.BytesIO(png)).size for png in pngs.values()]
    assert sizes == [(width // 8, height // 8) for width, height in SIZES]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Of the small shape, whose model is made."""
    folder = tmp_path_factory.mktemp("gpu")
    found = Options(
        folder=folder, small=True, steps=1, grpo_steps=2, tokens=4, threads=1, peak=1e12
    )
    make(found)
    return found


@pytest.mark.parametrize("measure", [training.lora, training.grpo], ids=["sft", "grpo"])
def test_a_training_is_timed_and_its_weights_are_not_written(
    measure: Callable[[Options], list[Figures]], options: Options
) -> None:
    (figures,) = measure(options)
    assert figures["steps"] == 1
    assert figures["step_s"] > 0
    assert figures["tokens_per_s"] > 0
    assert not list(options.folder.glob("stage-*/weights*/**/*.safetensors"))


def test_a_judge_is_timed_on_the_same_weights(options: Options) -> None:
    (figures,) = inference.judge(options)
    assert figures["finite"]
    assert figures["rows_per_s"] > 0
