"""The words that models are asked in: two sets, a user's file, and what is wrong with one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine import prompts
from engine.answers.parsing import parse_question
from engine.config import build, load
from engine.errors import TriptychError
from engine.prompts import files
from engine.records import Task
from generators import filters
from generators.phantoms import bank
from tests.commands import command
from tests.generators.filters.rows import row

FULL = prompts.prompt_set("full")
EXAMPLE = re.compile(r"<question>.*?</options>", re.DOTALL)
TOLD = [(modality, EXAMPLE.findall(text)) for modality, text in FULL["examples"].items()]


def written(folder: Path, **changed: Any) -> Path:
    """The full set's file with keys changed; None takes one away."""
    values = {k: v for k, v in (FULL | changed).items() if v is not None}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(TriptychError) as refused:
        build({}, [f"generator.prompts={path}"], "run.yaml")
    told = str(refused.value)
    assert "\n" not in told
    return told.replace(str(path), "FILE")


# The board's words


def test_every_modality_that_is_drawn_has_two_worked_examples() -> None:
    assert {modality for modality, _ in TOLD} == set(bank.MODALITIES)
    assert {len(asked) for _, asked in TOLD} == {2}


@pytest.mark.parametrize(("modality", "asked"), TOLD)
def test_an_example_is_a_question_that_our_own_filters_let_pass(
    modality: str, asked: list[str]
) -> None:
    for text in asked:
        read = parse_question(" ".join(text.split()))
        assert read.problem is None
        for answer in read.options:
            assert filters.reason(row(read.text, answer, *read.options)) is None, read.text


def test_examples_are_sent_of_the_asked_modality_alone() -> None:
    for modality, _ in TOLD:
        task = Task.make(modality, "disease", "hard", "choice", "step")
        told = prompts.ask_prompt("full", task.to_dict())
        for other, theirs in TOLD:
            assert [text in told for text in theirs] == [other == modality] * 2
        assert len(told.split()) < 700
    unknown = prompts.ask_prompt("full", task.to_dict() | {"modality": "PET"})
    assert "<question>" in unknown
    assert "example" not in unknown


@pytest.mark.parametrize("field", ["difficulty", "question_type", "answer_format"])
def test_what_is_asked_for_is_told_with_what_it_means(field: str) -> None:
    named = {
        "difficulty": bank.DIFFICULTIES,
        "question_type": bank.QUESTION_TYPES,
        "answer_format": bank.ANSWER_FORMATS,
    }
    means = FULL["means"][field]
    assert set(means) == set(named[field])
    for value, meaning in means.items():
        fields = Task.make("CT", "disease", "easy", "open", "step").to_dict() | {field: value}
        told = prompts.ask_prompt("full", fields)
        assert [m.strip() in told for m in means.values()] == [v == value for v in means]
        assert meaning.strip() in told


def test_a_body_part_and_steps_are_told_where_they_are_asked_for() -> None:
    plain = Task.make("CT", "disease", "hard", "choice", "step")
    more = Task.make("CT", "disease", "hard", "choice", "step", anatomy="liver", steps=3)
    told = [prompts.ask_prompt("full", task.to_dict()).splitlines() for task in (plain, more)]
    added = [line for line in told[1] if line not in told[0]]
    assert added == [
        "Body part: liver. The question is about it.",
        "Steps: three, each of which needs what was found before it.",
    ]
    assert [line for line in told[1] if line not in added] == told[0]


def test_that_an_image_does_not_tell_is_an_answer_and_an_option_that_passes() -> None:
    words = "cannot be told from this image"
    assert f'"{words}"' in FULL["ask"]
    told = [" ".join(text.split()) for text in FULL["answer"].values()]
    assert all(f"the answer is: {words}." in text for text in told)
    asked = row("How wide is the nodule in mm?", words, "4 mm", "9 mm", words)
    assert filters.reason(asked) is None
    assert filters.reason(replace(asked, answer="9 mm")) is None


def test_the_tiny_models_words_have_no_part_that_it_cannot_use() -> None:
    parts = ("debate", "retry", "knowledge", "examples", "means")
    assert [prompts.has("compact", part) for part in parts] == [False] * 5
    assert all(prompts.has("full", part) for part in parts)


# A user's file


def test_a_copied_set_has_the_same_words_and_its_own_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert command("prompts", path).returncode == 0
    assert path.read_text() == prompts.text_of("full")
    config = build({}, [f"generator.prompts={path}"], "run.yaml").generator
    assert files.words_id(config.prompts) == files.words_id("full")
    fields = Task.make("CT", "disease", "easy", "open", "step").to_dict()
    assert prompts.ask_prompt(config.prompts, fields) == prompts.ask_prompt("full", fields)
    path.write_text(path.read_text().replace("for clinicians who read", "for students who read"))
    changed = build({}, [f"generator.prompts={path}"], "run.yaml").generator
    assert "for students" in prompts.ask_prompt(changed.prompts, fields)
    assert files.words_id(changed.prompts) != files.words_id("full")
    kept = command("prompts", path)
    assert "is a set of prompts" in " ".join(kept.stdout.split())
    assert "for students" in path.read_text()
    path.write_text("ask: hello")
    told = command("prompts", path)
    assert told.returncode == 2
    assert "missing key options" in told.stderr


def test_a_recorded_configuration_has_the_words_and_needs_no_file(tmp_path: Path) -> None:
    path = written(tmp_path, ask="Ask about the {modality}.")
    config = build({}, [f"generator.prompts={path}"], "run.yaml")
    path.unlink()
    again = build(config.recorded(), [], "workspace.json")
    assert again.recorded() == config.recorded()
    assert again.generator.prompts == config.generator.prompts
    assert files.name_of(config.generator.prompts) == "file"


def test_a_comment_or_another_order_are_the_same_words(tmp_path: Path) -> None:
    one = build({}, [f"generator.prompts={written(tmp_path)}"], "x").generator.prompts
    path = tmp_path / "other.yaml"
    values = dict(reversed(FULL.items()))
    path.write_text("# mine\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    assert build({}, [f"generator.prompts={path}"], "x").generator.prompts == one


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ask": None}, "missing key ask"),
        ({"judge": None}, "missing key judge"),
        ({"answer": {"direct": "Answer.", "step": "Think."}}, "missing key answer.meta"),
        ({"answer": "Answer."}, "answer: give direct, step, meta, debate, each with its words"),
        ({"asks": "Ask."}, "unknown key asks; known are ask, options, answer, judge"),
        (
            {"ask": "Ask of {organ}."},
            "ask: unknown placeholder {organ}; it may hold {anatomy}",
        ),
        ({"ask": "Ask of {modality.id}."}, "ask: unknown placeholder {modality.id}"),
        ({"ask": "Ask of {}."}, "ask: unknown placeholder {}"),
        ({"ask": "Ask of {modality!r}."}, "ask: unknown placeholder {modality!r:}"),
        ({"ask": "Ask {"}, "a brace that is meant is written twice"),
        ({"ask": 3}, "ask is no text"),
        ({"options": "Options."}, "options does not hold {options}"),
        ({"judge": "{question} Right?"}, "judge does not hold {proposed}"),
        ({"knowledge": "Known."}, "knowledge does not hold {known}"),
        ({"retry": "Again."}, "retry does not hold {problem}"),
        ({"debate": {"first": "Argue."}}, "missing key debate.second; missing key debate.verdict"),
        ({"debate": FULL["debate"] | {"second": "No."}}, "debate.second does not hold {first}"),
        ({"means": {"organ": {"a": "b"}}}, "unknown key means.organ; a task has modality"),
        ({"means": {"difficulty": "hard"}}, "means.difficulty: give a text a value"),
        ({"examples": {"CT": ["a"]}}, "examples.CT is no text"),
        ({"examples": "CT"}, "examples: by modality"),
    ],
)
def test_a_file_that_is_no_set_is_refused_in_one_line(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    if "means" in changed:
        changed["ask"] = "Ask of {modality}."
    told = refusal(written(tmp_path, **changed))
    assert told.startswith("prompts FILE: ")
    assert said in told


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = refusal(written(tmp_path, judge=None, ask="{x} {y}", retry="Again."))
    for said in ("missing key judge", "placeholder {x}", "placeholder {y}", "retry does not hold"):
        assert said in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ask: [1", "prompts FILE line 1: no YAML: "),
        ("- ask", "prompts FILE: give the keys ask, options, answer, judge"),
        ("", "prompts FILE: give the keys ask"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_in_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert refusal(path).startswith(said)


def test_a_name_that_is_none_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path / "none.yaml")
    assert told.startswith("prompts FILE cannot be read: No such file or directory; name one of ")
    assert "cannot be read: Is a directory" in refusal(tmp_path)
    with pytest.raises(TriptychError, match="prompts fulll cannot be read"):
        build({}, ["generator.prompts=fulll"], "run.yaml")


def test_a_brace_that_is_meant_is_written_twice_and_an_answers_words_are_no_template(
    tmp_path: Path,
) -> None:
    path = written(
        tmp_path, ask="Write {{x}} of {modality}.", answer=FULL["answer"] | {"step": "Say {x}."}
    )
    words = build({}, [f"generator.prompts={path}"], "x").generator.prompts
    assert prompts.ask_prompt(words, {"modality": "CT"}) == "Write {x} of CT."
    assert prompts.answer_prompt(words, "Why?", (), "step") == "Why?\nSay {x}."


# Options that need words


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("styles={debate: 1}", "styles.debate needs the key debate"),
        ("retries=1", "retries needs the key retry"),
        ("knowledge=[report]", "knowledge needs the key knowledge"),
    ],
)
def test_what_the_words_cannot_ask_is_refused(option: str, said: str) -> None:
    with pytest.raises(TriptychError, match=f"prompts compact has no words for it: {said}"):
        build({}, [f"generator.{option}"], "run.yaml")
    assert build({}, ["generator.prompts=full", f"generator.{option}"], "run.yaml")


def test_a_second_try_is_the_default_where_the_words_can_ask_for_it() -> None:
    assert not build({}, [], "x").generator.tries_again
    assert build({}, ["generator.prompts=full"], "x").generator.tries_again
    never = ["generator.prompts=full", "generator.retries=0"]
    assert not build({}, never, "x").generator.tries_again


def test_what_is_known_goes_to_no_server_that_is_not_ours() -> None:
    server = ["generator.prompts=full", "generator.model=m", "generator.knowledge=[labels]"]
    server += ["generator.backend={kind: endpoint, url: http://h/v1}"]
    with pytest.raises(TriptychError, match=r"set generator\.backend\.private=true"):
        build({}, server, "x")
    assert build({}, [*server, "generator.backend.private=true"], "x")


def test_a_kind_of_knowledge_that_nobody_has_is_refused() -> None:
    full = ["generator.prompts=full"]
    assert build({}, [*full, "generator.knowledge=[truth, ViewPosition, KVP]"], "x")
    for kind in ("PatientName", "reports", "AnatomicRegionSequence"):
        with pytest.raises(TriptychError, match=f"knowledge: {kind} is none of report, labels"):
            build({}, [*full, f"generator.knowledge=[{kind}]"], "x")


def test_a_form_is_held_where_an_engine_can() -> None:
    with pytest.raises(TriptychError, match="structured needs backend vllm or endpoint"):
        build({}, ["generator.structured=true"], "x")
    assert build({}, ["generator.structured=true", "generator.backend=vllm"], "x")


def test_the_cluster_configuration_uses_the_full_words() -> None:
    path = Path(__file__).parents[2] / "configs" / "medgr2-7b.yaml"
    assert load(path).generator.prompts == "full"
