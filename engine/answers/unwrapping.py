"""What real models put around what was asked for: characters, tags, fences, tokens, JSON.

Nothing here decides what a reply says; `engine.answers.reading` does. Every function is linear in
the length of its text.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

LONGEST_DICT = 20_000  # characters of a Python dict that are read

_CHARACTERS = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full width: （Ｂ）
    | dict.fromkeys((0x200B, 0x2060, 0xFEFF), None)  # without width
    | dict.fromkeys((0xA0, 0x2007, 0x202F, 0x3000), " ")
    | {0xFB00 + n: plain for n, plain in enumerate("ff fi fl ffi ffl st st".split())}
)
_SPELT = {"thinking": "think", "thought": "think", "reasoning": "think", "rationale": "think"} | {
    "final_answer": "answer",
    "choices": "options",
}
_TAGS = re.compile(
    rf"(?:<|&lt;)\s{{0,3}}(/?)\s{{0,3}}(question|options|think|answer|{'|'.join(_SPELT)})"
    r"\s{0,3}(?:>|&gt;)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"(?:```|~~~)(?:(?:json|xml|html|te?xt|plaintext|markdown|md|python)\b)?")
_BOX = re.compile(r"<\|begin_of_box\|>|<\|end_of_box\|>")
_TOKEN = r"<\|[^|<>\s]{1,40}\|>|</?s>|<[be]os>|<(?:start|end)_of_turn>"
_FIRST = re.compile(rf"(?:{_TOKEN})(?:assistant\b|model\b)?\s*")
_LAST = re.compile(rf"(?:{_TOKEN})\Z")
_WILLING = r"(?:sure|certainly|of course|absolutely|okay|ok|great)\b"
_PREFACE = re.compile(
    rf"\s*(?:{_WILLING}[!.:](?=\s|\Z)|"
    rf"(?:{_WILLING},?\s)?(?:here(?:['’]s|\s(?:is|are))|below is)\b[^\n?.!:]{{0,200}}:(?=\s|\Z))",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"\{\s*[\"']")


def unwrapped(text: str) -> str:
    """The text in plain characters, its tags as we write them, without fences and end tokens."""
    text = _TAGS.sub(_tag, text.translate(_CHARACTERS))
    text = _BOX.sub(lambda box: r"\boxed{" if "begin" in box[0] else "}", text)
    text = _FENCE.sub("\n", text).strip()
    while found := _FIRST.match(text):
        text = text[found.end() :]
    while found := _LAST.search(text, max(0, len(text) - 60)):
        text = text[: found.start()].rstrip()
    return text


def _tag(found: re.Match[str]) -> str:
    name = found[2].lower()
    return f"<{found[1]}{_SPELT.get(name, name)}>"


def without_preface(text: str) -> str:
    """The text without "Sure! Here is the question:" before it."""
    start = 0
    while found := _PREFACE.match(text, start):
        start = found.end()
    return text[start:].strip()


class SaidTwice(ValueError):
    """An object has a key twice, or there are more objects than one."""


class NotWhole(ValueError):
    """An object begins and does not end."""


def find_object(text: str, names: frozenset[str]) -> tuple[str, dict[str, Any], str] | None:
    """What stands before a JSON object or Python dict, the object, and what follows; None without.

    It is the first that begins in the text. Where it has no key of `names`, the one object in its
    fields is taken instead. Raises NotWhole where it is cut off or broken, SaidTwice where it has a
    key twice or there are more objects than one.
    """
    if not (found := _OBJECT.search(text)):
        return None
    start = found.start()
    try:
        decoder = json.JSONDecoder(strict=False, object_pairs_hook=_once)
        value, end = decoder.raw_decode(text, start)
    except SaidTwice:
        raise
    except (ValueError, RecursionError):
        end = text.rfind("}") + 1
        value = _dict(text[start:end])
    if not isinstance(value, dict):
        raise NotWhole
    before, after = text[:start].rstrip(), text[end:].lstrip()
    if before.endswith("["):
        if after.startswith(","):
            raise SaidTwice
        before, after = before[:-1], after.removeprefix("]")
    return before, _innermost(value, names), after


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key_of(key) for key, _ in pairs}) < len(pairs):
        raise SaidTwice
    return dict(pairs)


def _dict(text: str) -> Any:
    """A Python dict, as models write that were trained on code; None where it is none."""
    if len(text) > LONGEST_DICT:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                _once([(str(ast.literal_eval(key)), 0) for key in node.keys if key])
        return ast.literal_eval(tree)
    except SaidTwice:
        raise
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _innermost(value: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The object with one of these keys: {"response": {…}}, {"title": …, "questions": [{…}]}."""
    for _ in range(4):
        fields = [one if isinstance(one, list) else [one] for one in value.values()]
        nested = [one for one in fields if one and all(isinstance(each, dict) for each in one)]
        if any(key_of(key) in names for key in value) or not nested:
            break
        if len(nested) > 1 or len(nested[0]) > 1:
            raise SaidTwice
        (value,) = nested[0]
    return value


def key_of(key: str) -> str:
    """A key without case and marks: "Final Answer", "final_answer" and "finalAnswer" are one."""
    return "".join(c for c in str(key).casefold() if c.isalnum())
