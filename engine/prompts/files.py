"""A set of prompts in a user's file: read, checked, and made the line of JSON that it is known by.

A file that lacks a key, has one too many, or names what no prompt can fill in is refused in a line,
before anything is asked of a model.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from engine.errors import TriptychError
from engine.prompts import NAMES, prompt_set
from engine.records import Task, canonical, column_names, content_id
from engine.yaml_file import read_yaml

STYLES = ("direct", "step", "meta")  # that every set can ask for; `debate` is one more
TURNS = ("first", "second", "verdict")
FIELDS = tuple(name for name in column_names(Task) if name != "id")
# Of each template: what must stand in it, and what else may.
TEMPLATES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "options": (frozenset({"options"}), frozenset()),
    "judge": (frozenset({"question", "proposed"}), frozenset({"options"})),
    "knowledge": (frozenset({"known"}), frozenset()),
    "retry": (frozenset({"problem"}), frozenset({"reply"})),
    "debate.first": (frozenset(), frozenset()),
    "debate.second": (frozenset({"first"}), frozenset()),
    "debate.verdict": (frozenset({"first", "second"}), frozenset()),
}
REQUIRED = ("ask", "options", "answer", "judge")
KEYS = (*REQUIRED, "means", "examples", "knowledge", "retry", "debate")


@cache
def words_id(words: str) -> str:
    """32 hex digits over all words of a set: the same for equal words, whatever they are called."""
    return content_id("words", prompt_set(words))


def name_of(words: str) -> str:
    """What the record calls a set: its name, or `file`."""
    return words if words in NAMES else "file"


def words_from(value: object) -> object:
    """What `generator.prompts` names: a set's name, or the JSON of a file, of a set, or of that.

    Raises TriptychError with the file and what is wrong with it.
    """
    if isinstance(value, dict):
        return canonical(checked(value, "generator.prompts"))
    if not isinstance(value, str) or value in NAMES:
        return value
    if value.startswith("{"):
        return canonical(checked(yaml.safe_load(value), "generator.prompts"))
    return canonical(read_set(Path(value)))


def read_set(path: Path) -> dict[str, Any]:
    """A user's set of prompts; raises TriptychError with the file and what is wrong, in a line."""
    names = ", ".join(NAMES)
    makes = f"name one of {names} or a YAML file, of which `triptych prompts FILE` makes one"
    values = read_yaml(path, "prompts", unread=makes)
    return checked(values, f"prompts {path}")


def checked(values: object, where: str) -> dict[str, Any]:
    """The set, if it is one. Raises TriptychError, which names all that is wrong after `where`."""
    if not isinstance(values, dict):
        raise TriptychError(f"{where}: give the keys {', '.join(REQUIRED)}, each with its words")
    problems = [f"missing key {key}" for key in REQUIRED if key not in values]
    problems += [
        f"unknown key {key}; known are {', '.join(KEYS)}" for key in values if key not in KEYS
    ]
    problems += _of_answers(values["answer"]) if "answer" in values else []
    problems += _of_tables(values)
    problems += _of_ask(values)
    debate = values.get("debate", {})
    turns = debate if isinstance(debate, dict) else {}
    if "debate" in values:
        problems += _of_keys("debate", debate, TURNS)
    flat = values | {f"debate.{turn}": turns[turn] for turn in TURNS if turn in turns}
    for name, (needed, others) in TEMPLATES.items():
        if name in flat:
            problems += _of_template(name, flat[name], needed, others)
    if problems:
        raise TriptychError(f"{where}: {'; '.join(problems)}")
    return values


def _of_answers(answer: object) -> list[str]:
    """Answers' words are no templates: a brace in them is a brace."""
    problems = _of_keys("answer", answer, STYLES, ("debate",))
    if isinstance(answer, dict):
        problems += [f"answer.{k} is no text" for k, v in answer.items() if not _text(v)]
    return problems


def _of_keys(
    name: str, value: object, needed: tuple[str, ...], others: tuple[str, ...] = ()
) -> list[str]:
    if not isinstance(value, dict):
        return [f"{name}: give {', '.join((*needed, *others))}, each with its words"]
    known = (*needed, *others)
    return [f"missing key {name}.{key}" for key in needed if key not in value] + [
        f"unknown key {name}.{key}; known are {', '.join(known)}"
        for key in value
        if key not in known
    ]


def _of_tables(values: Mapping[str, Any]) -> list[str]:
    """Of what a task's fields look up: meanings by field and value, examples by modality."""
    problems = []
    means, examples = values.get("means", {}), values.get("examples", {})
    if not isinstance(means, dict) or not isinstance(examples, dict):
        return ["means: give texts by a task's field and its value, examples: by modality"]
    problems += [
        f"unknown key means.{field}; a task has {', '.join(FIELDS)}"
        for field in means
        if field not in FIELDS
    ]
    tables = {f"means.{field}": table for field, table in means.items()} | {"examples": examples}
    for name, table in tables.items():
        if not isinstance(table, dict):
            problems.append(f"{name}: give a text a value")
        else:
            problems += [
                f"{name}.{key} is no text" for key, said in table.items() if not _text(said)
            ]
    return problems


def _of_ask(values: Mapping[str, Any]) -> list[str]:
    if "ask" not in values:
        return []
    means = values.get("means", {})
    meanings = {f"{field}_means" for field in means} if isinstance(means, dict) else set()
    known = frozenset({*FIELDS, *meanings, "examples"})
    return _of_template("ask", values["ask"], frozenset(), known)


def _of_template(
    name: str, template: object, needed: frozenset[str], others: frozenset[str]
) -> list[str]:
    if not isinstance(template, str):
        return [f"{name} is no text"]
    try:
        found = [
            field if not (form or kind) else f"{field}{'!' + kind if kind else ''}:{form or ''}"
            for _, field, form, kind in string.Formatter().parse(template)
            if field is not None
        ]
    except ValueError as error:
        return [f"{name}: {error}; a brace that is meant is written twice"]
    known = sorted(needed | others)
    may = f"it may hold {', '.join('{' + one + '}' for one in known)}" if known else "it holds none"
    problems = [
        f"{name}: unknown placeholder {{{one}}}; {may}, and a brace that is meant is written twice"
        for one in dict.fromkeys(found)
        if one not in known
    ]
    return problems + [f"{name} does not hold {{{one}}}" for one in sorted(needed - set(found))]


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
