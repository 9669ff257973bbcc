"""The tiny model asked with an image, without any, with a grey one and with another's."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from engine.config.backend import Transformers
from engine.config.select import Verified
from engine.config.verify import Rubric
from engine.vlm import tiny
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import VLM, Sampling
from generators.filters import refused
from generators.verification.blind import Answering, answered
from generators.verification.rubric import Assessing, assessed
from generators.verification.votes import counted, questions_of
from tests.drawn_workspace import answered as row_about
from tests.drawn_workspace import drawn
from tests.pictures import PNG

IMAGES = [drawn("MR", n, size=96) for n in range(3)]
ROWS = [
    row_about(image, "Which imaging modality is shown?", said, ("MR", "ultrasound"), sample=n)
    for image in IMAGES
    for n, said in enumerate(("MR", "MR", "ultrasound"))
]
OTHERS = {a.id: b.id for a, b in pairwise(IMAGES)}  # the last has none
GREEDY = Sampling(1, 0.0, 16, 0)
HOW = Answering("tiny", "compact", ("none", "blank", "other"), GREEDY)


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return open_vlm(Transformers(max_model_len=1024), str(tiny.FOLDER), 1)


def test_it_answers_with_and_without_an_image_the_same_in_any_batch(vlm: VLM) -> None:
    questions, rows = questions_of(ROWS), {row.id: row for row in ROWS}
    votes = counted(questions, 1)
    together = answered(vlm, votes, rows, PNG, OTHERS, HOW)
    alone = [one for vote in votes for one in answered(vlm, [vote], rows, PNG, OTHERS, HOW)]
    assert together == alone
    for one in together:
        said = json.loads(one.blind)
        asked = {"image", "none", "blank"} | ({"other"} if one.image_id in OTHERS else set())
        assert said.keys() == asked
        assert {sum(s["answers"].values()) + s["unreadable"] for s in said.values()} == {1}
        assert one.other_id == OTHERS.get(one.image_id, "")
        assert one.margin in (-1.0, 0.0, 1.0)
    # What it was trained for it answers right where it sees the image.
    seen = [json.loads(one.blind)["image"]["answers"] for one in together]
    assert seen.count({"mr": 1}) >= 2


def test_a_model_that_knows_no_rubric_passes_nothing(vlm: VLM) -> None:
    asks = Rubric(model="m").asks
    few = {name: asks.items[name] for name in ("self_contained", "agrees_with_image")}
    how = Assessing("tiny", asks.model_copy(update={"items": few}), 1, replace(GREEDY))
    questions = questions_of(ROWS[:3])
    (one,) = assessed(vlm, counted(questions, 1), questions, PNG, how)
    told = json.loads(one.rubric)
    replies = [told["items"]["self_contained"], told["answers"]["mr"]["items"]["agrees_with_image"]]
    for reply in replies:
        assert reply["yes"] is not None or reply["why"]
    if any(reply["yes"] is None for reply in replies):
        assert refused(ROWS[0], one, Verified(rubric=0.0)) is not None
