"""Gold values: what is no text is refused by name, and the rest goes on."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.answers.gold import NotText, gold_problem, text_of
from engine.answers.matching import is_correct
from engine.answers.spelling import normalise_question, says_something
from engine.config import build
from engine.errors import TriptychError
from engine.imaging.table import read_table
from engine.records import Image, Refusal
from engine.sets.vqa_rad import load_vqa_rad, read_vqa_rad
from engine.workspace import Workspace
from pipelines.ingest import REPORT
from pipelines.source import _asked_about
from reward_model.experts import open_expert
from tests.commands import command
from tests.lineage_workspace import make_image

NAN = float("nan")
CONFIG = Path(__file__).parents[2] / "configs" / "vqa-rad.yaml"
VQA_RAD = Path(__file__).parents[3] / "shared" / "data" / "vqa_rad"


def row(number: int, question: Any, answer: Any, **more: Any) -> dict[str, Any]:
    """A row in VQA-RAD's form about image `number`."""
    return {
        "qid": str(number),
        "image_name": f"im{number}.png",
        "image_case_url": f"case{number}",
        "image_organ": "CHEST",
        "question": question,
        "question_type": "PRES",
        "answer": answer,
    } | more


def rad(folder: Path, rows: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "d.json").write_text(json.dumps(rows))
    return folder


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        (NAN, "NaN"),
        (float("inf"), "infinite"),
        (True, "boolean"),
        (False, "boolean"),
        (["left", "right"], "list"),
        ({"side": "left"}, "object"),
        ("", "empty"),
        (" \n\t", "empty"),
        ("nan", "missing"),
        ("NaN", "missing"),
        ("NULL", "missing"),
        ("None", "write 'none'"),
        ("<NA>", "missing"),
        ("N/A", "missing"),
        ("['left', 'right']", "written as text"),
        ("{'side': 'left'}", "written as text"),
        ("b'left'", "written as text"),
        ("None.", "write 'none'"),
        ("'None'", "write 'none'"),
        ("nan.", "missing"),
        ("-nan", "missing"),
        ("-NaN", "missing"),
        ("inf", "missing"),
        ("-inf", "missing"),
        ("+Infinity", "missing"),
        ("#VALUE!", "missing"),
        ("#REF!", "missing"),
        ("#DIV/0!", "missing"),
        ("#NAME?", "missing"),
        ("#NUM!", "missing"),
        ("n.a.", "missing"),
        ("N.A.", "missing"),
        ("n. a.", "missing"),
        ("#N/A N/A", "missing"),
        ("#NA", "missing"),
        ("-1.#IND", "missing"),
        ("NA.", "missing"),
        ("null,", "missing"),
        ("(null)", "missing"),
        ("<NULL>", "missing"),
        ('"nan"', "missing"),
        ("('left', 'right')", "written as text"),
        ("('left',)", "written as text"),
        ("('left', None)", "written as text"),
        ("(None, 'left')", "written as text"),
        ("(1, 'left')", "written as text"),
        ("(1,)", "written as text"),
        ("(('left', 'right'), 'both')", "written as text"),
        ('("left", "right")', "written as text"),
        ("array(['left'])", "written as text"),
        ("array(['left'], dtype=object)", "written as text"),
        ("Index(['left'], dtype='object')", "written as text"),
        ("set()", "written as text"),
        ("frozenset({'left'})", "written as text"),
        ("np.str_('left')", "written as text"),
        ("np.float64(1.5)", "written as text"),
        ("dict_values(['left'])", "written as text"),
        ("<object object at 0x7f01>", "written as text"),
        ("<class 'str'>", "written as text"),
    ],
)
def test_what_is_no_text_is_refused_and_never_spelt_out(value: object, said: str) -> None:
    with pytest.raises(NotText, match=said):
        text_of(value)
    with pytest.raises(NotText):
        text_of([value])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12, "12"),
        (2.0, "2"),
        (-1.5, "-1.5"),
        (1e-5, "0.00001"),
        (1e20, "100000000000000000000"),
        (" none ", "none"),
        ("Na", "Na"),
        ("left\t lung", "left lung"),
        ("none.", "none."),
        ("NONE", "NONE"),
        ("Na.", "Na."),
        ("na", "na"),
        ("inferior", "inferior"),
        ("(left)", "(left)"),
        ("(left, right)", "(left, right)"),
        ("(1, 2)", "(1, 2)"),
        ("lobe(s)", "lobe(s)"),
        ("left (apex, base)", "left (apex, base)"),
        ("T1(Gd)", "T1(Gd)"),
        ("nil", "nil"),
        ("infant", "infant"),
        ("<5 cm>", "<5 cm>"),
        ("#3", "#3"),
        ("'upper', left", "'upper', left"),
    ],
)
def test_text_and_numbers_are_gold(value: object, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("question", "options", "answer", "said"),
    [
        ("Which side?", ("left", "right"), "bilateral", "not one of the options"),
        ("Which side?", ("left", "Left.", "right"), "left", "repeated options"),
        ("Which side?", ("left",), "left", "a single option"),
        ("Which side?", ("left", "."), "left", "an empty option"),
        ("?", (), "left", "empty"),
        ("Which side?", (), ".", "empty answer"),
        ("Which side?", (), "\u200b", "empty answer"),
        ("Which side?", (), "left</answer>right", "more than one answer"),
        ("Is <options>it</options>?", (), "left", "question"),
        ("Is it there?", (), "True", "may mean anything"),
        ("Is it there?", (), "false", "may mean anything"),
        ("Is it there?", (), "1", "yes or no"),
        ("Are there nodules?", (), "0.0", "yes or no"),
    ],
)
def test_a_row_that_its_own_parser_would_not_take_is_no_gold(
    question: str, options: tuple[str, ...], answer: str, said: str
) -> None:
    problem = gold_problem(question, options, answer)
    assert problem
    assert said in problem


@pytest.mark.parametrize(
    ("question", "options", "answer"),
    [
        ("Which side?", ("left", "right"), "left"),
        ("How many?", (), "0"),
        ("Is there 1 or 0?", (), "1"),
        ("True or false: the heart is large?", (), "True"),
        ("Nitrite?", ("+", "-"), "+"),
        ("Is it > 5 cm?", ("yes", "no"), "yes"),
    ],
)
def test_a_true_row_is_gold(question: str, options: tuple[str, ...], answer: str) -> None:
    assert gold_problem(question, options, answer) is None


def test_a_bad_row_is_named_and_the_rest_is_used(tmp_path: Path) -> None:
    rows = [
        row(0, "Which side?", None),
        row(1, "Which sides?", ["left", "right"]),
        row(2, "Is it there?", True),
        row(3, "What size?", NAN),
        row(4, None, "left"),
        row(5, "How many?", 0),
        row(6, "Which side?", "left", image_case_url=None),
        row(7, "Which side?", "left", image_name=7.5),
        "no row",
        {"question": "Which side?", "answer": "left"},
    ]
    read = read_vqa_rad(rad(tmp_path, rows))
    assert [(q.image, q.answer) for q in read.questions] == [("im5.png", "0"), ("7.5", "left")]
    assert [r.place for r in read.left_out] == [f"d.json#/{n}" for n in (0, 1, 2, 3, 4, 6, 8, 9)]
    reasons = [r.reason for r in read.left_out]
    words = ["null", "list", "boolean", "NaN", "question is null", "image_case_url", "no object"]
    assert all(word in reason for word, reason in zip(words, reasons)), reasons
    assert "image_name is missing" in reasons[-1]
    assert read.left_out[0].qid == "0"


def test_rows_that_contradict_each_other_are_both_refused(tmp_path: Path) -> None:
    rows = [
        row(0, "Which side?", "left"),
        row(0, "which side", "The left."),  # the same answer again
        row(1, "Which side?", "left"),
        row(1, "Which side", "right"),
        row(1, "Is there a mass?", "no"),
    ]
    read = read_vqa_rad(rad(tmp_path, rows))
    assert [r.place for r in read.left_out] == ["d.json#/2", "d.json#/3"]
    assert "contradicts row 3" in read.left_out[0].reason
    assert "contradicts row 2" in read.left_out[1].reason
    assert len(read.questions) == 3


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["left", "yes", "nan", "None", ".", "im0.png", "case0", "</answer>", "1", "True"]
    ),
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
FIELDS = (
    "qid",
    "image_name",
    "image_case_url",
    "image_organ",
    "question",
    "question_type",
    "answer",
)
fields = st.dictionaries(st.sampled_from(FIELDS), values, max_size=2)
odd_rows = st.lists(
    st.one_of(values, fields, fields.map(lambda other: row(1, "Which side?", "left") | other)),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd_rows)
def test_every_row_is_used_or_named_whatever_it_holds(tmp_path: Path, rows: list[Any]) -> None:
    read = read_vqa_rad(rad(tmp_path, [row(99, "Which side?", "left"), *rows]))
    assert len(read.questions) + len(read.left_out) == len(rows) + 1
    assert all(r.reason and "\n" not in r.reason for r in read.left_out)
    for question in read.questions:
        assert says_something(question.question)
        assert is_correct(question.answer, question.answer, question.options)
        assert question.answer not in ("nan", "None", "True", ".")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    rows = json.dumps([row(0, "Which side?", "left")])
    (tmp_path / "d.json").write_text(rows, encoding="utf-8-sig")
    assert [q.answer for q in load_vqa_rad(tmp_path)] == ["left"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"questions": []}, "a list of rows"),
        ([], "no row that can be used"),
        ([row(0, "Which side?", None)], r"d\.json#/0: answer is null"),
    ],
)
def test_a_file_without_a_usable_row_is_one_line(tmp_path: Path, rows: Any, said: str) -> None:
    with pytest.raises(TriptychError, match=said):
        load_vqa_rad(rad(tmp_path, rows))


@pytest.mark.skipif(not VQA_RAD.is_dir(), reason="shared/data/vqa_rad is not on this machine")
def test_vqa_rad_loses_the_one_row_that_says_none_as_python_does() -> None:
    read = read_vqa_rad(VQA_RAD)
    assert len(read.questions) == 1784
    assert [r.qid for r in read.left_out] == ["334"]


@pytest.mark.parametrize("public", ["true", "false"])
def test_refused_gold_is_counted_in_output_report_and_record(tmp_path: Path, public: str) -> None:
    folder = rad(
        tmp_path / "in",
        [
            row(0, "Which side?", None),
            row(0, "Is it there?", "Yes"),
            row(1, "Is it there?", "no", image_case_url="case0"),
            row(2, "Which side?", "nan", image_case_url="case1"),  # its patient counts all the same
            row(3, "Is it there?", "no", image_case_url="case1"),
        ],
    )
    (folder / "images").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "images" / f"im{number}.png")
    sets = [f"source.path={folder}", f"source.public={public}", "source.paths=keep"]
    sets += ["source.split={train: 1}", "cluster.address=inline"]
    said = command(
        "ingest", CONFIG, "-w", tmp_path / "w", *(word for s in sets for word in ("--set", s))
    )
    assert said.returncode == 0, said.stderr
    assert "2 of 5 gold rows refused" in " ".join(said.stdout.split())
    with (tmp_path / "w" / REPORT).open() as lines:
        told = {r["path"]: r["reason"] for r in csv.DictReader(lines) if r["status"] == "gold"}
    assert set(told) == {"d.json#/0", "d.json#/3"}
    assert told["d.json#/0"].startswith("qid 0: ") == (public == "true")
    workspace = Workspace.existing(tmp_path / "w")
    recorded = [r for r in workspace.read(Refusal) if r.status == "gold"]
    assert {r.path for r in recorded} == set(told)
    if public == "true":
        patients = {i.source: i.patient for i in workspace.read(Image)}
        assert patients["images/im2.png"] == patients["images/im3.png"]
        of = {r.path: r.patient for r in recorded}  # with whom the row is withdrawn
        assert of == {f"d.json#/{n}": patients[f"images/im{i}.png"] for n, i in ((0, 0), (3, 2))}


def asked(folder: Path, rows: list[dict[str, Any]], sources: list[str]) -> tuple[Any, list[Image]]:
    """The expert of a benchmark whose images have the given sources."""
    values: dict[str, Any] = {"expert": {"kind": "benchmark"}}
    config = build(values, [f"source.path={rad(folder, rows)}", "source.public=true"], "x")
    kinds = ("CT", "MR")
    images = [
        replace(make_image(n, f"g{n}"), source=source, modality=kinds[n % 2])
        for n, source in enumerate(sources)
    ]
    return open_expert(config, images), images


def test_gold_is_of_the_image_and_of_no_other_with_its_name(tmp_path: Path) -> None:
    sources = ["images/im0.png", "masks/im0.png", "images/old/im0.png"]
    expert, images = asked(tmp_path, [row(0, "Is it there?", "yes")], sources)
    assert [len(expert.rows(image, 9)) for image in images] == [1, 0, 0]


def test_an_irrelevant_question_is_another_question(tmp_path: Path) -> None:
    asked_of = ("Is it there?", "is it there"), ("A CT?", "a ct")
    rows = [row(n, question, "yes") for n in range(2) for question in asked_of[n]]
    expert, images = asked(tmp_path, rows, ["images/im0.png", "images/im1.png"])
    gold = [triplet for image in images for triplet, _ in expert.rows(image, 9)]
    made, pairs = expert.pairs(gold, 60, 0)
    known = {t.id: t for t in made}
    sides = [
        {known[p.chosen_id].question, known[p.rejected_id].question}
        for p in pairs
        if p.criterion == "relevance"
    ]
    assert sides
    assert all(len({normalise_question(q) for q in side}) == 2 for side in sides)


def test_patients_who_share_an_image_are_one(tmp_path: Path) -> None:
    rows = [
        row(0, "Is it there?", "no"),
        row(0, "Which side?", "left", image_case_url="case1"),
        row(1, "Is it there?", "no"),
        row(2, "Is it there?", "no"),
    ]
    entries = _asked_about(read_vqa_rad(rad(tmp_path, rows)))
    patients = [entries[f"images/im{n}.png"].patient for n in range(3)]
    assert patients[0] == patients[1] != patients[2]


def test_a_label_that_is_no_text_is_named_and_none_is_made_up(tmp_path: Path) -> None:
    values = ["edema", 2, 2.0, None, True, ["a"], "nan", " ", ""]
    table = tmp_path / "labels.jsonl"
    table.write_text("\n".join(json.dumps({"path": str(n), "f": v}) for n, v in enumerate(values)))
    entries = read_table(table, ["f"])
    assert [entries[str(n)].labels for n in range(3)] == ['{"f":"edema"}', '{"f":"2"}', '{"f":"2"}']
    assert all(entries[str(n)].labels is None for n in range(3, 9))
    named = [n for n in range(9) if entries[str(n)].problems]
    assert named == [3, 4, 5, 6]
    assert entries["3"].problems == ("f is null: give it as text",)


@pytest.mark.parametrize("name", ["t.tsv", "LABELS.TSV", "t.csv", "T.CSV", "T.JSONL"])
def test_a_table_is_read_by_its_ending_in_any_case(tmp_path: Path, name: str) -> None:
    ending = name.lower().rpartition(".")[2]
    columns = {"path": "a.png", "f": "left, right"}
    lines = {
        "tsv": "path\tf\na.png\tleft, right\n",
        "csv": 'path,f\na.png,"left, right"\n',
        "jsonl": json.dumps(columns),
    }
    (tmp_path / name).write_text(lines[ending])
    assert read_table(tmp_path / name, ["f"])["a.png"].labels == '{"f":"left, right"}'


def test_a_missing_patient_is_no_patient_named_nan(tmp_path: Path) -> None:
    table = tmp_path / "labels.jsonl"
    rows = [{"path": str(n), "patient": p} for n, p in enumerate((NAN, None, "nan", "P7", 7.0))]
    table.write_text("\n".join(map(json.dumps, rows)))
    assert [e.patient for e in read_table(table, []).values()] == ["", "", "", "P7", "7"]
    for bad in (True, ["P7"]):
        table.write_text(json.dumps({"path": "a", "patient": bad}))
        with pytest.raises(TriptychError, match=r"line 1: patient is no text"):
            read_table(table, [])
    table.write_text(json.dumps({"path": None}))
    with pytest.raises(TriptychError, match="line 1 has no 'path'"):
        read_table(table, [])
