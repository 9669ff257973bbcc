"""Opinions as Label Studio and Argilla export them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import TriptychError
from engine.records import Item
from reward_model import exchange
from reward_model.exchange import argilla, label_studio
from reward_model.exchange.opinions import Known
from tests.lineage_workspace import make_item
from tests.reward_model.exchange.opinions import (
    IMAGE,
    ITEM,
    ITEMS,
    KNOWN,
    OTHER_IMAGE,
    ROWS,
    taken,
    verdict,
)

# Label Studio


def annotation(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    """As an export has it, with what else stands there."""
    return {
        "id": 1001, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-11-26T10:00:00.000000Z", "updated_at": "2026-11-27T00:00:00.728378Z",
        "draft_created_at": None, "lead_time": 4.288, "prediction": {}, "result_count": 1,
        "task": 1,
        "unique_id": "7c1f", "import_id": None, "parent_prediction": None, "completed_by": 10,
    } | more  # fmt: skip


def chosen(name: str, *words: str) -> dict[str, Any]:
    return {"id": "Dx_aB91ISN", "type": "choices", "origin": "manual", "from_name": name,
            "to_name": "shown", "value": {"choices": list(words)}}  # fmt: skip


def typed(name: str, *texts: str) -> dict[str, Any]:
    return {"id": "q1", "type": "textarea", "origin": "manual", "from_name": name,
            "to_name": "shown", "value": {"text": list(texts)}}  # fmt: skip


def task(data: dict[str, Any], *annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": 1, "annotations": list(annotations), "file_upload": "a-tasks.json", "drafts": [],
        "predictions": [{"result": [chosen("verdict", "accept")]}], "data": data, "meta": {},
        "created_at": "2026-11-26T09:00:00Z", "updated_at": "2026-11-27T00:00:01Z", "project": 83,
        "inner_id": 1, "total_annotations": 1, "cancelled_annotations": 0, "comment_count": 0,
    }  # fmt: skip


def exported_tasks(items: list[Item]) -> list[dict[str, Any]]:
    rows = {row.id: row for row in KNOWN.rows}
    pictures = dict.fromkeys((IMAGE.id, OTHER_IMAGE.id), b"\x89PNG")
    verdicts, preferences = label_studio.tasks(items, rows, pictures)
    return [*verdicts, *preferences]


def test_label_studios_answers_to_our_tasks_come_back_as_answers_to_items(tmp_path: Path) -> None:
    data = exported_tasks([ITEMS[0]])[0]["data"]
    results = [
        chosen("verdict", "reject"), chosen("reasons", "wrong side", "not visible"),
        typed("correction", "yes"), typed("comment", "first line", "second"), chosen("mood", "bad"),
    ]  # fmt: skip
    content = [task(data, annotation(*results), annotation(was_cancelled=True, result=[]))]
    (tmp_path / "project-83.json").write_text(json.dumps(content))
    found = taken(exchange.read(tmp_path / "project-83.json"))
    assert found.refused == []
    assert found.answers == [
        verdict(reader="label-studio-10", reasons=("wrong side", "not visible"), correction="yes",
                comment="first line\nsecond", seconds=4.288)
    ]  # fmt: skip
    assert found.notes == [
        "1 annotations were skipped by their annotators: no answers",
        "controls that are not read: 'mood'",
    ]


@pytest.mark.parametrize("way", ["pairwise", "choices"])
def test_left_is_who_stood_left(way: str) -> None:
    sides = set()
    for round in range(12):
        item = make_item(ROWS[0], "informative", round, ROWS[1])
        data = exported_tasks([item])[0]["data"]
        left = data["left"].split()[0]
        result = chosen("factuality", "left")
        if way == "pairwise":
            result |= {"type": "pairwise", "value": {"selected": "left"}}
        read = label_studio.read([task(data, annotation(result))])
        answer = taken(read, known=Known([item], ROWS)).answers[0]
        said_better = {"first": ROWS[0], "second": ROWS[1]}[answer.preferences["factuality"]]
        assert said_better.answer == left
        sides.add(label_studio.flipped(item.id))
    assert sides == {True, False}


def test_an_annotators_name_and_address_are_not_looked_at() -> None:
    user = {"id": 7, "email": "anna@x.org", "first_name": "Anna", "last_name": "Smith"}
    data = {"triplet_id": ROWS[0].id}
    whole = label_studio.read(
        [task(data, annotation(chosen("verdict", "accept"), completed_by=user))]
    )
    assert taken(whole).answers[0].reader == "label-studio-7"
    told = label_studio.read(
        [task(data, annotation(chosen("verdict", "accept"), completed_by="anna@x.org"))]
    )
    assert (
        "/0/annotations/0/completed_by: 'anna@x.org' is an e-mail address" in taken(told).refused[0]
    )


def test_a_bad_annotation_is_named_by_its_pointer() -> None:
    data = {"triplet_id": ROWS[0].id}
    content = [
        task(data, annotation(typed("comment", "x"), chosen("verdict", "fine"))),
        task({"image": "x"}, annotation(chosen("verdict", "accept"))),
        task({"triplet_id": "0" * 32}, annotation(chosen("verdict", "accept"))),
        {"id": 4, "annotations": [], "data": None},
        task(data, annotation()),
    ]
    lines = taken(label_studio.read(content)).refused
    assert lines == [
        "/3: is no task with data and annotations",
        "/0/annotations/0/result/1: 'fine' is none of accept, reject, cannot tell",
        "/1/annotations/0: nothing says what it is about: give item_id or triplet_id",
        "/4/annotations/0: is empty: give one of accept, reject, cannot tell",
        f"/2/data/triplet_id: no row has an id that begins with '{'0' * 32}'",
    ]


def test_the_labelling_configuration_asks_for_our_columns() -> None:
    from xml.etree import ElementTree

    for kind, names in (
        ("verdict", {"verdict", "reasons", "correction", "comment"}),
        ("preference", {"factuality", "reasoning", "relevance", "comment"}),
    ):
        tree = ElementTree.fromstring(label_studio.config(kind))
        controls = [e for e in tree if e.tag in ("Choices", "TextArea")]
        assert {e.get("name") for e in controls} == names
        shown = {e.get("name"): e.get("value", "")[1:] for e in tree if e.tag in ("Image", "Text")}
        assert {e.get("toName") for e in controls} <= shown.keys()
        item = ITEMS[kind == "preference"]
        data = exported_tasks([item])[0]["data"]
        assert set(shown.values()) <= data.keys()
        assert names & data.keys() == set()  # nothing tells what another reader said
        assert data["question"] == "Is there a lesion?\n- yes\n- no"
        assert data["image"].startswith("data:image/png;base64,")


# Argilla

USER, OTHER_USER = "3f2a8c1e-5b7d-4c1a-9a3e-0c4b7d2f1a6b", "aaaaaaaa-5b7d-4c1a-9a3e-0c4b7d2f1a6b"


def record(**more: Any) -> dict[str, Any]:
    """As `records.to_json` writes one."""
    return {
        "id": "rec-1", "fields": {"question": "Is there a lesion?", "answer": "no"},
        "metadata": {"item_id": ITEM},
        "suggestions": {"verdict": {"value": "accept", "score": 0.9, "agent": "judge"}},
        "responses": {
            "verdict": [
                {"value": "reject", "user_id": USER}, {"value": "accept", "user_id": OTHER_USER},
            ],
            "reasons": [{"value": ["wrong side"], "user_id": USER}],
            "correction": [{"value": "yes", "user_id": USER}],
            "mood": [{"value": 3, "user_id": USER}],
        },
        "vectors": {}, "_server_id": "b1b1b1b1-5b7d-4c1a-9a3e-0c4b7d2f1a6b",
    } | more  # fmt: skip


def flat() -> dict[str, Any]:
    """As `records.to_datasets` has it."""
    return {
        "id": "rec-1", "status": "completed", "_server_id": "b1b1", "item_id": ITEM,
        "question": "Is there a lesion?", "answer": "no",
        "verdict.responses": ["reject", "accept", "accept"],
        "verdict.responses.users": [USER, OTHER_USER, "9" * 8],
        "verdict.responses.status": ["submitted", "submitted", "draft"],
        "reasons.responses": [["wrong side"]], "reasons.responses.users": [USER],
        "reasons.responses.status": ["submitted"],
        "correction.responses": ["yes"], "correction.responses.users": [USER],
        "correction.responses.status": ["submitted"],
        "verdict.suggestion": "accept", "verdict.suggestion.agent": "judge",
    }  # fmt: skip


def forms(folder: Path) -> dict[str, Path]:
    columns = {name: [value] for name, value in flat().items()}
    written = {
        "nested.json": json.dumps([record()]),
        "by-id.json": json.dumps({"rec-1": record()}),
        "names.json": json.dumps({name: [value] for name, value in record().items()}),
        "flat.jsonl": json.dumps(flat()) + "\n",
        "flat-names.json": json.dumps(columns),
    }
    for name, text in written.items():
        (folder / name).write_text(text)
    pq.write_table(pa.table(columns), folder / "flat.parquet")
    return {name: folder / name for name in (*written, "flat.parquet")}


def test_argillas_export_is_read_in_each_of_its_forms(tmp_path: Path) -> None:
    for name, path in forms(tmp_path).items():
        found = taken(exchange.read(path))
        assert found.refused == [], name
        told = [(a.reader, a.verdict, a.reasons, a.correction, a.item_id) for a in found.answers]
        assert told == [
            (USER, "reject", ("wrong side",), "yes", ITEM),
            (OTHER_USER, "accept", (), "", ITEM),
        ]
        left = "1 responses are drafts or were discarded: no answers"
        assert (left in found.notes) == ("flat" in name)
        assert ("questions that are not read: 'mood'" in found.notes) == ("flat" not in name)


def test_argillas_rankings_and_labels_are_preferences() -> None:
    ranked = [{"value": "first", "rank": 2}, {"value": "second", "rank": 1}]
    even = [{"value": "first", "rank": 1}, {"value": "second", "rank": 1}]
    responses = {
        "factuality": [{"value": ranked, "user_id": USER}],
        "reasoning": [{"value": even, "user_id": USER}],
        "relevance": [{"value": "both bad", "user_id": USER}],
    }
    read = argilla.read([record(id=ITEMS[1].id, metadata={}, fields={}, responses=responses)])
    assert taken(read).answers[0].preferences == {
        "factuality": "second", "reasoning": "tie", "relevance": "both bad",
    }  # fmt: skip


def test_a_bad_response_of_argilla_is_named_by_its_pointer() -> None:
    bad = record(responses={"verdict": [{"value": "yes!", "user_id": USER}]})
    twice = record(
        responses={"verdict": [{"value": w, "user_id": USER} for w in ("accept", "reject")]}
    )
    found = taken(argilla.read([bad, twice, record(metadata={}, responses={"verdict": []})]))
    assert (
        found.refused[1] == "/0/responses/verdict/0: 'yes!' is none of accept, reject, cannot tell"
    )
    assert "/1/responses/verdict/1: user 3f2a8c1e" in found.refused[0]
    with pytest.raises(TriptychError, match="/0/responses/verdict/0: is no response"):
        argilla.read([record(responses={"verdict": ["accept"]})])
