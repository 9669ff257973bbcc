"""Rows and steps are those of the stages' own functions, and of transformers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import Config, build, load
from engine.config.training import Sft
from engine.trainer import first_use
from pipelines.training.launch import rows_per_step, steps_of
from pipelines.training.preflight.sizes import Work, kept, sft_rows, turns_a_row, works
from tests.test_imports import ROOT

COUNTS = st.integers(1, 40)


@settings(deadline=None)
@given(st.integers(1, 5000), COUNTS, COUNTS, st.floats(0.1, 5))
def test_steps_are_those_that_transformers_takes(
    rows: int, batch: int, accumulate: int, epochs: float
) -> None:
    from transformers import Trainer

    section = Sft(batch=batch, accumulate=accumulate, epochs=epochs)
    arguments = SimpleNamespace(
        max_steps=-1, gradient_accumulation_steps=accumulate, num_train_epochs=epochs
    )
    trainer: Any = SimpleNamespace(
        get_total_train_batch_size=lambda _: batch * accumulate,
        get_sp_size=lambda: 1,
        num_examples=lambda _: rows,
    )
    told = Trainer.set_initial_training_values(trainer, arguments, range(-(-rows // batch)))
    assert told[-1] == steps_of(rows, section)


@given(st.integers(1, 5000), COUNTS, COUNTS, COUNTS)
def test_steps_hang_on_the_product_of_batch_accumulate_and_workers(
    rows: int, batch: int, accumulate: int, workers: int
) -> None:
    section = Sft(batch=batch, accumulate=accumulate, workers=workers, epochs=1)
    alone = Sft(batch=batch * accumulate * workers, epochs=1)
    assert steps_of(rows, section) == steps_of(rows, alone)
    assert first_use(rows, rows_per_step(section), steps_of(rows, section))[1] is not None


def told(config: Config, stage: str, round: int) -> Work:
    return next(w for w in works(config) if (w.stage, w.round) == (stage, round))


def test_a_round_of_medgr2_is_fifty_thousand_samples() -> None:
    for name in ("medgr2-7b", "medgr2-7b-lora", "medgr2-3b"):
        config = load(ROOT / "configs" / f"{name}.yaml")
        assert config.rounds == 3
        for round in (1, 2, 3):
            assert told(config, "generate", round).number == 50_000
            assert told(config, "judge", round).number == 50_000
        assert kept(config) == told(config, "select", 1).number == 3125


def test_rows_for_sft_grow_with_the_rounds_by_what_grpo_leaves() -> None:
    config = build({"rounds": 3}, ["grpo.share=0.25"], "x")
    grown = sft_rows(config, 2) - sft_rows(config, 1)
    assert grown == pytest.approx(0.75 * kept(config), abs=1)
    without = build({"rounds": 3}, ["grpo.steps=0"], "x")
    assert sft_rows(without, 2) - sft_rows(without, 1) == kept(config)


def test_turns_are_those_that_sft_makes() -> None:
    """A row that reasons also answers directly, where models are examined so."""
    one = ["generator.styles={step: 1}", "sft.ask_share=0"]
    assert turns_a_row(build({}, [*one, "evaluate.style=direct"], "x")) == 2
    assert turns_a_row(build({}, [*one, "evaluate.style=step"], "x")) == 1
    assert turns_a_row(build({}, [*one, "sft.ask_share=0.5"], "x")) == 2.5


def test_readers_write_no_rows_before_they_are_asked(tmp_path: Path) -> None:
    config = build({}, ["expert=people"], "x")
    stages = [work.stage for work in works(config)]
    assert "seed" not in stages
    assert "tune" not in stages
    verdicts = config.expert.verdicts
    assert told(config, "consult", 0).number == verdicts.first + verdicts.test


def test_a_server_that_rounds_leave_out_costs_nothing() -> None:
    config = build({"rounds": 1}, ["grpo.steps=0"], "x")
    assert {"grpo", "verify", "renew"}.isdisjoint(work.stage for work in works(config))
    more = build({"rounds": 1}, ["verify.pass_rate=true", "generator.refine={}"], "x")
    assert {"grpo", "verify", "renew"} <= {work.stage for work in works(more)}


def test_checkpoints_are_those_that_the_steps_reach() -> None:
    work = Work(stage="sft", round=1, number=9, what="turns", steps=99, save_steps=50)
    assert (work.saves, Work(stage="sft", round=1, number=9, what="turns", steps=9).saves) == (1, 0)
