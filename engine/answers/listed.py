"""Options as real models list them: by bars, lines, letters, bullets, tags, and in JSON."""

from __future__ import annotations

import re
from string import ascii_lowercase
from typing import Any

from engine.answers.unwrapping import key_of

_LETTER = re.compile(r"[*_]{0,3}\(?([A-Za-z])[).:\]][*_]{0,3}\s{0,9}(?=\S)")
_NUMBER = re.compile(r"[*_]{0,3}\(?(\d{1,2})[).:\]][*_]{0,3}\s{1,9}(?=\S)")
_BULLET = re.compile(r"\A[-–*•·]\s{1,9}(?=\S)")
_INLINE = re.compile(r"(?<!\S)\(?([A-Za-z])[).:]\s{1,9}(?=\S)")
_OPTION_TAG = re.compile(r"<option\b[^<>]{0,40}>([^<>]*)</option>", re.IGNORECASE)
_YES_NO = re.compile(r"(yes)\s{0,3}(?:/|,|;|or)\s{0,3}(no)\.?", re.IGNORECASE)
_GIVEN_AWAY = re.compile(r"\((?:correct|right)(?: answer| option)?\)\W*\Z|[✓✔✅]", re.IGNORECASE)
_TEXT_KEYS = ("text", "option", "value", "content", "answer", "label")
_ONE_OPTION = re.compile(r"(?:option|choice)?([a-h])|(?:option|choice|answer)([1-8])")


def first_of_list(line: str) -> bool:
    """Whether a line begins a list by letters: "A) left", "(a) left", "- A. left"."""
    found = _LETTER.match(_BULLET.sub("", line.strip()))
    return found is not None and found[1] in "Aa"


def options_in(text: str) -> list[str]:
    """The options of a text that is nothing else; one where it cannot be parted."""
    text = text.strip()
    if "|" in text:
        return unlabelled([part for part in text.split("|") if part.strip()])
    if tagged := _OPTION_TAG.findall(text):
        return unlabelled(tagged) if nothing_left(text) else [text]
    if both := _YES_NO.fullmatch(text):
        return [both[1], both[2]]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1:
        return unlabelled(lines)
    before, options = in_line(text)
    return options if options and not before else [text] if text else []


def in_line(text: str) -> tuple[str, list[str]]:
    """What stands before a list in one line, and its options: "Side? A) left B) right"."""
    places = list(_INLINE.finditer(text))
    letters = "".join(found[1].lower() for found in places)
    if len(places) < 2 or not ascii_lowercase.startswith(letters):
        return text, []
    ends = [found.start() for found in places[1:]] + [len(text)]
    parts = [text[found.end() : end] for found, end in zip(places, ends)]
    return text[: places[0].start()].strip(), [_clean(part) for part in parts]


def nothing_left(text: str) -> bool:
    """Whether a text holds option tags alone."""
    return not _OPTION_TAG.sub("", text).strip()


def unlabelled(items: list[str]) -> list[str]:
    """Items without their bullets, letters or numbers, where all have them and in order."""
    items = [item.strip() for item in items]
    if all(found := [_BULLET.match(item) for item in items]):
        items = [item[one.end() :] for item, one in zip(items, found) if one]
    letters = [_LETTER.match(item) for item in items]
    numbers = [_NUMBER.match(item) for item in items]
    for labels, order in (
        (letters, list(ascii_lowercase)),
        (numbers, [str(n) for n in range(1, 27)]),
    ):
        said = [label[1].lower() for label in labels if label]
        if len(said) == len(items) and said == order[: len(said)]:
            items = [item[label.end() :] for item, label in zip(items, labels) if label]
            break
    return [_clean(item) for item in items]


def _clean(item: str) -> str:
    item = item.strip().rstrip(",;").strip()
    return item[2:-2].strip() if item.startswith("**") and item.endswith("**") else item


def options_of(value: Any) -> list[str] | None:
    """The options of a JSON value, by letter or in a list; None where it has no such form."""
    if isinstance(value, str):
        return options_in(value)
    if isinstance(value, dict):
        return _by_letter(value)
    if isinstance(value, list):
        texts = [_text(one) for one in value]
        if all(text is not None for text in texts):
            return unlabelled([text for text in texts if text is not None])
    return None


def lettered_fields(value: dict[str, Any]) -> list[str]:
    """Options that are fields of their own: {"optionA": …, "optionB": …} or {"answer1": …}."""
    keys = [(_ONE_OPTION.fullmatch(key_of(key)), one) for key, one in value.items()]
    return _by_letter({found[1] or found[2]: one for found, one in keys if found}) or []


def _by_letter(value: dict[str, Any]) -> list[str] | None:
    keys = [key_of(key) for key in value]
    texts = [_text(one) for one in value.values()]
    orders = (list(ascii_lowercase), [str(n) for n in range(1, 27)])
    if sorted(keys) in [order[: len(keys)] for order in orders] and all(texts):
        return [text for _, text in sorted(zip(keys, texts)) if text]
    return None


def _text(value: Any) -> str | None:
    """An option of a JSON list: a text, a number, or an object with one text beside its letter."""
    if isinstance(value, dict):
        fields = {key_of(key): one for key, one in value.items()}
        value = next((fields[key] for key in _TEXT_KEYS if key in fields), None)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip()


def given_away(options: list[str]) -> bool:
    """Whether an option says of itself that it is the answer."""
    return any(_GIVEN_AWAY.search(option) for option in options)
