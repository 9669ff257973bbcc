"""Label Studio: what is to be asked as its tasks with a labelling configuration, and its export.

A task's `data` names the item and its rows, so that its annotations come back as answers to it. Of
two rows which one stands left follows from the item's id alone. An export is JSON ("JSON", not
"JSON-MIN"): a list of tasks, each with `annotations`, of which each has a list `result` of

    {"from_name": "verdict", "type": "choices",  "value": {"choices": ["reject"]}}
    {"from_name": "comment", "type": "textarea", "value": {"text": ["…"]}}
    {"from_name": "factuality", "type": "pairwise", "value": {"selected": "left"}}

`from_name` is one of our columns. Who annotated is `completed_by`, a number or a user with an `id`;
an e-mail address or a name in it is not looked at. What was skipped (`was_cancelled`), drafts and
predictions are no answers. https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from engine.records import Item, Triplet, content_id
from reward_model.criteria import CRITERIA
from reward_model.exchange.given import COLUMNS, Entry, Given, pointer
from reward_model.verdicts import (
    BOTH_BAD,
    CANNOT_TELL,
    FIRST,
    PREFERENCE,
    REASONS,
    REJECT,
    SECOND,
    TIE,
    VERDICTS,
)

LEFT, RIGHT = "left", "right"
USER = "label-studio-{}"  # the pseudonym of a numbered user
DATA = ("item_id", "triplet_id", "other_id", "image_id", "question", "answer", "other_answer")
TEXTS = ("correction", "comment")


def tasks(
    items: Iterable[Item], rows: Mapping[str, Triplet], pictures: Mapping[str, bytes]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Tasks to import, for verdicts and for preferences; each has its picture in itself.

    `rows` are by id, `pictures` PNG bytes by image id.
    """
    verdicts, preferences = [], []
    for item in items:
        png = base64.b64encode(pictures[item.image_id]).decode()
        data = {"image": f"data:image/png;base64,{png}", "item_id": item.id}
        row = rows[item.triplet_id]
        data |= {"question": _asked(row), "triplet_id": row.id}
        if item.kind == PREFERENCE:
            other = rows[item.other_id]
            left, right = (other, row) if flipped(item.id) else (row, other)
            data |= {"other_id": other.id, LEFT: _shown(left), RIGHT: _shown(right)}
            preferences.append({"data": data})
        else:
            verdicts.append({"data": data | {"shown": _shown(row)}})
    return verdicts, preferences


def flipped(item_id: str) -> bool:
    """Whether an item's second row stands left."""
    return int(content_id("side", item_id)[:8], 16) % 2 == 1


def _asked(row: Triplet) -> str:
    return "\n".join([row.question, *(f"- {option}" for option in row.options)])


def _shown(row: Triplet) -> str:
    return f"{row.answer}\n\n{row.rationale}".strip()


def config(kind: str) -> str:
    """The labelling configuration of a project whose tasks are verdicts, or preferences."""
    if kind == PREFERENCE:
        words = (LEFT, RIGHT, TIE, BOTH_BAD, CANNOT_TELL)
        asks = "".join(
            f'  <Header value="Which is better: {name}?"/>\n{_choices(name, "question", words)}'
            for name in CRITERIA
        )
        shown = _texts("question", LEFT, RIGHT)
    else:
        asks = _choices("verdict", "shown", VERDICTS)
        asks += _choices("reasons", "shown", tuple(REASONS), f' whenChoiceValue="{REJECT}"')
        asks += '  <TextArea name="correction" toName="shown" maxSubmissions="1" rows="1"\n'
        asks += '    placeholder="The right answer, where it is rejected and you know it"/>\n'
        shown = _texts("question", "shown")
    first = "question" if kind == PREFERENCE else "shown"
    return (
        '<View>\n  <Image name="image" value="$image" zoomControl="true"/>\n'
        f"{shown}{asks}"
        f'  <TextArea name="comment" toName="{first}" maxSubmissions="1" rows="2"\n'
        '    placeholder="Anything else; no names"/>\n</View>\n'
    )


def _texts(*names: str) -> str:
    return "".join(f'  <Text name="{name}" value="${name}"/>\n' for name in names)


def _choices(name: str, to: str, words: Iterable[str], when: str = "") -> str:
    """A group of choices; with `when` several at once, and only where it holds of the verdict."""
    how = 'choice="multiple"' if when else 'choice="single"'
    if not when and name != "reasoning":  # not every row has any
        how += ' required="true"'
    seen = f' visibleWhen="choice-selected" whenTagName="verdict"{when}' if when else ""
    inside = "".join(f"    <Choice value={quoteattr(word)}/>\n" for word in words)
    return f'  <Choices name="{name}" toName="{to}" {how}{seen}>\n{inside}  </Choices>\n'


def is_one(content: Any) -> bool:
    """Whether JSON is such an export."""
    return isinstance(content, list) and any(
        isinstance(task, dict) and "annotations" in task and "data" in task for task in content
    )


def read(content: list[Any]) -> Given:
    """Entries of an export: one an annotation."""
    given, skipped, others = Given(), 0, set[str]()
    for number, task in enumerate(content):
        place = pointer(number)
        annotations = task.get("annotations") if isinstance(task, dict) else None
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(annotations, list) or not isinstance(data, dict):
            given.refused.append(f"{place}: is no task with data and annotations")
            continue
        for which, annotation in enumerate(annotations):
            at = pointer(number, "annotations", which)
            if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
                given.refused.append(f"{at}: is no annotation with a result")
            elif annotation.get("was_cancelled"):
                skipped += 1
            else:
                given.entries.append(_entry(annotation, data, place, at, others))
    if skipped:
        given.notes.append(f"{skipped} annotations were skipped by their annotators: no answers")
    if others:
        named = ", ".join(sorted(map(repr, others))[:8])
        given.notes.append(f"controls that are not read: {named}")
    return given


def _entry(
    annotation: dict[str, Any], data: dict[str, Any], task: str, at: str, others: set[str]
) -> Entry:
    values: dict[str, Any] = {name: data[name] for name in DATA if name in data}
    places = {name: f"{task}/data/{name}" for name in values}
    if values.get("item_id"):  # its words are shown with the options, and are not the row's alone
        values.pop("question", None)
    sides = {LEFT: FIRST, RIGHT: SECOND}
    if values.get("item_id") and LEFT in data and flipped(str(values["item_id"])):
        sides = {LEFT: SECOND, RIGHT: FIRST}
    for number, result in enumerate(annotation["result"]):
        name, said = _result(result)
        if name not in COLUMNS or name in DATA:
            others.add(name)
            continue
        if name in CRITERIA:
            said = sides.get(said, said) if isinstance(said, str) else said
        values[name] = said
        places[name] = f"{at}/result/{number}"
    values |= {
        "reader": _user(annotation.get("completed_by")),
        "at": annotation.get("created_at"),
        "seconds": annotation.get("lead_time"),
    }
    places |= {"reader": f"{at}/completed_by", "at": f"{at}/created_at"}
    places["seconds"] = f"{at}/lead_time"
    for name in COLUMNS:
        places.setdefault(name, at)
    return Entry(at, values, places)


def _result(result: Any) -> tuple[str, Any]:
    """The column that a result answers, and what it says."""
    if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
        return str(result)[:40], None
    name, value = str(result.get("from_name", "")), result["value"]
    if "selected" in value:
        return name, value["selected"]
    said = value.get("choices", value.get("text"))
    if isinstance(said, list) and name != "reasons":
        texts = [text for text in said if isinstance(text, str)]
        said = "\n".join(texts) if name in TEXTS else "; ".join(texts)
    return name, said


def _user(user: Any) -> str | None:
    """Who annotated, never by name or address."""
    number = user.get("id") if isinstance(user, dict) else user
    if number is None or isinstance(number, bool) or not str(number).strip():
        return None
    return USER.format(number) if str(number).isdigit() else str(number)
