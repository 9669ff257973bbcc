"""The longest prompts: no task's own words are longer, and what is written is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import Config, build
from engine.prompts import ask_prompt
from generators.quotas import wanted_of
from generators.tasks import draw_tasks, uniform_mix
from pipelines.training.preflight.lengths import TEMPLATE, Longest, longest
from pipelines.training.preflight.models import by_letters, describe


def prompts(config: Config, image: int = 100) -> dict[str, Longest]:
    return {one.what: one for one in longest(config, image, by_letters)}


@pytest.mark.parametrize("words", ["full", "compact"])
def test_no_task_that_is_drawn_has_a_longer_prompt(words: str) -> None:
    config = build({}, [f"generator.prompts={words}"], "x")
    section = config.generator
    modalities = ["CT", "MR", "X-ray", "histology"]
    images = [(f"{n}", str(np.random.default_rng(n).choice(modalities)), "") for n in range(40)]
    wanted = wanted_of(300, section.styles, section.quotas)
    drawn = draw_tasks(images, uniform_mix(modalities), wanted, 0)
    longer = max(by_letters(ask_prompt(words, task.to_dict())) for _, task in drawn.pairs)
    assert prompts(config)["asking"].prompt >= longer + 100 + TEMPLATE


def test_a_picture_and_a_reply_of_max_tokens_count() -> None:
    config = build({}, [], "x")
    small, large = prompts(config, 100), prompts(config, 300)
    assert all(large[what].prompt == small[what].prompt + 200 for what in small)
    longer = prompts(build({}, ["generator.max_tokens=148"], "x"))
    assert longer["asking"].whole == small["asking"].whole + 100  # the reply
    assert longer["answering"].whole == small["answering"].whole + 200  # and the question
    assert longer["judging"].whole == small["judging"].whole + 200


def test_second_tries_and_debates_are_counted_where_there_are_any() -> None:
    plain = build({}, ["generator.prompts=full", "generator.retries=0"], "x")
    both = build({}, ["generator.prompts=full", "generator.styles={debate: 1}"], "x")
    assert {"debating", "a second try"}.isdisjoint(prompts(plain))
    told = prompts(both)
    assert told["a second try"].prompt > told["debating"].prompt > told["answering"].prompt


def test_a_limit_is_the_backends() -> None:
    config = build({}, ["evaluate.backend={kind: vllm, max_model_len: 777}"], "x")
    told = prompts(config)
    assert (told["examining"].limit, told["asking"].limit) == (777, 512)
    server = build({}, ["generator.backend={kind: endpoint, url: x}", "generator.model=x"], "x")
    assert prompts(server)["asking"].limit is None


def test_the_tiny_models_own_tokenizer_counts() -> None:
    tiny = describe(build({}, [], "x").base_model())
    assert tiny.tokenizer
    assert tiny.count("Is there a lesion?") < len("Is there a lesion?")
