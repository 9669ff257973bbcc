"""Whatever a file holds, which format it is in, and the record's rows as answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from engine.errors import TriptychError
from reward_model import exchange
from reward_model.exchange import csv, jsonl, parquet
from reward_model.exchange.given import COLUMNS
from reward_model.exchange.opinions import key_of
from reward_model.exchange.recorded import opinions
from reward_model.verdicts import Answer, preferences_of, verdict_of
from tests.reward_model.exchange.opinions import (
    ANSWERS,
    AT,
    IMAGE,
    ITEM,
    ITEMS,
    KNOWN,
    OTHER_IMAGE,
    taken,
)

# Whatever a file holds

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([ITEM, "accept", ""]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["annotations", "data", "result", "value", "choices", "from_name", "completed_by", "id",
             "responses", "verdict", "verdict.responses", "verdict.responses.users", "user_id",
             "fields", "metadata", "item_id", "reader", "reasons", "at", "seconds", "repeat"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@over(content=JSON)
def test_no_json_does_harm(content: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = json.dumps(content)
    for suffix in ("json", "jsonl"):
        path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
        path.write_text(text)
        for format in ("", "label-studio", "argilla"):
            try:
                taken(exchange.read(path, format))
            except TriptychError:
                continue


@settings(max_examples=300, deadline=None)
@over(
    data=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda t: f"item_id,verdict\n{t}".encode())
)
def test_no_bytes_do_harm(data: bytes) -> None:
    for read in (csv.read, jsonl.read, parquet.read):
        try:
            taken(read(data))
        except TriptychError:
            continue


# Which format


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.xlsx", "x", "is a workbook: save the sheet as CSV UTF-8"),
        ("a.doc", "x", "its format cannot be told by its name; give --format"),
        ("a.json", "[{}]", "neither Label Studio's export"),
        ("a.json", "[{", "is no JSON"),
        ("a.json", '[{"image": "x", "annotator": 1, "verdict": "accept"}]', "not JSON-MIN"),
        ("a.json", '[{"a": 1, "a": 2}]', "has the key 'a' twice"),
        ("a.jsonl", '{"a": 1}', "no line has a column of opinions"),
    ],
)
def test_a_file_in_no_format_of_ours_is_told_what_to_do(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TriptychError) as error:
        exchange.read(tmp_path / name)
    assert told in str(error.value)
    assert name in str(error.value)


def test_an_unknown_format_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(TriptychError, match="--format yaml: there are csv, jsonl, parquet"):
        exchange.read(tmp_path / "a.csv", "yaml")
    with pytest.raises(TriptychError, match="--format argilla: there are csv"):
        exchange.out_format(tmp_path / "a.json", "argilla")
    with pytest.raises(TriptychError, match=r"a\.json: which format"):
        exchange.out_format(tmp_path / "a.json")


# The record's rows as answers


def test_opinions_of_the_record_are_answers_again_and_those_of_the_journal_count_once() -> None:
    rows, items = {r.id: r for r in KNOWN.rows}, {i.id: i for i in ITEMS}
    verdicts = [
        verdict_of(a, items.get(a.item_id), rows[a.triplet_id]) for a in ANSWERS if a.verdict
    ]
    images = {IMAGE.id: IMAGE, OTHER_IMAGE.id: OTHER_IMAGE}
    pairs = [
        row
        for a in ANSWERS
        if a.preferences
        for row in preferences_of(
            a, items.get(a.item_id), rows, images[rows[a.triplet_id].image_id]
        )
    ]
    rule = replace(pairs[0], id="rule", expert="implied", at="", item_id="")
    found = opinions([], verdicts, [*pairs, rule], items)
    assert sorted(map(key_of, found)) == sorted(map(key_of, ANSWERS))
    assert opinions(ANSWERS, verdicts, pairs, items) == ANSWERS
    timeless = [replace(row, at="") for row in pairs]  # as simulated readers say it
    assert [a.preferences for a in opinions([], [], [*timeless, rule], items)] == [
        a.preferences for a in ANSWERS if a.preferences
    ]
    undone = Answer(id="u", kind="undo", reader="R1", at=AT, undoes=ANSWERS[0].id)
    assert opinions([*ANSWERS, undone], verdicts, pairs, items) == ANSWERS[1:]


def test_every_column_is_in_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "verdicts.md").read_text()
    assert [name for name in COLUMNS if f"`{name}`" not in page] == []
