"""Argilla 2's export: records with responses, by question and by user.

`records.to_json` writes a list of records, nested:

    {"id": "…", "fields": {…}, "metadata": {"item_id": "…"}, "suggestions": {…},
     "responses": {"verdict": [{"value": "reject", "user_id": "…"}]}, "vectors": {}}

`records.to_dict` the same by the names of keys, or by record ids, and `records.to_datasets` columns
`verdict.responses`, `verdict.responses.users`, `verdict.responses.status` beside the fields'. A
question is named as one of our columns: labels for the verdict, a multi-label for the reasons, text
for correction and comment, and of preferences a label a criterion (first, second, tie, …) or a
ranking of `first` and `second`. Fields or metadata, or a record's own id, name what it is about.
Suggestions are a model's and are not read. Responses have no time; a user is a UUID.
https://docs.argilla.io/latest/how_to_guides/import_export
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.errors import TriptychError
from reward_model.criteria import CRITERIA
from reward_model.exchange.given import COLUMNS, Entry, Given, pointer
from reward_model.verdicts import FIRST, SECOND, TIE

NAMES = ("item_id", "triplet_id", "other_id", "image_id", "question", "answer", "other_answer")
ANSWERED = ("verdict", "reasons", "correction", *CRITERIA, "comment")
RESPONSES = ".responses"
SUBMITTED = ("submitted", "", "None")  # or not said: of drafts and what was discarded it is


def is_one(content: Any) -> bool:
    """Whether JSON is such an export."""
    try:
        return any("responses" in record or _flat(record) for _, record in records(content))
    except TriptychError:
        return False


def _flat(record: dict[str, Any]) -> bool:
    return any(name.endswith(RESPONSES) for name in record)


def records(content: Any, unit: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record with its place, a JSON Pointer or the number of a line or row (`unit`).

    Raises TriptychError where it is none of the forms.
    """
    if isinstance(content, list):
        found = [
            (f"{unit} {number + 1}" if unit else pointer(number), record)
            for number, record in enumerate(content)
        ]
    elif isinstance(content, dict) and all(isinstance(v, list) for v in content.values()):
        length = {len(values) for values in content.values()}
        if len(length) > 1:
            raise TriptychError("the columns of the export differ in length: export it again")
        found = [
            (pointer("*", number), {name: values[number] for name, values in content.items()})
            for number in range(next(iter(length), 0))
        ]
    elif isinstance(content, dict):
        found = [(pointer(name), record) for name, record in content.items()]
    else:
        found = [("", content)]
    for place, record in found:
        if not isinstance(record, dict):
            raise TriptychError(f"{place or 'the file'}: is no record of an Argilla export")
        yield place, record


def read(content: Any, unit: str = "") -> Given:
    """Entries of an export: one a record and user. Raises TriptychError where it is none.

    `unit` is what its records are (line or row), where it is no JSON.
    """
    given, left, others, drafts = Given(), 0, set[str](), False
    for place, record in records(content, unit):
        named = _named(record)
        drafts |= isinstance(record.get("responses"), dict)
        said: dict[str, dict[str, Any]] = {}
        places: dict[str, dict[str, str]] = {}
        for question, user, value, status, at in _responses(record, place):
            if status not in SUBMITTED:
                left += 1
            elif question not in ANSWERED:
                others.add(question)
            elif question in said.setdefault(user, {}):
                given.refused.append(f"{at}: user {user[:40]} answers {question} twice")
            else:
                said[user][question] = _value(question, value)
                places.setdefault(user, {})[question] = at
        for user, answers in said.items():
            values = named | answers | {"reader": None if user in ("", "None") else user}
            where = dict.fromkeys(COLUMNS, place) | places.get(user, {})
            given.entries.append(Entry(place, values, where))
    if drafts and given.entries:
        given.notes.append("this form of export does not tell drafts: all responses were taken")
    if left:
        given.notes.append(f"{left} responses are drafts or were discarded: no answers")
    if others:
        named_others = ", ".join(sorted(map(repr, others))[:8])
        given.notes.append(f"questions that are not read: {named_others}")
    return given


def _named(record: dict[str, Any]) -> dict[str, Any]:
    """What a record is about: by its metadata or fields, else by its own id."""
    found: dict[str, Any] = {}
    for part in (record, record.get("fields"), record.get("metadata")):
        if isinstance(part, dict):
            found |= {name: part[name] for name in NAMES if part.get(name) is not None}
    if not found.keys() & {"item_id", "triplet_id", "image_id"} and record.get("id") is not None:
        found["item_id"] = str(record["id"])
    return found


def _responses(record: dict[str, Any], place: str) -> Iterator[tuple[str, str, Any, str, str]]:
    """(question, user, value, status, place) of each response of a record."""
    nested = record.get("responses")
    if isinstance(nested, dict):
        for question, responses in nested.items():
            if not isinstance(responses, list | None):
                raise TriptychError(f"{place}{pointer('responses', question)}: is no list")
            for number, response in enumerate(responses or []):
                at = f"{place}{pointer('responses', question, number)}"
                if not isinstance(response, dict) or "value" not in response:
                    raise TriptychError(f"{at}: is no response of an Argilla export")
                status = str(response.get("status") or "")
                yield question, str(response.get("user_id")), response["value"], status, at
        return
    for name in record:
        if name.endswith(RESPONSES):
            values = record[name] or []
            if not isinstance(values, list):
                raise TriptychError(f"{place}{pointer(name)}: is no list of responses")
            users, states = record.get(f"{name}.users"), record.get(f"{name}.status")
            users = users if isinstance(users, list) else [None] * len(values)
            states = states if isinstance(states, list) else [""] * len(values)
            for number, (user, value, status) in enumerate(zip(users, values, states)):
                at = f"{place}{pointer(name, number)}"
                yield name.removesuffix(RESPONSES), str(user), value, str(status or ""), at


def _value(question: str, value: Any) -> Any:
    """A ranking of `first` and `second` as the better one, or a tie; anything else as it is."""
    if question not in CRITERIA or not isinstance(value, list):
        return value
    ranks = {str(each.get("value")): each.get("rank") for each in value if isinstance(each, dict)}
    one, two = ranks.get(FIRST), ranks.get(SECOND)
    if not isinstance(one, int) or not isinstance(two, int):
        return str(value)
    return TIE if one == two else FIRST if one < two else SECOND
