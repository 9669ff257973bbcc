"""Contamination: what is a benchmark's question or picture, and what is anybody's."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from engine.errors import TriptychError
from engine.imaging.duplicates import signature, stacked
from engine.pixels import pixels_id
from engine.sets.published import read_published
from generators import phantoms
from generators.filters.contamination import Pictures, Questions
from generators.phantoms import bank

VQA_RAD = Path(__file__).parents[4] / "shared" / "data" / "vqa_rad"
needs_vqa_rad = pytest.mark.skipif(not VQA_RAD.is_dir(), reason=f"VQA-RAD is not in {VQA_RAD}")
ASKED = "In which lobe of the left lung is the largest nodule?"


def questions(*texts: str) -> Questions:
    from engine.sets.published import Asked, Published

    found = Questions(0.7, 6)
    found.add(Published("bench", [Asked(f"q{n}", text, "") for n, text in enumerate(texts)]))
    return found


@pytest.mark.parametrize(
    ("text", "what", "least"),
    [
        (ASKED, "question q0", 1.0),
        ("in which lobe of the LEFT lung is the largest nodule", "question q0", 1.0),
        ("In which lobe of the left lung is the largest nodule seen?", "question q0", 0.8),
        ("In this image, the largest nodule is in which lobe of left lung?", "question q0", 0.7),
    ],
)
def test_a_benchmarks_question_is_found(text: str, what: str, least: float) -> None:
    match = questions(ASKED).match(text)
    assert match is not None
    assert match.what.startswith(what)
    assert match.similarity >= least
    assert match.reason.startswith("contamination: bench, question q0")


@pytest.mark.parametrize(
    "text", ["Is there a nodule?", "How large is the mass in the liver of this patient?"]
)
def test_another_question_is_not(text: str) -> None:
    assert questions(ASKED, "Is there a nodule?").match(text) is None


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def drawn(number: int) -> np.ndarray:
    return phantoms.to_display(phantoms.draw("ultrasound", number, 96))


def test_a_benchmarks_picture_is_found_whatever_way_it_is_turned() -> None:
    from engine.sets.published import Published

    pictures = Pictures()
    theirs = Published("bench")
    theirs.held = [(f"{n}.png", png(drawn(n))) for n in range(3)] + [("torn.png", b"no picture")]
    pictures.add(theirs)
    assert pictures.unread == 1
    ours = [drawn(0), drawn(1)[:, ::-1], np.rot90(drawn(2)), np.rot90(drawn(2), 2), drawn(9)]
    ids = [pixels_id(np.ascontiguousarray(one)) for one in ours]
    signed = stacked(signature(PIL.Image.fromarray(one)) for one in ours)
    found = pictures.matches(ids, np.concatenate([signed, pictures.signatures]))
    told = {ids.index(name): match.what for name, match in found.items()}
    assert told == {0: "image 0.png", 1: "image 1.png", 2: "image 2.png", 3: "image 2.png"}
    assert found[ids[0]].similarity == 1.0


ROWS = [{"id": "7", "question": ASKED, "image": "a.png"}, {"id": "8", "question": "And?"}]


def write_as(folder: Path, form: str) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    (folder / "a.png").write_bytes(png(drawn(0)))
    if form == "json":
        (folder / "t.json").write_text(json.dumps({"test": ROWS}))
    elif form == "by id":
        by_id = {row["id"]: {"question": row["question"]} for row in ROWS}
        (folder / "t.json").write_text(json.dumps(by_id))
    elif form == "jsonl":
        (folder / "t.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    elif form == "csv":
        (folder / "t.csv").write_text(f"ID,Question,Image\n7,{ASKED},a.png\n8,And?,\n")
    elif form == "parquet":
        rows = [{"id": r["id"], "question": r["question"]} for r in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    else:
        from datasets import Dataset

        Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
        return folder / "saved"
    return folder


@pytest.mark.parametrize("form", ["json", "by id", "jsonl", "csv", "parquet", "saved"])
def test_the_forms_that_benchmarks_have_are_read(tmp_path: Path, form: str) -> None:
    found = read_published("bench", write_as(tmp_path / "b", form))
    assert [(q.id, q.question) for q in found.questions] == [("7", ASKED), ("8", "And?")]
    if form != "saved":
        assert [name for name, _ in found.pictures()] == ["a.png"]


@pytest.mark.parametrize(
    ("text", "complaint"), [(None, "does not exist"), ("", "holds no question"), ("{", "be read")]
)
def test_what_is_no_benchmark_is_one_clear_line(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    path = tmp_path / "b"
    if text is not None:
        path.mkdir()
    if text:
        (path / "t.json").write_text(text)
    with pytest.raises(TriptychError, match=rf"benchmarks\.b: .*{complaint}"):
        read_published("b", path)


@needs_vqa_rad
def test_vqa_rads_questions_and_pictures_are_found_and_the_banks_questions_are_not() -> None:
    published = read_published("vqa-rad", VQA_RAD)
    assert (len(published.questions), len(published.files)) == (1785, 250)
    index = Questions(0.7, 6)
    index.add(published)
    long = [q for q in published.questions if len(q.question.split()) >= 8]
    assert all(index.match(asked.question) for asked in long)
    assert not [text for text in bank._index() if index.match(text)]
