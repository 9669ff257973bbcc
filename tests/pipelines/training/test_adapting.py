"""Which weights a training of the tiny model changes, and what it computes for that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.quantizers.quantizers_utils import should_convert_module

from engine import adapting, guards
from engine.adapting import adapt, cast_once, freeze, save_trained, weights_dtype
from engine.config import build
from engine.config.training import Sft
from engine.errors import TriptychError
from engine.trainer import common_arguments, watched
from engine.training_job import TrainingJob
from engine.vlm import tiny
from engine.vlm.transformers import NOT_IN_FOUR_BITS, load_model, load_processor
from pipelines.training import sft
from pipelines.training.grpo import grpo_trainer
from pipelines.training.sft import train_sft
from reward_model.training import train_judge
from tests.pipelines.training import test_training as trainings
from tests.pipelines.training.test_advantages import Fed
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

Given = Callable[[Path], TrainingJob]


def changed(weights: dict[str, torch.Tensor]) -> dict[str, bool]:
    """Whether a training changed each of the tiny model's weights, by the name it is stored by."""
    untrained = load_file(tiny.FOLDER / "model.safetensors")
    return {name: not torch.equal(weights[name], untrained[name].float()) for name in untrained}


def require_a_frozen_tower(found: dict[str, bool]) -> None:
    tower = {name for name in found if "visual" in name and "merger" not in name}
    projector = {name for name in found if "merger" in name}
    assert len(tower) > 40
    assert not any(found[name] for name in tower)
    assert projector
    assert all(found[name] for name in projector)
    language = {name for name in found if ".layers." in name}
    assert language
    assert all(found[name] for name in language)


@pytest.mark.parametrize(
    ("train", "given"), [(train_sft, trainings.sft), (train_judge, trainings.judge)]
)
def test_a_frozen_tower_stays_bit_for_bit_and_the_rest_learns(
    train: Callable[[Any], Any], given: Given, tmp_path: Path
) -> None:
    train(given(tmp_path).with_section(freeze_vision=True, save_steps=0))
    require_a_frozen_tower(changed(load_file(tmp_path / "weights" / "model.safetensors")))


def test_grpo_leaves_a_frozen_tower_as_it_is(tmp_path: Path) -> None:
    job = trainings.grpo(tmp_path)
    job = job.with_section(batch=4, steps=1, save_steps=0, freeze_vision=True)
    trainer = watched(grpo_trainer(job, [Fed("correct", [1.0, 0.0, 0.0, 1.0])]), job)
    trainer.train()
    trainer.model.save_pretrained(tmp_path / "weights")
    require_a_frozen_tower(changed(load_file(tmp_path / "weights" / "model.safetensors")))


class Text(nn.Module):
    """A model of words alone, which finds no tower and so gives itself."""

    def get_encoder(self, modality: str) -> Any:
        return self


def test_a_model_without_a_tower_is_refused_with_the_option(tmp_path: Path) -> None:
    job = job_in(tmp_path, Sft(freeze_vision=True))
    with pytest.raises(TriptychError, match=r"sft\.freeze_vision: Text has no vision tower"):
        freeze(Text(), job)
    model = Text()
    assert freeze(model, job.with_section(freeze_vision=False)) is model


# LoRA


def linears(model: Any) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}


@pytest.mark.parametrize("targets", ["language", "all"])
def test_adapters_are_where_they_are_wanted(targets: str, tmp_path: Path) -> None:
    model = load_model(str(tiny.FOLDER))
    every = linears(model) - {"lm_head"}
    section = Sft(lora_rank=4, lora_targets=targets, lora_alpha=12, lora_dropout=0.1)
    adapted = adapt(model, job_in(tmp_path, section))
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in adapted.named_modules()
        if isinstance(module, LoraLayer)
    }
    language = {name for name in every if ".language_model." in name}
    assert len(language) == 28
    assert len(every) == 50
    assert layers.keys() == (language if targets == "language" else every)
    assert {layer.scaling["default"] for layer in layers.values()} == {12 / 4}
    assert {layer.lora_dropout["default"].p for layer in layers.values()} == {0.1}
    assert all("lora_" in name for name, w in adapted.named_parameters() if w.requires_grad)


def test_lora_of_the_language_model_changes_nothing_else(tmp_path: Path) -> None:
    train_sft(trainings.sft(tmp_path).with_section(lora_rank=4, save_steps=0))
    found = changed(load_file(tmp_path / "weights" / "model.safetensors"))
    learned = {name for name, value in found.items() if value}
    assert len(learned) == 28
    assert not any("visual" in name for name in learned)


def test_adapters_in_a_frozen_tower_are_refused() -> None:
    build({}, ["sft.freeze_vision=true", "sft.lora_rank=4"], "x")
    with pytest.raises(TriptychError, match=r"^x: sft: freeze_vision keeps .*lora_targets to lang"):
        build({}, ["sft.freeze_vision=true", "sft.lora_rank=4", "sft.lora_targets=all"], "x")


# Weights of 4 bits

QLORA = {"lora_bits": 4, "lora_rank": 4, "bf16": True}


def test_four_bits_are_refused_without_cuda_and_without_bitsandbytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = trainings.sft(tmp_path).with_section(**QLORA)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TriptychError, match=r"^lora_bits 4 needs a CUDA GPU: set lora_bits to"):
        train_sft(job)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("transformers.utils.is_bitsandbytes_available", lambda: False)
    with pytest.raises(TriptychError, match=r"^lora_bits 4 needs bitsandbytes 0\.46\.1 or newer: "):
        load_model(job.model, bits=4)


def test_four_bits_without_adapters_or_of_a_judge_are_refused() -> None:
    for section, line in (
        ("sft={lora_bits: 4, bf16: true}", r"^x: sft: lora_bits needs lora_rank above 0 and bf16"),
        ("grpo={lora_bits: 4, lora_rank: 8}", r"^x: grpo: lora_bits needs lora_rank above 0 and"),
        ("reward={lora_bits: 4, lora_rank: 8, bf16: true}", r"^x: reward: lora_bits is of sft and"),
        ("sft={lora_bits: 8, lora_rank: 8, bf16: true}", r"^x: sft.lora_bits: "),
    ):
        with pytest.raises(TriptychError, match=line):
            build({}, [section], "x")


def test_of_a_model_in_four_bits_the_language_models_layers_are() -> None:
    """As transformers itself tells which modules bitsandbytes is given."""
    every = linears(load_model(str(tiny.FOLDER)))
    found = {name for name in every if should_convert_module(name, NOT_IN_FOUR_BITS)}
    assert found == {name for name in every if ".language_model." in name}
    llava = "model.vision_tower.encoder.layers.0.mlp.fc1", "model.multi_modal_projector.linear_1"
    assert not any(should_convert_module(name, NOT_IN_FOUR_BITS) for name in llava)


def test_adapters_trained_on_four_bits_are_merged_into_the_weights_as_stored(
    tmp_path: Path,
) -> None:
    """With a coarser base in the place of NF4: what is written has none of its rounding."""
    job = job_in(tmp_path, Sft(**QLORA))
    coarse = load_model(job.model)
    for weight in coarse.parameters():
        weight.data = (weight.data * 8).round() / 8
    adapted = adapt(coarse, job)
    torch.manual_seed(0)
    deltas = {}
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            nn.init.normal_(module.lora_B["default"].weight)
            deltas[name.removeprefix("base_model.model.")] = module.get_delta_weight("default")
    save_trained(adapted, load_processor(job.model), job)
    written, stored = load_model(str(job.out)), load_model(job.model)
    before = stored.state_dict()
    for name, weight in written.state_dict().items():
        delta = deltas.get(name.removesuffix(".weight"), torch.zeros(()))
        torch.testing.assert_close(weight, before[name] + delta, rtol=0, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


# Checkpointing


@dataclass
class Step:
    """What a training of one step computed."""

    losses: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    passes: Counter[str] = field(default_factory=Counter)  # of a layer's forward


def stepped(train: Callable[[Any], Any], job: TrainingJob) -> Step:
    found = Step()

    def listen(job: TrainingJob, step: int, what: str, tensors: list[torch.Tensor]) -> None:
        if what == "loss":
            found.losses += [loss.detach().clone() for loss in tensors]
        if what == "gradient":
            found.gradients += [gradient.clone() for gradient in tensors]

    def counting(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def passed(self: Any, *given: Any, **more: Any) -> Any:
            found.passes[name] += self.training
            return forward(self, *given, **more)

        return passed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guards, "require_finite", listen)
        for name, layer in (
            ("tower", modeling_qwen2_5_vl.Qwen2_5_VLVisionBlock),
            ("language", modeling_qwen2_5_vl.Qwen2_5_VLDecoderLayer),
        ):
            patch.setattr(layer, "forward", counting(name, layer.forward))
        train(job)
    return found


def grpo_of_two_groups(job: Any) -> None:
    right = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    watched(grpo_trainer(job, [Fed("correct", right)]), job).train()


LAYERS = 4  # of the tiny model's tower, and of its language model


@pytest.mark.parametrize(
    ("train", "given", "changed", "tower"),
    [
        (train_sft, trainings.sft, {}, 2),
        (train_sft, trainings.sft, {"freeze_vision": True}, 1),
        (train_sft, trainings.sft, {"lora_rank": 4}, 1),
        (train_sft, trainings.sft, {"lora_rank": 4, "lora_targets": "all"}, 2),
        (train_judge, trainings.judge, {}, 2),
        (grpo_of_two_groups, trainings.grpo, {"lora_rank": 4, "steps": 1}, None),
    ],
    ids=["sft", "sft-frozen", "sft-lora", "sft-lora-all", "judge", "grpo-lora"],
)
def test_checkpointing_changes_what_is_kept_and_no_loss_and_no_gradient(
    train: Callable[[Any], Any],
    given: Given,
    changed: dict[str, Any],
    tower: int | None,
    tmp_path: Path,
) -> None:
    """Where the tower learns nothing, it is not computed again: nothing goes backward in it."""
    once = {"save_steps": 0} | ({} if "steps" in changed else {"batch": 16})
    job = given(tmp_path).with_section(**once, **changed)
    kept = stepped(train, job.with_section(checkpointing=False))
    again = stepped(train, job.with_section(checkpointing=True))
    assert len(kept.losses) == 1
    assert kept.gradients
    assert kept.losses == again.losses
    assert len(kept.gradients) == len(again.gradients)
    assert all(torch.equal(a, b) for a, b in zip(kept.gradients, again.gradients))
    if tower is not None:
        assert kept.passes == {"tower": LAYERS, "language": LAYERS}
        assert again.passes == {"tower": tower * LAYERS, "language": 2 * LAYERS}


def test_checkpointing_is_on_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_in(Path("nowhere"), Sft())
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert common_arguments(job)["gradient_checkpointing"] is there
        for wanted in (False, True):
            told = common_arguments(job.with_section(checkpointing=wanted))
            assert told["gradient_checkpointing"] is wanted


# What costs time and changes nothing


def test_adapters_take_their_input_as_it_comes_and_no_bit_changes() -> None:
    """Under autocast; without it a float32 adapter is given float32, whatever goes in."""

    def computed(cast: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)).to(torch.bfloat16)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["0", "1"]))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight)
        if not cast:
            cast_once(adapted)
        given = torch.randn(3, 16, dtype=torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            out = adapted(given)
        trained = [w for w in adapted.parameters() if w.requires_grad]
        assert {w.dtype for w in trained} == {torch.float32}
        return [out, *torch.autograd.grad(out.float().sum(), trained)], adapted(given)

    (before, plain), (after, same) = computed(True), computed(False)
    assert all(torch.equal(a, b) for a, b in zip(before, after))
    assert torch.equal(plain, same)


def test_compiled_layers_share_graphs_and_learn_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two of the language model's four layers: the first, into which no gradient goes, and one."""
    graphs: list[Any] = []

    def counted(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    whole = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda layer, **more: whole(layer, backend=counted, **more)
    )
    once = {"save_steps": 0, "batch": 16, "lora_rank": 4}
    plain = train_sft(trainings.sft(tmp_path / "plain").with_section(**once))
    assert not graphs
    compiled = train_sft(trainings.sft(tmp_path / "compiled").with_section(**once, compile=True))
    assert compiled.loss == pytest.approx(plain.loss, abs=1e-3)
    of_text = [graph for graph in graphs if "q_proj" in graph.code]
    assert len(of_text) == 2
    names = [
        set(load_file(tmp_path / n / "weights" / "model.safetensors"))
        for n in ("plain", "compiled")
    ]
    assert names[0] == names[1]


# bf16


def test_all_weights_are_trained_in_float32_under_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate at which bf16 weights would hardly move, as on a GPU: weights load as asked."""
    products = set()
    product = torch.nn.functional.linear

    def listen(*given: Any) -> torch.Tensor:
        found = product(*given)
        products.add(found.dtype)
        return found

    def load(model: str, dtype: str, bits: None) -> Any:
        return AutoModelForImageTextToText.from_pretrained(model, dtype=dtype)

    monkeypatch.setattr(adapting, "load_model", load)
    monkeypatch.setattr(sft, "common_arguments", lambda job: common_arguments(job) | {"bf16": True})
    monkeypatch.setattr(torch.nn.functional, "linear", listen)
    job = trainings.sft(tmp_path).with_section(bf16=True, batch=16, lr=1e-6, save_steps=0)
    train_sft(job)
    assert torch.bfloat16 in products
    trained = load_file(tmp_path / "weights" / "model.safetensors")
    untrained = load_file(tiny.FOLDER / "model.safetensors")
    names = [name for name in trained if ".layers." in name and trained[name].ndim == 2]
    assert {trained[name].dtype for name in names} == {torch.float32}
    moved = [(trained[name] != untrained[name].float()).float().mean() for name in names]
    assert min(moved) > 0.9


def test_beside_adapters_weights_stay_as_stored_under_bf16(tmp_path: Path) -> None:
    job = job_in(tmp_path, Sft(bf16=True, lora_rank=4))
    assert weights_dtype(job) == "auto"
    assert weights_dtype(job.with_section(bf16=False)) == "float32"
    stored = AutoModelForImageTextToText.from_pretrained(tiny.FOLDER, dtype=torch.bfloat16)
    adapted = adapt(stored, job)
    kinds = {(w.requires_grad, w.dtype) for w in adapted.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
