"""Where memory runs out: smaller parts with the same results, and what a run may then change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.config import build, deciding
from engine.config.backend import Transformers
from engine.config.training import Sft
from engine.errors import TriptychError
from engine.guards import guarded
from engine.imaging.ingest import to_png
from engine.lineage.opening import writing
from engine.prompts import answer_prompt, ask_prompt
from engine.training_job import TrainingJob
from engine.vlm import tiny
from engine.vlm.backends import open_vlm
from engine.vlm.memory import Parts, ran_out
from engine.vlm.protocol import Request, Sampling
from engine.vlm.streams import inverse_transform, uniforms
from engine.vlm.transformers import TransformersVLM
from generators import phantoms
from pipelines.training.grpo import train_grpo
from pipelines.training.sft import train_sft
from reward_model.model import load_reward_model
from reward_model.scoring import Judge
from reward_model.training import train_judge
from tests.pipelines.training import test_training as trainings
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

TASK = {
    "modality": "MR",
    "question_type": "disease",
    "difficulty": "easy",
    "answer_format": "closed",
}


def with_room_for(
    rows: int, work: Callable[[Sequence[Any]], list[Any]]
) -> Callable[[Sequence[Any]], list[Any]]:
    """`work` on a device that holds so many rows."""

    def tried(part: Sequence[Any]) -> list[Any]:
        if len(part) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return work(part)

    return tried


# Parts


def test_what_does_not_fit_is_halved_once_and_said_in_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts, sizes = Parts("judge"), []

    def double(part: Sequence[int]) -> list[int]:
        sizes.append(len(part))
        return [2 * n for n in part]

    work = with_room_for(3, double)
    assert parts.map(work, range(10)) == list(range(0, 20, 2))
    assert parts.map(work, range(4)) == [0, 2, 4, 6]
    assert sizes == [2] * 5 + [2] * 2  # 10, 5, then 2: and the second call does not try again
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"triptych: out of memory with {tried} rows at once for the judge: {tried // 2} at once "
        "from here on, with the same results"
        for tried in (10, 5)
    ]


def test_a_single_row_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(TriptychError, match="a single row for the judge: use a larger device"):
        Parts("judge").map(with_room_for(0, list), [1, 2, 3])


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    def work(part: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Parts("judge").map(work, [1, 2])


def test_what_torch_raises_for_want_of_memory_on_a_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out(raised.value)
    assert not ran_out(RuntimeError("shapes cannot be multiplied"))


# Inference


@pytest.fixture(scope="module")
def vlm() -> TransformersVLM:
    opened = open_vlm(Transformers(), str(tiny.FOLDER), threads=1)
    assert isinstance(opened, TransformersVLM)
    return opened


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Prompts of different lengths on different images."""
    asked = "Is there a cyst in the left part of the image?", ("yes", "no")
    texts = [ask_prompt("compact", TASK), answer_prompt("compact", *asked, "step")]
    images = [to_png(phantoms.to_display(phantoms.draw("MR", n, 96))) for n in range(7)]
    return [Request(png, texts[n % 2]) for n, png in enumerate(images)]


def test_sampling_gives_the_same_rows_whatever_memory_holds(
    vlm: TransformersVLM, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(n=3, temperature=1.0, max_tokens=24, seed=5)
    whole = vlm.generate(requests, sampling)
    assert len({sample.text for samples in whole for sample in samples}) > 7
    monkeypatch.setattr(vlm, "parts", Parts("generator"))
    monkeypatch.setattr(
        vlm,
        "_replies",
        lambda part, s, replies=vlm._replies: with_room_for(2, lambda few: replies(few, s))(part),
    )
    assert vlm.generate(requests, sampling) == [
        [replace(sample, logprob=pytest.approx(sample.logprob, abs=1e-4)) for sample in samples]
        for samples in whole
    ]
    assert vlm.parts.most == 1


def test_a_request_with_a_seed_is_answered_the_same_in_any_company(
    vlm: TransformersVLM, requests: list[Request]
) -> None:
    sampling = Sampling(n=2, temperature=1.0, max_tokens=16, seed=1)
    seeded = [replace(request, seed=n) for n, request in enumerate(requests)]
    texts = [[s.text for s in samples] for samples in vlm.generate(seeded, sampling)]
    mixed = vlm.generate(seeded[::-1] + seeded[:2], sampling)
    assert [[s.text for s in samples] for samples in mixed] == texts[::-1] + texts[:2]


def test_requests_and_samples_have_streams_of_their_own(
    vlm: TransformersVLM, requests: list[Request]
) -> None:
    alike = [requests[0]] * 4
    texts = [[s.text for s in r] for r in vlm.generate(alike, Sampling(4, 1.0, 24, 0))]
    assert len({text for row in texts for text in row}) > 4
    assert len({tuple(row) for row in texts}) == 4
    seeds = [vlm.generate(alike[:1], Sampling(4, 1.0, 24, seed)) for seed in (0, 1)]
    assert seeds[0] != seeds[1]


def test_tokens_are_drawn_by_their_probability_at_the_temperature() -> None:
    """Of 20,000 rows with the same scores; a token that is suppressed is never drawn."""
    scores = torch.tensor([1.0, -torch.inf, 3.0, 0.0, -torch.inf]).expand(20_000, -1)
    numbers = uniforms([Request(None, "x", n) for n in range(20_000)], Sampling(1, 2.0, 2))
    draw = inverse_transform(torch.from_numpy(np.concatenate(numbers)), 2.0, prompt_length=7)
    for step in range(2):
        picked = draw(torch.zeros(20_000, 7 + step), scores)
        assert (picked == 0).sum(1).eq(1).all()
        shares = np.bincount(picked.argmax(1), minlength=5) / 20_000
        assert shares == pytest.approx((scores[0] / 2).softmax(0).numpy(), abs=0.02)
        assert shares[1] == shares[4] == 0


def test_a_judge_scores_the_same_whatever_memory_holds(
    requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load_reward_model(str(tiny.FOLDER))
    model.save(tmp_path, trainings.SETTINGS)
    processor.save_pretrained(tmp_path)
    judge = Judge(str(tmp_path), "judge", 1)
    whole = judge.scores(requests)
    assert np.ptp(whole[:, 0]) > 0
    monkeypatch.setattr(judge, "_scores", with_room_for(3, judge._scores))
    assert judge.scores(requests) == pytest.approx(whole, abs=1e-4)
    assert judge.parts.most == 3


# Training


@pytest.mark.parametrize(
    ("batch", "accumulate", "advice"),
    [
        (32, 1, "--set sft.batch=16 --set sft.accumulate=2"),
        (6, 3, "--set sft.batch=3 --set sft.accumulate=6"),
        (5, 2, "--set sft.batch=2 --set sft.accumulate=5"),
        (1, 32, "use a larger device, sft.lora_rank, or a smaller max_pixels"),
    ],
)
def test_a_training_without_room_says_which_smaller_batch_goes_on(
    batch: int, accumulate: int, advice: str, tmp_path: Path
) -> None:
    class Full:
        state = type("State", (), {"global_step": 3})

        def train(self) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    trainer = guarded(Full)()
    trainer.job = job_in(tmp_path, Sft(batch=batch, accumulate=accumulate), stage="tune")
    with pytest.raises(TriptychError, match=r"^tune: out of memory at step 4") as raised:
        trainer.train()
    assert advice in str(raised.value)


@pytest.mark.parametrize(
    ("train", "given"),
    [
        (train_judge, trainings.judge),
        (train_sft, trainings.sft),
        (train_grpo, trainings.grpo),
    ],
)
def test_half_the_batch_and_twice_the_accumulation_are_the_same_training(
    train: Callable[[Any], Any],
    given: Callable[[Path], TrainingJob],
    tmp_path: Path,
) -> None:
    job = given(tmp_path).with_section(save_steps=0)
    weights = []
    for accumulate in (1, 2):
        out = tmp_path / f"out{accumulate}"
        batch = job.section.batch // accumulate
        smaller = job.with_section(batch=batch, accumulate=accumulate)
        assert train(replace(smaller, out=out)).steps == 4
        weights.append(load_file(out / "model.safetensors"))
    untrained = load_file(tiny.FOLDER / "model.safetensors")
    moved, apart = (
        sum(float((a[name].float() - b[name].float()).abs().sum()) for name in untrained)
        for a, b in (((weights[0], untrained)), (weights[0], weights[1]))
    )
    assert apart < 0.02 * moved


# The workspace


def changed(*overrides: str) -> bool:
    """Whether a run of these is another configuration than one of the defaults."""
    before, after = (build({}, list(o), "x").recorded() for o in ((), overrides))
    return deciding(before) != deciding(after)


@pytest.mark.parametrize("section", ["reward", "sft", "grpo"])
def test_batch_accumulate_and_workers_may_change_while_their_product_is_equal(
    section: str,
) -> None:
    assert not changed(f"{section}.batch=16", f"{section}.accumulate=2")
    assert not changed(f"{section}.batch=8", f"{section}.accumulate=2", f"{section}.workers=2")
    assert changed(f"{section}.batch=16")
    assert changed(f"{section}.accumulate=2")
    assert not changed(f"{section}.loaders=2")
    assert changed(f"{section}.lr=1e-6")


def test_what_decides_no_row_may_change_and_a_shard_does_decide() -> None:
    assert not changed("evaluate.batch=1")
    assert changed("generator.batch=32")


def test_a_workspace_goes_on_with_a_smaller_batch_and_names_what_it_refuses(tmp_path: Path) -> None:
    first, smaller, other = (
        build({}, list(o), "x").recorded()
        for o in ((), ("sft.batch=16", "sft.accumulate=2"), ("sft.batch=16",))
    )
    for config in (first, smaller):
        with writing(tmp_path / "w", "demo", config):
            pass
    with pytest.raises(TriptychError, match=r"different: sft.batch x accumulate x workers"):
        writing(tmp_path / "w", "demo", other).__enter__()
