"""Training sets refer to pictures: no process holds them all, and loaders change no result."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.config.training import Sft
from engine.errors import TriptychError
from engine.pixels import Pixels
from engine.trainer import read_training_set, write_training_set
from engine.training_job import TrainingJob
from pipelines.training.grpo import train_grpo
from pipelines.training.sft import chat_dataset, train_sft
from reward_model.training import train_judge
from tests.pictures import PNG, shown, workspace_of
from tests.pipelines.training import test_training as trainings
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

Train = Callable[[Any], Any]
NO_MARKS = SimpleNamespace(added_tokens_decoder={}, all_special_tokens=[])
PICTURES, BATCH = 48, 4
SIDE = 512  # of a picture, which is noise: 0.8 MB as a PNG


def read_through(folder: Path) -> tuple[int, int]:
    """Peak memory of this process in bytes, after a quarter of a training set and after all."""
    job = job_in(folder, Sft())
    rows: Any = chat_dataset(job, SimpleNamespace(tokenizer=NO_MARKS))
    order = np.random.default_rng(0).permutation(len(rows)).tolist()

    def read(places: list[int]) -> int:
        for low in range(0, len(places), BATCH):
            batch = rows[places[low : low + BATCH]]
            assert [image.size for (image,) in batch["images"]] == [(SIDE, SIDE)] * BATCH
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    return read(order[: len(order) // 4]), read(order)


def test_no_process_holds_the_pictures_of_a_training_set(tmp_path: Path) -> None:
    """Of 38 MB of pictures, the last three quarters add nothing to what a process holds."""
    rng = np.random.default_rng(0)
    images = [shown(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for _ in range(PICTURES)]
    workspace_of(tmp_path / "workspace", images)
    said = {"prompt": "Is it?", "completion": "no"}
    write_training_set(tmp_path / "data", [{"image_id": i, **said} for i in images])
    assert sum(p.stat().st_size for p in (tmp_path / "data").iterdir()) < 100 * PICTURES
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        early, late = pool.submit(read_through, tmp_path).result()
    assert late - early < 6 << 20


def test_a_training_set_gives_its_rows_back_in_order(tmp_path: Path) -> None:
    rows = [
        {"image_id": str(n), "options": ["a", "é"][: n % 3], "tier": n / 7} for n in range(2500)
    ]
    write_training_set(tmp_path, rows)
    assert read_training_set(tmp_path).to_list() == rows


@pytest.mark.parametrize(
    ("train", "given", "changed"),
    [
        (train_judge, trainings.judge, {"epochs": 2}),
        (train_sft, trainings.sft, {"epochs": 2}),
        (train_grpo, trainings.grpo, {"steps": 10}),
    ],
)
def test_loaders_change_no_result(
    train: Train,
    given: Callable[[Path], TrainingJob],
    changed: dict[str, Any],
    tmp_path: Path,
) -> None:
    job = given(tmp_path).with_section(save_steps=0, **changed)
    alone = train(job)
    loaded = replace(job, out=tmp_path / "loaded").with_section(loaders=1)
    assert train(loaded) == alone
    weights, others = (load_file(j.out / "model.safetensors") for j in (job, loaded))
    assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_picture_that_is_another_ends_a_training_with_its_line(
    loaders: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(PNG, trainings.IMAGES[3], PNG[trainings.IMAGES[4]])
        job = trainings.judge(tmp_path).with_section(loaders=loaders)
    with pytest.raises(TriptychError) as raised:
        train_judge(job)
    assert str(raised.value).startswith(str(tmp_path))
    assert f"does not hold the picture of {trainings.IMAGES[3]}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_loader_that_dies_ends_a_training_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(pixels: Pixels, image_id: str) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(Pixels, "__getitem__", die)
    job = trainings.judge(tmp_path).with_section(loaders=2)
    with pytest.raises(TriptychError, match=r"^test: a loader died at step 1, .*reward.loaders=1"):
        train_judge(job)
