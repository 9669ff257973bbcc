"""The dataset as other tools read it: each form read back as the tool's code or page says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from engine.hub import sharding
from engine.hub.export import export
from engine.hub.forms import FORMS, place_of, write_form
from engine.hub.forms.exported import Exported
from engine.hub.publish import publish
from engine.lineage.files import hashes_of
from engine.lineage.opening import maintaining, writing
from engine.lineage.trace import trace
from engine.records import Dataset, Image, Task, Triplet
from engine.vlm import tiny
from engine.vlm.inputs import chat_text
from engine.vlm.protocol import Request
from engine.workspace import Workspace
from pipelines.cli import app
from pipelines.commands.withdraw import withdraw
from pipelines.training.grpo import questions_of
from pipelines.training.sft import turns_of
from tests.lineage_workspace import cli
from tests.pictures import PNG
from tests.round_workspace import commit, ingest, make_image, make_triplet

Row = dict[str, Any]  # id, image (PNG bytes), prompt, and completion or answer
SFT, RL = ("llava", "llama-factory", "trl/sft"), ("verl", "easyr1", "trl/grpo")
STEP = Task.make("CT", "disease", "easy", "choice", "step")


def exported_in(folder: Path, style: str = "direct") -> Exported:
    return Exported(folder, "demo", "0123456789abcdef", "cc-by-4.0", "compact", style)


def forms_of(dataset: Path, style: str = "direct") -> Path:
    for name in FORMS:
        write_form(exported_in(dataset, style), name)
    return dataset


@pytest.fixture(scope="module")
def dataset(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `full` with all forms beside it; to be read only."""
    folder = tmp_path_factory.mktemp("forms") / "dataset"
    shutil.copytree(exported, folder)
    return forms_of(folder)


def only(values: list[Any]) -> Any:
    (value,) = values
    return value


def after_the_picture(text: str) -> str:
    """What a tool says after the one picture that it puts where a text says so."""
    before, words = text.split("<image>")
    assert before == ""
    return words


def of_llava(folder: Path) -> dict[str, list[Row]]:
    """As `LazySupervisedDataset` reads it: `image` below `--image_folder`."""

    def read(row: Row) -> Row:
        human, gpt = row["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert "<image>" not in gpt["value"]
        image = (folder / "images" / row["image"]).read_bytes()
        asked = after_the_picture(human["value"]).removeprefix("\n")
        return {"id": row["id"], "image": image, "prompt": asked, "completion": gpt["value"]}

    files = sorted((folder / "data").glob("*.json"))
    return {p.stem: list(map(read, json.loads(p.read_text()))) for p in files}


def of_llama_factory(folder: Path) -> dict[str, list[Row]]:
    """As `dataset_info.json` says: names of columns and of roles, paths below `dataset_dir`."""
    found = {}
    for name, info in json.loads((folder / "dataset_info.json").read_text()).items():
        assert info["formatting"] == "sharegpt"
        columns, tags = info["columns"], info["tags"]
        found[name.removeprefix("triptych_")] = rows = []
        for row in json.loads((folder / info["file_name"]).read_text()):
            user, assistant = row[columns["messages"]]
            assert user[tags["role_tag"]] == tags["user_tag"]
            assert assistant[tags["role_tag"]] == tags["assistant_tag"]
            said = assistant[tags["content_tag"]]
            assert "<image>" not in said
            rows.append(
                {
                    "id": row["id"],
                    "image": (folder / only(row[columns["images"]])).read_bytes(),
                    "prompt": after_the_picture(user[tags["content_tag"]]),
                    "completion": said,
                }
            )
    return found


def parquet(folder: Path, read: Callable[[Row], Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for path in sorted(folder.glob("*.parquet")):
        rows = pq.read_table(path).to_pylist()
        found.setdefault(path.name.partition("-")[0], []).extend(
            {"id": row["id"], "image": only(row["images"])["bytes"]} | read(row) for row in rows
        )
    return found


def of_verl(folder: Path) -> dict[str, list[Row]]:
    """`data_source, prompt, ability, reward_model, extra_info`, as its page on data has them."""

    def read(row: Row) -> Row:
        asked, info = only(row["prompt"]), row["extra_info"]
        assert row["data_source"] in ("demo", "made", "quotes")
        assert (row["ability"], asked["role"]) == ("medical_vqa", "user")
        assert row["reward_model"]["style"] == "rule"
        assert info["id"] == row["id"]
        gold = row["reward_model"]["ground_truth"]
        words = after_the_picture(asked["content"])
        return {"prompt": words, "gold": gold, "options": info["options"], "index": info["index"]}

    return parquet(folder / "data", read)


def of_easyr1(folder: Path) -> dict[str, list[Row]]:
    """`problem` and `answer`, with one picture; nothing in a row but texts and pictures."""

    def read(row: Row) -> Row:
        assert all(isinstance(row[name], str) for name in row.keys() - {"images"})
        asked, options = after_the_picture(row["problem"]), json.loads(row["options"])
        return {"prompt": asked, "gold": row["answer"], "options": options}

    return parquet(folder / "data", read)


def of_trl_sft(folder: Path) -> dict[str, list[Row]]:
    def read(row: Row) -> Row:
        asked, said = only(row["prompt"]), only(row["completion"])
        assert (asked["role"], said["role"]) == ("user", "assistant")
        return {"prompt": asked["content"], "completion": said["content"]}

    return parquet(folder / "data/sft", read)


def of_trl_grpo(folder: Path) -> dict[str, list[Row]]:
    def read(row: Row) -> Row:
        asked = only(row["prompt"])["content"]
        return {"prompt": asked, "gold": row["gold"], "options": row["options"]}

    return parquet(folder / "data/grpo", read)


READERS = {
    "llava": of_llava,
    "llama-factory": of_llama_factory,
    "verl": of_verl,
    "easyr1": of_easyr1,
    "trl/sft": of_trl_sft,
    "trl/grpo": of_trl_grpo,
}


def read(dataset: Path, form: str) -> dict[str, list[Row]]:
    return READERS[form](place_of(dataset, form.partition("/")[0]))


def of_dataset(folder: Path) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        found.setdefault(path.name.partition("-")[0], []).extend(pq.read_table(path).to_pylist())
    return found


@pytest.mark.parametrize("form", READERS)
def test_a_form_has_the_splits_rows_and_pictures_of_the_dataset(dataset: Path, form: str) -> None:
    wanted, found = of_dataset(dataset), read(dataset, form)
    assert found.keys() == wanted.keys() == {"train", "validation", "test"}
    for split, rows in wanted.items():
        assert [r["id"] for r in found[split]] == [r["id"] for r in rows]
        assert [r["image"] for r in found[split]] == [r["image"]["bytes"] for r in rows]
        for number, (row, told) in enumerate(zip(rows, found[split])):
            assert told.get("gold", row["answer"]) == row["answer"]
            assert told.get("options", row["options"]) == row["options"]
            assert told.get("index", number) == number


def rows_of(workspace: Workspace, dataset: Path) -> list[Triplet]:
    left = [row["id"] for rows in of_dataset(dataset).values() for row in rows]
    known = {t.id: t for t in workspace.read(Triplet)}
    return [known[i] for i in left]


@pytest.mark.parametrize("form", SFT)
def test_what_sft_is_told_elsewhere_is_a_turn_of_our_own(
    full: Workspace, dataset: Path, form: str
) -> None:
    tasks, rows = {t.id: t for t in full.read(Task)}, rows_of(full, dataset)
    found = [row for part in read(dataset, form).values() for row in part]
    for row, told in zip(rows, found, strict=True):
        turns = list(turns_of([row], tasks, "compact", "direct", 0.0, 0))
        assert (told["prompt"], told["completion"]) in [
            (turn["prompt"], turn["completion"]) for turn in turns
        ]
        assert row.rationale in told["completion"]


@pytest.mark.parametrize("form", RL)
def test_what_grpo_is_asked_elsewhere_is_what_ours_is_asked(
    full: Workspace, dataset: Path, form: str
) -> None:
    ours = questions_of(rows_of(full, dataset), "compact", "direct")
    found = [row for part in read(dataset, form).values() for row in part]
    names = ("prompt", "options", "gold")
    assert [[r[n] for n in names] for r in found] == [[r[n] for n in names] for r in ours]


def test_a_second_export_has_equal_bytes(dataset: Path, tmp_path: Path) -> None:
    again = tmp_path / "dataset"
    shutil.copytree(dataset, again)
    for _ in range(2):  # the second over one that lies there
        forms_of(again)
    for name in FORMS:
        assert hashes_of(place_of(again, name)) == hashes_of(place_of(dataset, name))
    assert len(list(tmp_path.iterdir())) == 1 + len(FORMS)


def test_pictures_are_held_a_row_group_at_a_time_and_written_once(
    full: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "BYTES", 60_000)
    export(full, tmp_path / "dataset", "demo", shard_mb=0.06)
    forms_of(tmp_path / "dataset")
    files = sorted((tmp_path / "dataset/data").glob("*.parquet"))
    assert len(files) > 5
    pictures = {r["image_id"] for rows in of_dataset(tmp_path / "dataset").values() for r in rows}
    for form in READERS:
        assert sum(map(len, read(tmp_path / "dataset", form).values())) == sum(
            pq.read_metadata(path).num_rows for path in files
        )
    for name in ("llava", "llama-factory"):
        there = (tmp_path / f"dataset-{name}/images").iterdir()
        assert {p.name for p in there} == {f"{i}.png" for i in pictures}
    for part in ("verl/data", "easyr1/data", "trl/data/sft", "trl/data/grpo"):
        for path in files:
            own = tmp_path / f"dataset-{part}" / path.name
            told, ours = pq.read_metadata(path), pq.read_metadata(own)
            groups = range(told.num_row_groups)
            assert [ours.row_group(n).num_rows for n in groups] == [
                told.row_group(n).num_rows for n in groups
            ]
            assert own.stat().st_size < path.stat().st_size + 20_000


def loaded(folder: Path, tmp_path: Path, *config: str) -> Any:
    import datasets

    return datasets.load_dataset(str(folder), *config, cache_dir=str(tmp_path))


@pytest.mark.parametrize(("form", "configs"), [(n, f.configs) for n, f in FORMS.items()])
def test_a_folder_says_what_it_is_and_datasets_loads_its_parquet(
    dataset: Path, tmp_path: Path, form: str, configs: tuple[str, ...]
) -> None:
    folder = place_of(dataset, form)
    text = (folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert "`demo` (id `0123456789abcdef`, licence cc-by-4.0)" in text
    assert f"dataset-{form}" in text.partition("holds the caveats.")[2]
    wanted = {split: len(rows) for split, rows in of_dataset(dataset).items()}
    for config in configs:
        found = loaded(folder, tmp_path, *([config] if config else []))
        assert {split: len(rows) for split, rows in found.items()} == wanted
        assert found["test"][0]["images"][0].size == (64, 64)


@pytest.fixture(scope="module")
def processor() -> Any:
    from engine.vlm.transformers import load_processor

    return load_processor(str(tiny.FOLDER))


def as_verl_builds(row: Row) -> list[Row]:
    """Messages as `RLHFDataset._build_messages` makes them of a row that `datasets` loaded."""
    images = iter(row["images"])
    parts = [part for part in re.split("(<image>|<video>)", only(row["prompt"])["content"]) if part]
    content = [
        {"type": "image", "image": next(images)} if p == "<image>" else {"type": "text", "text": p}
        for p in parts
    ]
    assert next(images, None) is None
    return [{"role": "user", "content": content}]


def as_easyr1_builds(row: Row) -> list[Row]:
    """Messages as EasyR1's `RLHFDataset._build_messages` makes them."""
    content: list[Row] = []
    for number, words in enumerate(row["problem"].split("<image>")):
        content += [{"type": "image"}] if number else []
        content += [{"type": "text", "text": words}] if words else []
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("form", "messages"), [("verl", as_verl_builds), ("easyr1", as_easyr1_builds)]
)
def test_qwens_template_makes_of_a_row_the_prompt_that_we_examine_by(
    dataset: Path, tmp_path: Path, processor: Any, form: str, messages: Callable[[Row], list[Row]]
) -> None:
    found = loaded(place_of(dataset, form), tmp_path)["test"]
    ours = of_trl_grpo(place_of(dataset, "trl"))["test"]
    for row, own in zip(found.select(range(4)), ours):
        text = processor.apply_chat_template(
            messages(row), add_generation_prompt=True, tokenize=False
        )
        assert text == chat_text(processor, Request(own["image"], own["prompt"]))
        inputs = processor(text=[text], images=row["images"], return_tensors="pt")
        assert len(inputs["image_grid_thw"]) == 1


def test_trls_own_collator_takes_the_rows_for_sft(
    dataset: Path, tmp_path: Path, processor: Any
) -> None:
    """Its labels are the completion, and one picture a row is in the batch."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    rows = loaded(place_of(dataset, "trl"), tmp_path, "sft")["train"].select(range(4))
    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    batch = collate(list(rows))
    assert len(batch["image_grid_thw"]) == 4
    for row, labels in zip(rows, batch["labels"]):
        said = processor.tokenizer.decode(labels[labels != -100], skip_special_tokens=True)
        assert said.strip() == row["completion"][0]["content"]


def test_the_reward_for_verl_of_the_docs_scores_as_we_do(dataset: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/training-elsewhere.md").read_text()
    found: dict[str, Any] = {}
    exec(page.partition("### A reward for verl")[2].split("```")[1].removeprefix("python"), found)
    told = pq.read_table(place_of(dataset, "verl") / "data").to_pylist()
    for row in told:
        gold, info = row["reward_model"]["ground_truth"], row["extra_info"]
        other = next(option for option in info["options"] if option != gold)
        for said, reward in ((gold, 1), (other, 0), (f"{gold} or {other}", 0), ("", 0)):
            text = f"<think>It is seen.</think><answer>{said}</answer>"
            assert found["compute_score"]("demo", text, gold, info) == reward
        assert found["compute_score"]("demo", gold, gold, info) == 0  # not in the form


QUOTES = "Does <image> or <video> or <|image_pad|> show a mass?"


def test_a_placeholder_that_a_row_quotes_is_no_picture(tmp_path: Path) -> None:
    image = make_image(0, "g0", "train")
    row = make_triplet(image, "expert", STEP, 0, 0)
    fields = {"question": QUOTES, "rationale": "It says <image>.", "options": ("<image>", "none")}
    with writing(tmp_path / "w", "quotes", {}) as workspace:
        ingest(workspace, [image])
        commit(workspace, "expert", 0, {}, [replace(row, **fields)], [STEP])
        export(workspace, tmp_path / "dataset", "quotes")
    forms_of(tmp_path / "dataset", "step")
    for form in READERS:  # each holds that there is one placeholder, and where
        (told,) = read(tmp_path / "dataset", form)["train"]
        assert "Does < image> or < video> or < |image_pad|> show a mass?" in told["prompt"]
        assert told.get("options", ["< image>", "none"]) == ["< image>", "none"]


def folders(root: Path) -> Iterator[Path]:
    yield from (root / f"dataset-{name}" for name in FORMS)


def test_what_is_withdrawn_leaves_every_form(copy: Workspace) -> None:
    with maintaining(copy.root) as workspace:
        publish(workspace, forms=list(FORMS))
    image = next(i for i in copy.read(Image) if i.split == "train")
    gone = [t.id for t in copy.read(Triplet) if t.image_id == image.id]
    before = read(copy.root / "dataset", "verl")
    assert {row["id"] for rows in before.values() for row in rows} & set(gone)
    for place in folders(copy.root):  # and of exports that were cut short
        shutil.copytree(place, place.with_name(f".{place.name}.partial"))
        shutil.copytree(place, place.with_name(f".{place.name}.old"))
    cli("withdraw", image.id, "-w", copy.root)
    assert not list(copy.root.glob(".dataset*"))
    for form in READERS:
        found = [row for rows in read(copy.root / "dataset", form).values() for row in rows]
        assert found
        assert PNG[image.id] not in [row["image"] for row in found]
        assert not set(gone) & {row["id"] for row in found}
    named = {p.name for place in folders(copy.root) for p in place.rglob("*.png")}
    assert f"{image.id}.png" not in named
    last = copy.read(Dataset)[-1].id
    assert all(f"(id `{last}`" in (p / "README.md").read_text() for p in folders(copy.root))


def test_the_last_image_takes_the_forms_with_it(tmp_path: Path) -> None:
    image = make_image(0, "g0", "train")
    with writing(tmp_path, "made", {"name": "made"}) as workspace:
        ingest(workspace, [image])
        commit(workspace, "expert", 0, {}, [make_triplet(image, "expert", STEP, 0, 0)], [STEP])
        publish(workspace, forms=["llava", "verl"])
        shutil.rmtree(tmp_path / "dataset")  # a form does not outlive it either
        assert sorted(p.name for p in tmp_path.glob("dataset*")) == [
            "dataset-llava",
            "dataset-verl",
        ]
        withdraw(workspace, image.id)
    assert list(tmp_path.glob("dataset*")) == []


def test_an_export_writes_again_what_lies_there_and_no_other_form(copy: Workspace) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["export", "-w", str(copy.root), *words])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    assert "for LLaVA" in run("--for", "llava", "--for", "trl")
    before = hashes_of(copy.root / "dataset-llava")
    (copy.root / "dataset-llava/data/train.json").write_text("[]")
    assert "for TRL" in run()
    assert hashes_of(copy.root / "dataset-llava") == before
    assert {p.name for p in copy.root.glob("dataset-*")} == {"dataset-llava", "dataset-trl"}
    row = read(copy.root / "dataset", "llava")["train"][0]["id"]
    assert trace(copy.ledger(), row)["kind"] == "triplet"
    result = CliRunner().invoke(app, ["export", "-w", str(copy.root), "--for", "excel"])
    assert "--for excel: there are llava, llama-factory" in str(result.exception)


def test_a_folder_of_somebody_elses_is_left_alone(copy: Workspace) -> None:
    mine = copy.root / "dataset-verl"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    result = CliRunner().invoke(app, ["export", "-w", str(copy.root), "--for", "verl"])
    assert "no export" in str(result.exception)
    cli("withdraw", next(i for i in copy.read(Image) if i.split == "train").id, "-w", copy.root)
    assert (mine / "notes.txt").read_text() == "precious"
