"""Opinions in CSV, JSON Lines and Parquet of ours, as spreadsheets and people change them."""

from __future__ import annotations

import codecs
import csv as standard
import io
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from engine.errors import TriptychError
from reward_model import exchange
from reward_model.exchange import csv, jsonl, parquet
from reward_model.exchange.opinions import Known, answers_of, said
from reward_model.exchange.recorded import settled
from reward_model.pseudonyms import looks_like_a_name, pseudonym_problem
from reward_model.verdicts import verdict_of
from tests.reward_model.exchange.opinions import (
    ANSWERS,
    AT,
    IMAGE,
    ITEM,
    ITEMS,
    KNOWN,
    ROWS,
    from_text,
    rows_of,
    taken,
    verdict,
)


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
