"""Init: what it finds out about a folder, and that what it writes is accepted as it is."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.config import Config, load
from engine.config.templates import Template, read_templates
from engine.pixels import to_png
from engine.records import Image
from engine.workspace import Workspace
from generators.phantoms.dicom import write_cohort
from pipelines.commands import init
from pipelines.commands.init import Sizes
from pipelines.commands.inspection import _how_many, look_into
from reward_model.experts import open_expert
from tests.commands import Done, command, report_of

DICOM = Path(__file__).parents[3] / "shared" / "data" / "dicom"
VQA_RAD = DICOM.with_name("vqa_rad")
# As spreadsheets write it: a mark of the encoding, CRLF, quotes, commas, umlauts, empty cells.
TABLE = (
    "\ufeffpath,patient,Finding Labels,pleural_effusion,side,size_mm,study_id,note\r\n"
    '00.png,P0,"Mass|Edema",1.0,L,12,4711001,"a ""large"" mass, seen by Dr. Müller on 3 May"\r\n'
    "01.png,P1,No Finding,0.0,,,4711002,\r\n"
    '02.png,P2,Mass,0.0,R,7,4711003,"wie früher: unverändert, keine Änderung in den Lungen"\r\n'
    "03.png,P3,Edema,1.0,L,3.5,4711004,\r\n"
    "sub/épreuve 1.png,P4,Nodule,,R,9,4711005,\r\n"
    "gone.png,P5,Smith,,,,4711006,\r\n"
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without GPUs and without a key in the environment."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(init, "gpu_memory", lambda: [])
    return tmp_path / "here"


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        path.write_bytes(to_png(rng.integers(0, 255, (48, 48), np.uint8)))
    return folder


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    folder = tmp_path / "studies of 2026"
    pictures(folder, *(f"{n:02d}.png" for n in range(4)), "sub/épreuve 1.png")
    (folder / "labels.csv").write_bytes(TABLE.encode())
    return folder


def written(folder: Path, *words: str, key: str | None = None) -> tuple[Config, Done]:
    done = command("init", "ours", "--images", folder, *words, key=key)
    assert done.returncode == 0, done.stderr
    return load(Path("ours.yaml")), done


def refused(*words: object) -> str:
    done = command("init", *words, key=None)
    assert done.returncode == 2, done.stdout
    assert done.stderr.strip().count("\n") == 0
    return done.stderr


def ingested(*words: str) -> tuple[Workspace, str]:
    done = command("ingest", "ours.yaml", *words, key=None)
    assert done.returncode == 0, done.stderr
    return Workspace.existing(Path("runs/ours")), done.stdout


def test_a_folder_without_answers_is_for_people(tmp_path: Path) -> None:
    config, done = written(pictures(tmp_path / "in", *(f"{n}.png" for n in range(20))))
    assert config.expert.kind == "people"
    assert config.model == "tiny"
    assert config.source.key_file == "triptych.key"
    text = Path("ours.yaml").read_text()
    assert "20 images (PNG)" in text
    assert "hours" in text
    assert "triptych ingest ours.yaml" in done.stdout
    workspace, told = ingested()
    assert "20 quarantined" in told  # a picture has no header that clears it
    assert workspace.config["expert"]["kind"] == "people"


def test_every_value_has_a_comment_or_says_what_it_is(tmp_path: Path) -> None:
    written(pictures(tmp_path / "in", "0.png"))
    lines = Path("ours.yaml").read_text().splitlines()
    bare = [line for line in lines if line.strip() and "#" not in line]
    known = ("name:", "path:", "source:", "expert:", "verdicts:", "generator:", "select:")
    assert [line for line in bare if not line.strip().startswith(known)] == []
    assert max(map(len, lines)) <= 110


def test_the_key_is_its_owners_alone_and_is_made_once(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "0.png")
    _, done = written(folder)
    key = Path("triptych.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = key.read_text().strip()
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in done.stdout + Path("ours.yaml").read_text()
    written(folder, "--force")
    assert key.read_text().strip() == secret


def test_a_key_among_the_images_is_warned_of(place: Path) -> None:
    _, done = written(pictures(place, "0.png"))
    assert "lies among the images" in " ".join(done.stdout.split())


def test_a_key_in_the_environment_serves(tmp_path: Path) -> None:
    config, done = written(pictures(tmp_path / "in", "0.png"), key="a key that only the tests have")
    assert config.source.key_file is None
    assert not Path("triptych.key").exists()
    assert "TRIPTYCH_KEY" in done.stdout


def test_a_key_that_ingest_would_refuse_is_told_before_anything_is_written(tmp_path: Path) -> None:
    Path("triptych.key").write_text("short")
    os.chmod("triptych.key", 0o600)
    assert "fewer than 16" in refused("ours", "--images", pictures(tmp_path / "in", "0.png"))
    assert os.listdir() == ["triptych.key"]


def test_nothing_is_replaced_unless_asked(hospital: Path) -> None:
    written(hospital)
    Path("ours-questions.yaml").write_text("mine: []\n")
    line = refused("ours", "--images", hospital)
    assert "ours.yaml and ours-questions.yaml there already: --force" in line
    assert Path("ours-questions.yaml").read_text() == "mine: []\n"
    written(hospital, "--force")
    assert "Finding Labels" in Path("ours-questions.yaml").read_text()


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_what_is_no_name_is_one_line(tmp_path: Path, name: str) -> None:
    assert "is no name" in refused(name, "--images", pictures(tmp_path / "in", "0.png"))


def test_a_folder_without_images_is_one_line(tmp_path: Path) -> None:
    assert "is not a folder" in refused("ours", "--images", tmp_path / "nowhere")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing to see")
    assert "holds no DICOM, PNG" in refused("ours", "--images", tmp_path / "in")
    assert os.listdir() == []


def test_labels_become_questions_that_can_be_read_and_changed(hospital: Path) -> None:
    config, done = written(hospital)
    columns = ["Finding Labels", "pleural_effusion", "side", "size_mm"]
    assert config.source.labels == columns  # no study's number, no free text
    asked = read_templates(Path("ours-questions.yaml"))
    assert list(asked) == columns
    assert [t.question for t in asked["Finding Labels"]] == [
        "Which of these is shown?",
        "Is there any {value}?",
    ]
    assert asked["pleural_effusion"][0].answers == {"0.0": "no", "1.0": "yes"}
    assert asked["size_mm"][0].unit == "mm"
    lines = Path("ours-questions.yaml").read_text().splitlines()
    assert "    answers: {0.0: no, 1.0: yes}" in lines
    assert "    options: [yes, no]" in lines
    assert "1 of its paths are no file" in done.stdout
    text = Path("ours-questions.yaml").read_text() + Path("ours.yaml").read_text() + done.stdout
    for told in ("Smith", "Müller", "4711", "früher", "P3", "épreuve"):
        assert told not in text


def test_the_example_at_the_head_of_the_questions_is_one(hospital: Path) -> None:
    written(hospital)
    head = [x for x in Path("ours-questions.yaml").read_text().splitlines() if x.startswith("#")]
    Path("example.yaml").write_text("\n".join(line[2:] for line in head[2:-2]))
    asked = read_templates(Path("example.yaml"))
    assert list(asked) == ["side", "size", "findings"]
    used = {key for rows in asked.values() for row in rows for key in row.model_fields_set}
    assert used == set(Template.model_fields)  # every key is shown


@pytest.mark.parametrize("column", ["a: b", "# 1", "{x}", "- y", "yes", "ä|ö", "'q'"])
def test_a_column_of_any_name_is_written_so_that_it_is_read(tmp_path: Path, column: str) -> None:
    folder = pictures(tmp_path / "in", "0.png", "1.png")
    cells = (
        json.dumps({"path": "0.png", column: "left"}),
        json.dumps({"path": "1.png", column: "0"}),
    )
    (folder / "labels.jsonl").write_text("\n".join(cells))
    config, _ = written(folder)
    assert config.source.labels == [column]
    assert list(read_templates(Path("ours-questions.yaml"))) == [column]


def test_what_init_writes_for_a_table_ingests_and_teaches(hospital: Path) -> None:
    written(hospital, key=None)
    edited = Path("ours-questions.yaml").read_text().replace("On which side is it?", "Which side?")
    Path("ours-questions.yaml").write_text(edited)
    public = ["source.public=true", "source.split={train: 1}"]
    workspace, told = ingested(*(word for setting in public for word in ("--set", setting)))
    assert "1 labels refused" in told  # Smith; L and R are named by a question
    images = {image.source: image for image in workspace.read(Image)}
    assert images.keys() == {"00.png", "01.png", "02.png", "03.png", "sub/épreuve 1.png"}
    config = load(Path("ours.yaml"), public)
    rows = open_expert(config, images.values()).rows(images["00.png"], 99)
    said = {row.question: row.answer for row, _ in rows}
    assert said["Is there any pleural effusion?"] == "yes"
    assert said["What is the size in mm?"] == "12 mm"
    assert said["Which side?"] == "left"
    assert workspace.config["expert"]["templates"]["side"][0]["question"] == "Which side?"


def test_a_cell_that_fits_no_question_is_named_and_the_others_are_used(hospital: Path) -> None:
    written(hospital)
    text = Path("ours-questions.yaml").read_text()
    before, _, after = text.partition("\nside:")
    side = "\nside:\n- question: On which side is it?\n  options: [left, both]\n"
    side += "  answers: {L: left, R: right}\n"
    Path("ours-questions.yaml").write_text(before + side + after[after.index("\nsize_mm:") :])
    _, told = ingested("--set", "source.public=true")
    assert "2 labels not asked about: see runs/ours/ingest-report.csv" in " ".join(told.split())
    gold = {r["path"]: r["reason"] for r in report_of(Path("runs/ours")) if r["status"] == "gold"}
    assert gold == {
        "02.png": "table line 4: side: 'right' is none of the options",
        "sub/épreuve 1.png": "table line 6: side: 'right' is none of the options",
    }
    assert len(Workspace.existing(Path("runs/ours")).read(Image)) == 5


def test_bad_questions_end_ingest_before_there_is_a_workspace(hospital: Path) -> None:
    written(hospital)
    with Path("ours-questions.yaml").open("a") as file:
        file.write("\nmood:\n  - question: How is it?\n")
    done = command("ingest", "ours.yaml", key=None)
    assert done.returncode == 2
    assert "asks about mood, which is none of source.labels" in done.stderr
    assert not Path("runs").exists()


def test_a_table_that_ingest_could_not_read_is_told(hospital: Path) -> None:
    (hospital / "labels.csv").write_bytes("path,finding\n00.png,Müller\n".encode("latin-1"))
    assert "labels.csv cannot be read: UnicodeDecodeError" in refused("ours", "--images", hospital)
    (hospital / "labels.csv").write_text("path,finding\n00.png,a\n00.png,b\n")
    assert "lines 2 and 3 are about one file" in refused("ours", "--images", hospital)
    (hospital / "labels.csv").rename(hospital / "one.csv")
    (hospital / "two.csv").write_text("path,finding\n00.png,a\n")
    assert "has several tables with paths (one.csv, two.csv)" in refused(
        "ours", "--images", hospital
    )
    assert os.listdir() == []


def test_without_its_table_an_expert_who_reads_labels_is_one_line(hospital: Path) -> None:
    written(hospital)
    (hospital / "labels.csv").unlink()
    done = command("ingest", "ours.yaml", key=None)
    assert done.returncode == 2
    assert "has no table: put labels.csv there" in done.stderr
    assert not Path("runs").exists()


def test_columns_that_are_ours_under_another_name_are_told(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "0.png", "1.png")
    (folder / "metadata.tsv").write_text("path\tpatient_id\tage\tview\n0.png\tX1\t43\tlateral\n")
    config, done = written(folder)
    assert config.source.table == "metadata.tsv"
    assert config.source.labels == ["view"]
    assert "rename the column to patient" in " ".join(done.stdout.split())
    (folder / "metadata.tsv").write_text("image\tview\n0.png\tlateral\n")
    config, done = written(folder, "--force")
    assert config.expert.kind == "people"
    assert "metadata.tsv has no column `path`" in " ".join(done.stdout.split())


def test_questions_in_vqa_rads_form_are_the_expert(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "images/0.png", "images/1.png")
    row = {
        "image_name": "0.png",
        "image_case_url": "case/0",
        "question": "Is there a mass?",
        "answer": "yes",
    }
    (folder / "cases.json").write_text(json.dumps([row]))
    config, _ = written(folder)
    assert config.expert.kind == "benchmark"
    assert config.source.paths == "keep"
    ingested()


def test_a_machine_with_gpus_gets_a_model_that_fits_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pictures(tmp_path / "in", "0.png")
    for memory, model, gpus in (
        ([81559, 81559], "Qwen/Qwen2.5-VL-7B-Instruct", 2),
        ([24564], "Qwen/Qwen2.5-VL-3B-Instruct", 1),
        ([8192], "tiny", 0),
    ):
        monkeypatch.setattr(init, "gpu_memory", lambda memory=memory: memory)
        config, _ = written(folder, "--force")
        assert config.model == model
        assert config.generator.backend.gpus == bool(gpus)
        assert (config.sft.workers if gpus else 0) == gpus
        assert config.generator.prompts == ("full" if gpus else "compact")


def test_what_is_asked_of_readers_grows_with_the_folder_up_to_a_week() -> None:
    small, middle, large = Sizes(30, 30, False), Sizes(300, 300, False), Sizes(10**6, 10**5, True)
    assert (small.guarantee, middle.guarantee, large.guarantee) == (None, 0.95, 0.95)
    assert Sizes(70, 70, False).guarantee == 0.9
    assert large.verdicts == {"first": 200, "random": 150, "informative": 60, "test": 100}
    assert small.tasks < middle.tasks <= 600 < large.tasks == 6000


def test_the_number_of_patients_is_about_right() -> None:
    rng = np.random.default_rng(0)
    for patients, images in ((100, 10_000), (2000, 10_000), (10_000, 10_000)):
        whose = rng.permutation(np.arange(images) % patients)
        found = _how_many(Counter(whose[:256].tolist()), 256 / images)
        assert 0.6 * patients < found < 1.7 * patients


@pytest.mark.skipif(not DICOM.is_dir(), reason="shared/data/dicom is not on this machine")
def test_a_folder_of_real_dicom_files() -> None:
    found = look_into(DICOM)
    assert found.kinds == {"DICOM": 37}
    assert {"CT", "MR", "ultrasound", "X-ray"} <= found.modalities.keys()
    assert 5 < found.patients < 37
    config, _ = written(DICOM)
    assert config.expert.kind == "people"
    assert config.source.frames == "middle"


@pytest.mark.skipif(not VQA_RAD.is_dir(), reason="shared/data/vqa_rad is not on this machine")
def test_vqa_rads_own_folder() -> None:
    config, done = written(VQA_RAD)
    assert config.expert.kind == "benchmark"
    assert "1784 questions" in done.stdout


def test_a_whole_folder_of_dicom_goes_through(tmp_path: Path) -> None:
    list(write_cohort(tmp_path / "in", {"MR": 4}, 64, 0, 0.3))
    written(tmp_path / "in")
    workspace, _ = ingested()
    assert len(workspace.read(Image)) == 4
