"""SFT's loss is of the completion alone: what TRL's collator gives the tiny model as labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import trl

from engine.config.training import Sft
from engine.records import Task
from engine.trainer import write_training_set
from engine.vlm import tiny
from engine.vlm.attention import right_padded
from engine.vlm.transformers import load_model, load_processor
from pipelines.training.sft import Turn, train_sft, turns_of
from tests.drawn_workspace import answered, drawn
from tests.pictures import workspace_of
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

IGNORED = -100


@pytest.fixture(scope="module")
def turns() -> list[Turn]:
    """Turns of every kind: with reasoning, without, and asking; with options and without."""
    image, other = drawn("MR", 0), drawn("MR", 1)
    tasks = [Task.make("MR", "disease", "easy", "closed", style) for style in ("step", "direct")]
    rows = [
        answered(
            image, "Is there a tumor?", "no", rationale="MR brain: none.", task_id=tasks[0].id
        ),
        answered(other, "Which imaging modality is this?", "MR", (), task_id=tasks[1].id),
    ]
    return list(turns_of(rows, {t.id: t for t in tasks}, "compact", "direct", 1.0, 0))


@pytest.fixture(scope="module")
def batch(turns: list[Turn], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The one batch of a real training of these turns, as its loss was given it."""
    folder, seen = tmp_path_factory.mktemp("sft"), []
    workspace_of(folder / "workspace", {turn["image_id"] for turn in turns})
    write_training_set(folder / "data", turns)
    job = job_in(folder, Sft(batch=len(turns), epochs=1))
    compute = trl.SFTTrainer.compute_loss

    def watched(trainer: Any, model: Any, inputs: Any, *more: Any, **options: Any) -> Any:
        seen.append({k: v.clone() for k, v in inputs.items() if isinstance(v, torch.Tensor)})
        return compute(trainer, model, inputs, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trl.SFTTrainer, "compute_loss", watched)
        assert train_sft(job).steps == 1
    (only,) = seen
    return dict(only)


def test_rows_are_padded_on_the_right_alone_so_that_attention_needs_no_mask(
    batch: dict[str, Any],
) -> None:
    """No token of a row sees its padding: outputs and gradients are those with the mask."""
    mask = batch["attention_mask"]
    assert (mask[:, 1:] <= mask[:, :-1]).all()
    assert (mask == 0).any()

    def computed(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        given = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**given, use_cache=False).logits[mask == 1]
        loss = logits.log_softmax(-1)[:, 5].mean()
        return logits, torch.autograd.grad(loss, model.lm_head.weight)[0]

    masked = computed(load_model(str(tiny.FOLDER)))
    alone = computed(right_padded(load_model(str(tiny.FOLDER))))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(masked, alone))


def test_labels_are_the_completion_and_the_end_of_the_turn(
    turns: list[Turn], batch: dict[str, Any]
) -> None:
    tokenizer = load_processor(str(tiny.FOLDER)).tokenizer
    taught = [tokenizer.decode(labels[labels != IGNORED]) for labels in batch["labels"]]
    assert sorted(taught) == sorted(f"{turn['completion']}<|im_end|>\n" for turn in turns)
    kept = batch["labels"] != IGNORED
    assert (batch["labels"][kept] == batch["input_ids"][kept]).all()


def test_prompt_image_and_padding_are_not_in_the_loss(
    turns: list[Turn], batch: dict[str, Any]
) -> None:
    tokenizer = load_processor(str(tiny.FOLDER)).tokenizer
    pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    ids, labels = batch["input_ids"], batch["labels"]
    assert (ids == pad).sum() == 16 * len(turns)  # each picture is there whole
    assert (labels[ids == pad] == IGNORED).all()
    assert (batch["attention_mask"] == 0).any()
    assert (labels[batch["attention_mask"] == 0] == IGNORED).all()
    untaught = [
        tokenizer.decode(row[(marks == IGNORED) & (row != pad)]) for row, marks in zip(ids, labels)
    ]
    for turn in turns:
        prompt = f"<|vision_end|>{turn['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        assert any(prompt in text for text in untaught)
