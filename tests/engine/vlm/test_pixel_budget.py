"""One pixel budget for every room, and rows that a model cannot read.

The embedded model shrinks every picture to 64 x 64; here a Qwen2.5-VL of random weights has the
real processor's values: patches of 14, merged 2 x 2, a token for 28 x 28 pixels.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.config import Config, build
from engine.config.backend import Transformers, Vllm
from engine.config.reward import Reward
from engine.config.training import Grpo, Sft
from engine.errors import TriptychError
from engine.prompts import answer_prompt, judge_prompt
from engine.records import Task, Triplet
from engine.trainer import write_training_set
from engine.vlm.backends import open_vlm
from engine.vlm.inputs import (
    MAX_ASPECT,
    chat_text,
    encode,
    marks_as_words,
    picture,
    sift,
    within_budget,
)
from engine.vlm.protocol import Request, Sampling
from engine.vlm.tiny import FOLDER
from engine.vlm.transformers import load_processor
from generators.proposer import ProposerSettings, propose
from pipelines.training.grpo import GrpoJob, train_grpo
from pipelines.training.sft import train_sft
from reward_model.scoring import Judge
from reward_model.settings import JudgeSettings
from reward_model.training import JudgeJob, train_judge
from tests.judge_rows import example, write
from tests.pictures import PNG, shown, workspace_of
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

BUDGET = 28 * 28 * 30
TOKENS = 36  # of the budget: sides are rounded to whole patches


def png_of(width: int, height: int) -> bytes:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.tile(ramp, (height, 1))).save(out, "PNG")
    return out.getvalue()


RADIOGRAPH = png_of(3000, 2500)
IMAGE = shown(np.asarray(Image.open(io.BytesIO(RADIOGRAPH))))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random-weight Qwen2.5-VL and a processor of the published values."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    folder = tmp_path_factory.mktemp("model")
    tiny = load_processor(str(FOLDER))
    shape: dict[str, Any] = {
        "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384},
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
    }
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape),
        tokenizer=tiny.tokenizer,
        video_processor=Qwen2VLVideoProcessor(**shape),
        chat_template=tiny.chat_template,
    ).save_pretrained(folder)
    config = Qwen2_5_VLConfig.from_pretrained(FOLDER)
    for name, value in {"depth": 2, "patch_size": 14, "window_size": 112, "hidden_size": 64,
                        "intermediate_size": 64, "fullatt_block_indexes": [1]}.items():  # fmt: skip
        setattr(config.vision_config, name, value)
    config.text_config.num_hidden_layers = 2
    config.text_config.layer_types = config.text_config.layer_types[:2]
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def image_tokens(processor: Any, inputs: Any) -> int:
    pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return int((inputs["input_ids"] == pad).sum(1).max())


def test_a_radiograph_takes_as_many_tokens_as_the_budget_allows(model: str) -> None:
    processor = load_processor(model)
    request = Request(RADIOGRAPH, "Is there a nodule?")
    assert image_tokens(processor, encode(processor, [request], 10**9)) == 9523
    assert image_tokens(processor, encode(processor, [request], BUDGET)) <= TOKENS


@pytest.mark.parametrize("size", [(3000, 2500), (40, 30), (20000, 60), (1, 900), (700, 1)])
def test_a_picture_fits_the_budget_and_every_processor(model: str, size: tuple[int, int]) -> None:
    shown = picture(png_of(*size), BUDGET)
    assert shown.width * shown.height <= BUDGET
    assert max(shown.size) < 2 * MAX_ASPECT * min(shown.size)
    if max(size) * min(size) <= BUDGET and max(size) <= MAX_ASPECT * min(size):
        assert shown.size == size
        assert within_budget(png_of(*size), BUDGET) == png_of(*size)
    processor = load_processor(model)
    inputs = encode(processor, [Request(png_of(*size), "x")], BUDGET)
    assert image_tokens(processor, inputs) <= TOKENS + 100  # of a strip, a patch is the least


QUESTION = "What does <|image_pad|> show, <|vision_start|> or <|im_end|>?"
PROMPT = answer_prompt("compact", QUESTION, (), "direct")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The image tokens of every picture that a model of this process reads."""
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

    tower = modeling.Qwen2_5_VisionTransformerPretrainedModel
    counts: list[int] = []
    forward = tower.forward

    def watched(self: Any, hidden_states: Any, grid_thw: Any, **more: Any) -> Any:
        counts.extend((grid_thw.prod(1) // self.spatial_merge_size**2).tolist())
        return forward(self, hidden_states, grid_thw, **more)

    monkeypatch.setattr(tower, "forward", watched)
    return counts


def test_sft_reads_a_radiograph_and_a_question_with_the_models_own_marks(
    model: str, tmp_path: Path, seen: list[int]
) -> None:
    workspace_of(tmp_path / "workspace", [IMAGE])
    row = {"image_id": IMAGE, "prompt": PROMPT, "completion": "<answer><|image_pad|></answer>"}
    write_training_set(tmp_path / "data", [row] * 2)
    job = job_in(tmp_path, Sft(batch=2, epochs=1), model=model, max_pixels=BUDGET)
    assert train_sft(job).steps == 1
    assert 0 < max(seen) <= TOKENS


@pytest.fixture
def judge(model: str, tmp_path: Path, seen: list[int]) -> str:
    workspace_of(tmp_path / "workspace", [IMAGE])
    said = [judge_prompt("compact", QUESTION, (), "", answer) for answer in ("chosen", "rejected")]
    write(tmp_path / "data", [example(*said, image_id=IMAGE)] * 2)
    settings = JudgeSettings(criteria={"factuality": 1.0}, prompts="compact", max_pixels=BUDGET)
    job = job_in(
        tmp_path, Reward(batch=2, epochs=1), JudgeJob, model=model, max_pixels=BUDGET,
        holdout=tmp_path / "holdout", settings=settings,
    )  # fmt: skip
    assert train_judge(job).steps == 1
    assert 0 < max(seen) <= TOKENS
    return str(tmp_path / "weights")


def test_the_judge_and_grpo_read_them_too(
    model: str, judge: str, tmp_path: Path, seen: list[int]
) -> None:
    requests = [Request(RADIOGRAPH, judge_prompt("compact", QUESTION, (), "", "no"))] * 2
    assert np.isfinite(Judge(judge, "judge", 1).scores(requests)).all()
    row = {"image_id": IMAGE, "prompt": PROMPT, "question": QUESTION, "options": ["a", "b"]}
    folder = tmp_path / "grpo"
    workspace_of(folder / "workspace", [IMAGE])
    write_training_set(folder / "data", [row | {"gold": "a"}])
    section = Grpo(batch=4, group=4, steps=1, max_tokens=4)
    job = job_in(folder, section, GrpoJob, model=model, max_pixels=BUDGET, judge=judge)
    assert train_grpo(job).steps == 1
    assert 0 < max(seen) <= TOKENS


def test_generating_and_evaluating_read_them_too(model: str, seen: list[int]) -> None:
    vlm = open_vlm(Transformers(max_model_len=200), model, 1, BUDGET)
    (samples,) = vlm.generate([Request(RADIOGRAPH, PROMPT)], Sampling(2, 1.0, 4))
    assert [s.problem for s in samples] == [None, None]
    assert 0 < max(seen) <= TOKENS


def test_vllm_is_shown_pictures_within_the_budget_and_holds_memory_for_no_more(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine alone is a stand-in; loading one takes minutes."""
    from transformers import AutoConfig

    told: dict[str, Any] = {}

    def engine(**arguments: Any) -> Any:
        told.update(arguments)
        config = SimpleNamespace(hf_config=AutoConfig.from_pretrained(arguments["model"]))
        return SimpleNamespace(llm_engine=SimpleNamespace(model_config=config))

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=engine))
    vlm: Any = open_vlm(Vllm(max_model_len=200), model, max_pixels=BUDGET)
    held = told["limit_mm_per_prompt"]["image"]
    assert held["width"] * held["height"] <= BUDGET
    prompt = vlm._prompt(Request(RADIOGRAPH, PROMPT))
    shown = prompt["multi_modal_data"]["image"]
    assert 0.95 * BUDGET < shown.width * shown.height <= BUDGET
    read = vlm.processor(text=[prompt["prompt"]], images=[shown], return_tensors="pt")
    assert 0 < image_tokens(vlm.processor, read) <= TOKENS
    assert "multi_modal_data" not in vlm._prompt(Request(None, PROMPT))


def test_marks_of_the_model_in_a_text_are_words(model: str) -> None:
    processor = load_processor(model)
    told = chat_text(processor, Request(RADIOGRAPH, QUESTION))
    assert told.count("<|image_pad|>") == 1
    assert "< |image_pad|> show" in told
    assert marks_as_words("a < b, <answer>x</answer> | <|other|>", processor.tokenizer) == (
        "a < b, <answer>x</answer> | <|other|>"
    )
    assert (
        marks_as_words("<|image_pad|> and <image>, a <|b|>")
        == "< |image_pad|> and < image>, a < |b|>"
    )
    assert "<|im_end|>" not in marks_as_words("<<|im_end|>|im_end|>", processor.tokenizer)


def test_a_prompt_over_the_models_length_is_a_row_with_a_problem(model: str) -> None:
    vlm = open_vlm(Transformers(max_model_len=200), model, 1, BUDGET)
    batch = [
        Request(RADIOGRAPH, "Is it?"),
        Request(RADIOGRAPH, "very " * 300),
        Request(RADIOGRAPH, "Is it?"),
    ]
    first, long, last = vlm.generate(batch, Sampling(1, 0.0, 4))
    assert "max_model_len is 200" in str(long[0].problem)
    assert len(first) == len(last) == 1
    assert first == last


def test_a_request_that_the_processor_refuses_is_a_row_with_a_problem(model: str) -> None:
    processor = load_processor(model)
    good = Request(RADIOGRAPH, "Is it?")
    refused = Request(b"no PNG", "Is it?")
    inputs, problems = sift(processor, [good, refused, good], BUDGET)
    assert inputs["input_ids"].shape[0] == 2
    assert [p is None for p in problems] == [True, False, True]
    assert sift(processor, [refused], BUDGET)[0] is None


def test_a_question_too_long_to_be_answered_ends_no_batch(model: str) -> None:
    class Asks:
        """A generator whose second question is endless; its answers are the model's."""

        def __init__(self) -> None:
            self.model = open_vlm(Transformers(max_model_len=200), model, 1, BUDGET)

        def generate(self, requests: Any, sampling: Sampling) -> Any:
            from engine.vlm.protocol import Sample

            if sampling.n > 1:
                return self.model.generate(requests, sampling)
            texts = ("Is it?", "very " * 300)
            return [[Sample(f"<question>{t}</question>", -1.0, 9)] for t in texts]

    task = Task.make("CT", "disease", "easy", "open", "direct")
    plan = ProposerSettings("g", "compact", 2, 0.6, 1.0, 4, 0, 1)
    rows: list[Triplet] = propose(Asks(), PNG, [(IMAGE, task)] * 2, plan)
    told = [r.problem for r in rows if r.question != "Is it?"]
    assert len(told) == 1
    assert "max_model_len is 200" in str(told[0])
    assert sum(r.question == "Is it?" for r in rows) == 2


def test_a_budget_that_leaves_a_prompt_no_room_is_refused_when_the_model_is_opened(
    model: str,
) -> None:
    with pytest.raises(TriptychError, match="lower max_pixels, or raise max_model_len"):
        open_vlm(Transformers(max_model_len=512), model, 1, 28 * 28 * 1000)


def test_the_budget_is_in_the_record() -> None:
    config: Config = build({}, [f"max_pixels={BUDGET}"], "test")
    assert config.recorded()["max_pixels"] == BUDGET
