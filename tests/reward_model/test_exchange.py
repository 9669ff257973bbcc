"""Opinions in files: each format, what is written and read, and what a stranger's file may hold."""

from __future__ import annotations

import codecs
import csv as standard
import io
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from engine.errors import TriptychError
from engine.records import Item
from reward_model import exchange
from reward_model.exchange import argilla, csv, jsonl, label_studio, parquet
from reward_model.exchange.given import COLUMNS, Given
from reward_model.exchange.opinions import Known, Taken, answers_of, key_of, row_of, said
from reward_model.exchange.recorded import opinions, settled
from reward_model.pseudonyms import looks_like_a_name, pseudonym_problem
from reward_model.verdicts import Answer, preferences_of, verdict_of
from tests.lineage_workspace import make_image, make_item, make_triplet

IMAGE, OTHER_IMAGE = make_image(0, "g0"), make_image(1, "g1")
ROWS = [make_triplet(IMAGE, "m", n, 0) for n in (0, 1)] + [make_triplet(OTHER_IMAGE, "m", 0, 0)]
ORGAN = {"question": "Which organ is shown?", "options": (), "answer": "liver"}
OPEN = replace(make_triplet(OTHER_IMAGE, "m", 5, 0), **ORGAN)  # type: ignore[arg-type]
ITEMS = [
    make_item(ROWS[0], "random", 1),
    make_item(ROWS[0], "informative", 0, ROWS[1]),
    make_item(OPEN, "test", 0),
]
AT = "2026-11-26T10:00:00.000Z"
KNOWN = Known(ITEMS, [*ROWS, OPEN])


def verdict(**more: Any) -> Answer:
    values = {"id": "", "kind": "verdict", "reader": "R1", "at": AT, "item_id": ITEMS[0].id}
    answer = Answer(**values | {"triplet_id": ROWS[0].id, "verdict": "reject"} | more)
    return replace(answer, id=key_of(answer))


def preference(**more: Any) -> Answer:
    about = {"triplet_id": ROWS[0].id, "other_id": ROWS[1].id, "item_id": ITEMS[1].id}
    return verdict(**{"kind": "preference", "verdict": ""} | about | more)


ANSWERS = [
    verdict(reasons=("wrong side", "not visible"), correction="yes", seconds=4.25),
    verdict(reader="R2", verdict="accept", comment='=1+1\n"quoted"; über, \u201codd\u201d'),
    verdict(reader="R2", verdict="cannot tell", repeat=True, at="2026-11-27T10:00:00.123Z"),
    verdict(item_id="", triplet_id=ROWS[2].id, verdict="accept"),
    preference(preferences={"factuality": "first", "relevance": "cannot tell"}),
    preference(reader="R2", preferences={"factuality": "tie", "reasoning": "both bad"}),
    verdict(item_id=ITEMS[2].id, triplet_id=OPEN.id, correction="the spleen"),
]


def rows_of(answers: list[Answer]) -> list[dict[str, object]]:
    items, rows = {i.id: i for i in ITEMS}, {r.id: r for r in KNOWN.rows}
    return [
        row_of(a, items.get(a.item_id), rows[a.triplet_id], rows.get(a.other_id)) for a in answers
    ]


def taken(
    given: Given, before: list[Answer] | None = None, known: Known = KNOWN, **readers: str
) -> Taken:
    entries, so_far = said(given, readers)
    return answers_of(entries, known, before or [], so_far)


def from_text(text: str, **more: Any) -> Taken:
    return taken(csv.read(text.encode()), **more)


@pytest.mark.parametrize("format", exchange.OURS)
def test_what_is_written_comes_back_as_it_was_and_a_second_time_adds_nothing(format: str) -> None:
    data = exchange.OURS[format](rows_of(ANSWERS))
    read = {"csv": csv, "jsonl": jsonl, "parquet": parquet}[format].read(data)
    found = taken(read)
    assert found.refused == []
    assert found.answers == ANSWERS
    again = taken(read, before=found.answers)
    assert (again.answers, again.known, again.refused) == ([], len(ANSWERS), [])
    room = [replace(a, id=f"room {n}") for n, a in enumerate(ANSWERS)]  # other ids, same words
    assert taken(read, before=room).known == len(ANSWERS)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(str.strip)
DANGEROUS = st.text(st.sampled_from("=+-@\t\r\n'\";,| a\uff1d"), max_size=12)


@settings(max_examples=300, deadline=None)
@over(comment=TEXT | DANGEROUS.map(str.strip), seconds=st.none() | st.floats(0, 1e6))
def test_any_comment_comes_back_from_each_format(comment: str, seconds: float | None) -> None:
    answer = verdict(comment=comment, seconds=seconds)
    for read, write in (
        (csv.read, csv.write),
        (jsonl.read, jsonl.write),
        (parquet.read, parquet.write),
    ):
        assert taken(read(write(rows_of([answer])))).answers == [answer]


@settings(max_examples=300, deadline=None)
@over(cell=DANGEROUS | TEXT)
def test_no_cell_runs_in_a_spreadsheet_and_each_comes_back(cell: str) -> None:
    shown = csv.harmless(cell)
    assert csv.meant(shown) == cell
    for delimiter in ",;\t|":
        for part in shown.split(delimiter):
            assert part[:1] not in ("=", "+", "-", "@", "\r", "\uff1d")


def test_a_formula_is_text_in_the_file() -> None:
    comment = '=HYPERLINK("http://x","open")'
    data = csv.write(rows_of([verdict(comment=comment)]))
    text = data.decode("utf-8-sig")
    row = next(standard.DictReader(io.StringIO(text, newline="")))
    assert row["comment"] == f"'{comment}"
    assert data.startswith(codecs.BOM_UTF8)
    assert text.endswith("\r\n")


HEAD = "item_id,reader,verdict,comment"
ITEM = ITEMS[0].id


@pytest.mark.parametrize(
    "data",
    [
        f"{HEAD}\n{ITEM},R1,accept,Löwe\n".encode(),
        f"{HEAD}\n{ITEM},R1,accept,Löwe\n".encode("utf-8-sig"),
        f"{HEAD}\n{ITEM},R1,accept,Löwe\n".encode("cp1252"),
        f"{HEAD}\n{ITEM},R1,accept,Löwe\n".encode("utf-16"),
        f"{HEAD}\n{ITEM},R1,accept,Löwe\n".replace(",", "\t").encode("utf-16"),
        f"{HEAD}\n{ITEM},R1,accept,Löwe\n".replace(",", ";").replace("\n", "\r\n").encode("cp1252"),
        f"sep=;\r\n{HEAD}\r\n{ITEM},R1,accept,Löwe\r\n".replace(",", ";").encode(),
        f'\n"Item ID",Reader,"VERDICT",comment\n\n{ITEM.upper()},R1, Accept ,Löwe\n,,,\n'.encode(),
        f"{HEAD}\r{ITEM},R1,accept,Löwe\r".encode(),
        f"{HEAD}\n{ITEM[:8]},R1,accept,Löwe".encode(),
    ],
    ids=[
        "UTF-8", "mark", "Windows-1252", "UTF-16", "Unicode text", "semicolons", "sep=",
        "empty lines and other cases", "CR alone", "the beginning of an id",
    ],
)  # fmt: skip
def test_a_table_is_read_as_spreadsheets_write_it(data: bytes) -> None:
    found = taken(csv.read(data))
    assert found.refused == []
    assert [(a.item_id, a.verdict, a.comment) for a in found.answers] == [(ITEM, "accept", "Löwe")]


def test_windows_1252_is_said_since_it_is_guessed() -> None:
    found = csv.read(f"{HEAD}\n{ITEM},R1,accept,Löwe\n".encode("cp1252"))
    assert "Windows-1252" in found.notes[0]


def refused(rows: str, head: str = HEAD) -> str:
    found = from_text(f"{head}\n{ITEM},R9,accept,good one\n{rows}\n{ITEM},R8,accept,another\n")
    assert [a.reader for a in found.answers] == ["R9", "R8"]  # the good ones are taken
    assert len(found.refused) == 1
    return found.refused[0]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (f"{ITEM},R1,acept,", "line 3, column verdict: 'acept' is none of accept, reject,"),
        (f"{ITEM},R1,,", "line 3, column verdict: is empty: give one of accept"),
        (f"{ITEM},,accept,", "line 3, column reader: is empty: name who says so, or give --reader"),
        (f"{ITEM},anna@x.org,accept,", "column reader: 'anna@x.org' is an e-mail address"),
        (f"{ITEM},Anna Smith,accept,", "column reader: 'Anna Smith' is no pseudonym"),
        (f"{ITEM},anna.smith,accept,", "column reader: 'anna.smith' looks like a person's name"),
        (f"{ITEM},Dr_Who,accept,", "column reader: 'Dr_Who' looks like a person's name"),
        ("zzzzzzzz,R1,accept,", "column item_id: no item has an id that begins with 'zzzzzzzz'"),
        ('"1,5E+30",R1,accept,', "a spreadsheet may have taken it for a number"),
        (f"{ITEM[:3]},R1,accept,", "column item_id: '" + ITEM[:3] + "' is too short: give 6"),
        (",R1,accept,", "column item_id: nothing says what it is about: give item_id"),
        (f"{ITEMS[1].id},R1,accept,", "asks which of two is better: answer that"),
        (f"{ITEM},R1,accept,{'x' * 2001}", "column comment: has 2001 characters, and 2000"),
        (f"{ITEM},R1,accept,a,b", "line 3: 5 cells and 4 columns: put a cell that holds a comma"),
        (f'{ITEM},R1,"accept"x,b', "line 3: ',' expected after '\"'"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_line_and_column_and_the_good_ones_are_taken(
    row: str, told: str
) -> None:
    assert told in refused(row)


OTHERS = "item_id,reader,verdict,reasons,correction,at,seconds,repeat"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("reject,bad smell,,,,", "column reasons: 'bad smell' is none of wrong finding"),
        ("accept,wrong side,,,,", "column reasons: only what is rejected has any"),
        ("accept,,yes,,,", "column correction: only what is rejected has any"),
        ("reject,,perhaps,,,", "column correction: 'perhaps' is none of yes | no"),
        ("reject,,no,,,", "column correction: 'no' is the answer that is rejected"),
        ("accept,,,11/26/2026,,", "column at: '11/26/2026' is no time: write 2026-11-26T14:30"),
        ("accept,,,,soon,", "column seconds: 'soon' is no number of seconds"),
        ("accept,,,,-4,", "column seconds: '-4' is no number of seconds"),
        ("accept,,,,inf,", "column seconds: 'inf' is no number of seconds"),
        ("accept,,,,,maybe", "column repeat: 'maybe' is neither true nor false"),
    ],
)  # fmt: skip
def test_a_bad_value_is_told_with_what_would_be_right(values: str, told: str) -> None:
    found = from_text(f"{OTHERS}\n{ITEM},R1,{values}\n")
    assert found.answers == []
    assert f"line 2, {told}" in found.refused[0]


def test_a_quote_that_never_closes_takes_no_row_before_it_along() -> None:
    found = from_text(
        f'{HEAD}\n{ITEM},R1,accept,fine\n{ITEM},R2,accept,"open\n{ITEM},R3,accept,x\n'
    )
    assert [a.reader for a in found.answers] == ["R1"]
    assert "line 3: a quote that is opened is never closed" in found.refused[0]


def test_lines_are_counted_over_quoted_line_breaks() -> None:
    text = f'{HEAD}\n{ITEM},R1,accept,"one\ntwo\r\nthree"\n{ITEM},R2,no,\n'
    found = from_text(text)
    assert found.answers[0].comment == "one\ntwo\r\nthree"
    assert found.refused[0].startswith("line 5, column verdict")
    after = from_text(f"sep=,\n{text}")
    assert after.refused[0].startswith("line 6, column verdict")


def test_columns_that_are_not_ours_are_said_and_those_that_are_there_twice_refused() -> None:
    found = from_text(f"{HEAD},ward,Shift No\n{ITEM},R1,accept,,7b,2\n")
    assert found.answers
    assert found.notes == ["columns that are not read: 'ward', 'shift_no'"]
    with pytest.raises(TriptychError, match=r"'verdict' is there 2 times \(columns 3, 5\)"):
        from_text(f"{HEAD},Verdict\n{ITEM},R1,accept,,reject\n")
    with pytest.raises(TriptychError, match=r"names no column of opinions.*it has 'a', 'b'"):
        from_text("a,b\n1,2\n")
    with pytest.raises(TriptychError, match="the file is empty"):
        from_text("\n\n")
    with pytest.raises(TriptychError, match="the file is no text"):
        csv.read(b"\x81\x8d\x00\xff\x9d")
    with pytest.raises(TriptychError, match="the file is no text"):
        csv.read(codecs.BOM_UTF16_LE + b"a\x00b")


def test_times_without_a_zone_are_utc_and_said() -> None:
    head = "item_id,reader,verdict,at"
    zoned = from_text(f"{head}\n{ITEM},R1,accept,2026-11-26T11:00:00+01:00\n")
    assert (zoned.answers[0].at, zoned.notes) == (AT, [])
    bare = from_text(f"{head}\n{ITEM},R1,accept,2026-11-26 10:00\n")
    assert bare.answers[0].at == AT
    assert bare.notes == ["1 times have no zone and were taken for UTC"]
    assert zoned.answers[0].id == bare.answers[0].id
    row = {"item_id": ITEM, "reader": "R1", "verdict": "accept", "at": datetime(2026, 11, 26, 10)}
    table = pa.Table.from_pylist([row])
    out = io.BytesIO()
    pq.write_table(table, out)
    assert taken(parquet.read(out.getvalue())).answers[0].id == bare.answers[0].id


def test_an_opinion_without_a_time_is_of_when_it_was_imported_and_known_by_its_words() -> None:
    one = from_text(f"{HEAD}\n{ITEM},R1,accept,\n")
    assert one.answers[0].at > "2026"
    later = [replace(a, at="2027-01-01T00:00:00.000Z") for a in one.answers]
    assert from_text(f"{HEAD}\n{ITEM},R1,accept,\n", before=later).known == 1


def test_a_decimal_comma_and_reasons_in_any_case_are_understood() -> None:
    text = f'{OTHERS}\n{ITEM},R1,Reject,Wrong_Side | not-visible,YES,,"3,5",TRUE\n'
    answer = from_text(text).answers[0]
    assert (answer.seconds, answer.repeat, answer.correction) == (3.5, True, "yes")
    assert answer.reasons == ("wrong side", "not visible")


def test_what_nobody_asked_is_given_and_found_by_its_words() -> None:
    head = "image_id,question,answer,other_answer,reader,verdict,factuality"
    words = f"{IMAGE.id},Is there  a lesion?"
    found = from_text(f"{head}\n{words},no,,R1,reject,\n{words},no,yes,R1,,first\n")
    assert found.refused == []
    assert [(a.item_id, a.triplet_id, a.other_id) for a in found.answers] == [
        ("", ROWS[0].id, ""), ("", ROWS[0].id, ROWS[1].id),
    ]  # fmt: skip
    assert found.notes == ["2 name no item: they count as given, and certify nothing"]
    bad = from_text(
        f"{head}\n{words},maybe,,R1,reject,\n{IMAGE.id},Why?,no,,R1,reject,\n{IMAGE.id},,no,,R1,reject,\n"
        f"{words},no,no,R1,,first\n0123456789ab,Is it?,no,,R1,reject,\n"
    ).refused
    assert "line 2, column answer: no row answers so; the answers to this question are" in bad[1]
    assert "line 3, column question: no row asks this of the image" in bad[2]
    assert "line 4, column question: is empty: give item_id or triplet_id, or image_id" in bad[0]
    assert "line 5, column other_id: a preference is between two rows of one image" in bad[3]
    assert "line 6, column image_id: no image has an id that begins with '0123456789ab'" in bad[4]


def test_rows_that_say_the_same_are_told_apart_by_an_id() -> None:
    double = replace(ROWS[0], id="f" * 32, rationale="There is a lesion.")
    text = f"image_id,question,answer,reader,verdict\n{IMAGE.id},Is there a lesion?,no,R1,reject\n"
    found = from_text(text, known=Known([], [*ROWS, double]))
    assert "2 rows say so, and differ" in found.refused[0]
    assert "give triplet_id" in found.refused[0]
    equal = replace(double, rationale=ROWS[0].rationale, round=3)
    assert from_text(text, known=Known([], [equal, *ROWS])).answers[0].triplet_id == ROWS[0].id


def test_columns_that_were_sorted_apart_are_noticed() -> None:
    head = "triplet_id,question,answer,reader,verdict"
    found = from_text(f"{head}\n{ROWS[0].id},Is there a lesion?,yes,R1,accept\n")
    assert "column answer: 'yes' is not what row" in found.refused[0]
    assert "were the columns sorted apart?" in found.refused[0]


def test_what_was_withdrawn_is_not_taken_again() -> None:
    known = Known([], [], {ITEM, ROWS[0].id}, {"R7": "2026-11-01T00:00:00Z"})
    assert (
        "was withdrawn: nothing is taken about it"
        in from_text(f"{HEAD}\n{ITEM},R1,accept,\n", known=known).refused[0]
    )
    known = replace(known, items=ITEMS, rows=ROWS, gone=())
    head = f"{HEAD},at\n{ITEM},R7,accept,,"
    assert from_text(f"{head}2026-11-02\n", known=known).answers[0].reader == "R7"
    assert "R7 was withdrawn on" in from_text(f"{head}2026-10-31\n", known=known).refused[0]
    assert (
        "R7 was withdrawn on 2026-11-01"
        in from_text(f"{HEAD}\n{ITEM},R7,accept,\n", known=known).refused[0]
    )


def test_what_is_in_the_record_is_not_answered_otherwise() -> None:
    row = verdict_of(ANSWERS[0], ITEMS[0], ROWS[0])
    known = Known(ITEMS, ROWS, settled=settled([row], [], {}))
    text = f"{HEAD}\n{ITEM},R1,accept,\n{ITEM},R2,accept,\n"
    found = from_text(text, known=known)
    assert [a.reader for a in found.answers] == ["R2"]
    told = "line 2, column verdict: another answer of R1 to this is in the record, and stays"
    assert found.refused == [told]


def test_readers_get_pseudonyms_from_who_imports() -> None:
    text = f"{HEAD}\n{ITEM},anna@x.org,accept,\n{ITEM},,accept,\n{ITEM},R3,accept,\n"
    entries, so_far = said(csv.read(text.encode()), {"anna@x.org": "R1", "": "R2"})
    found = answers_of(entries, KNOWN, [], so_far)
    assert [a.reader for a in found.answers] == ["R1", "R2", "R3"]


@pytest.mark.parametrize(
    "name",
    ["anna@x.org", "Anna Smith", "a b", "", "x" * 41, "anna.smith", "SmithAnna", "prof_x", "-R1",
     "R1\n", "Dr.Miller", "=R1", "müller"],
)  # fmt: skip
def test_a_name_is_no_pseudonym(name: str) -> None:
    assert pseudonym_problem(name)


@pytest.mark.parametrize(
    "name",
    ["R1", "reader-2", "c9b7a1e2-0000-4000-8000-0123456789ab", "label-studio-10", "site_b.r4"],
)
def test_a_pseudonym_may_be(name: str) -> None:
    assert pseudonym_problem(name) is None
    assert not looks_like_a_name(name)


def test_a_readers_work_beside_a_name_is_none_yet() -> None:
    assert pseudonym_problem("reader.anna") is None


def test_a_surname_alone_may_be_a_pseudonym_and_is_asked_about() -> None:
    found = from_text(f"{HEAD}\n{ITEM},miller,accept,\n")
    assert "readers who may be called so in truth: miller" in found.notes[0]


def test_json_lines_with_a_fault_are_named() -> None:
    good = {"item_id": ITEM, "reader": "R1", "verdict": "accept"}
    lines = [
        json.dumps(good), "", "{", "[1]", '{"verdict": "accept", "verdict": "reject"}',
        json.dumps(good | {"comment": 4}),
        json.dumps(good | {"reader": "R2", "ward": 1, "seconds": 2}),
    ]  # fmt: skip
    found = taken(jsonl.read("\n".join(lines).encode()))
    assert [a.reader for a in found.answers] == ["R1", "R2"]
    assert found.refused == [
        "line 3: is no JSON object, of one opinion",
        "line 4: is no JSON object, of one opinion",
        "line 5, column verdict: is there twice: keep one",
        "line 6, column comment: '4' is no text: put it into quotes",
    ]
    assert found.notes == ["columns that are not read: 'ward'"]


def test_parquet_of_pandas_is_read_and_a_row_is_named(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({
        "triplet_id": [ROWS[0].id, ROWS[1].id, None], "reader": ["R1", "R1", "R1"],
        "verdict": ["accept", "nope", "accept"], "seconds": [float("nan"), 2.0, 1.0],
        "comment": [float("nan"), "a", "b"], "reasons": [None, None, None],
    })  # fmt: skip
    frame.to_parquet(tmp_path / "a.parquet")
    found = taken(exchange.read(tmp_path / "a.parquet"))
    assert [(a.triplet_id, a.seconds) for a in found.answers] == [(ROWS[0].id, None)]
    assert [line.split(":")[0] for line in found.refused] == [
        "row 2, column verdict", "row 3, column item_id",
    ]  # fmt: skip
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:200])
    with pytest.raises(TriptychError, match=r"cut\.parquet: it is no Parquet, or cut off"):
        exchange.read(tmp_path / "cut.parquet")


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
    page = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text()
    assert [name for name in COLUMNS if f"`{name}`" not in page] == []
