"""Replies of real models, read tolerantly: what becomes a row, never what earns a reward.

What `engine.answers.parsing` takes is taken as it takes it. Else the pieces are looked for in the
forms that models are known to write (`tests/engine/test_reading.py` names each with its source),
and what was found must be right in the strict form once it is written so: a row that is read is one
whose rendering `parse_completion` or `parse_question` reads the same. The form alone is forgiven:
two answers, a hedge, text after the answer, a tag inside it, and what is cut off stay unreadable.

GRPO's reward and the examination read strictly: there the form is asked for, and is part of what
is measured.
"""

from __future__ import annotations

import re
from typing import Any

from engine.answers import listed, unwrapping
from engine.answers.declarations import (
    LONGEST_ANSWER,
    bare,
    contradicted,
    declared,
    nothing,
)
from engine.answers.matching import is_valid, resolve
from engine.answers.parsing import (
    Completion,
    ParsedQuestion,
    parse_completion,
    parse_question,
    render_completion,
    render_question,
)
from engine.answers.spelling import normalise

_ANSWER_KEYS = frozenset(
    "answer finalanswer correctanswer bestanswer answerchoice answeridx answerletter answeroption "
    "answertext choice correctchoice correctoption selectedoption prediction".split()
)
_REASON_KEYS = frozenset(
    "think thinking thought thoughts reasoning rationale explanation analysis justification "
    "stepbystepthinking chainofthought cot".split()
)
_QUESTION_KEYS = frozenset("question questiontext questionstem stem query q".split())
_OPTION_KEYS = frozenset("options choices answerchoices answeroptions alternatives".split())
_TAG = re.compile(r"</?(?:question|options|think|answer)>")
_REASONS = re.compile(
    r"[*_#\s]{0,9}(?:explanation|reasoning|rationale|analysis|thought)[*_]{0,3}\s?:[*_]{0,3}\s*",
    re.IGNORECASE,
)
_MARKUP = r"[#>*_\s]{0,9}"
_ASKED = re.compile(
    rf"{_MARKUP}(?:question|q)\s?(?:\d{{1,3}})?(?:\s?\([^()]{{1,20}}\))?[*_]{{0,3}}\s?"
    r"(?:[:.)][*_]{0,3}\s*|\Z)",
    re.IGNORECASE,
)
_RULE = re.compile(r"[-*_=]{3,}")
_NUMBER = re.compile(r"[*_]{0,3}\(?\d{1,3}[.)]\s+")
_LISTED = re.compile(
    rf"{_MARKUP}(?:answer\s)?(?:options|choices)[*_]{{0,3}}\s?:[*_]{{0,3}}\s*", re.IGNORECASE
)
_SOLVED = re.compile(
    rf"{_MARKUP}(?:(?:the\s)?(?:correct|right|best|final|expected)\s)?"
    r"(?:answer|explanation|rationale|reasoning)(?:\s?key)?[*_]{0,3}\s?(?::|is\b)|<(?:answer|think)>",
    re.IGNORECASE,
)


def read_completion(text: str, options: tuple[str, ...] = ()) -> Completion:
    """The reasoning and the answer of a reply; `problem` where it cannot be read. Never raises.

    With options an answer is read out of free text only where it names one of them.
    """
    whole = text.count("<answer>") == text.count("</answer>") == 1
    strict = parse_completion(text, options) if whole else None
    if strict and strict.problem is None:
        if not options or is_valid(strict.answer, options):
            return strict
        answer = bare(unwrapping.unwrapped(strict.answer), options)
        return Completion(strict.rationale, answer) if is_valid(answer, options) else strict
    found = _said(unwrapping.unwrapped(text), options)
    if isinstance(found, str):
        return Completion("", "", found)
    return parse_completion(render_completion(*(part.strip() for part in found)), options)


def _said(text: str, options: tuple[str, ...]) -> tuple[str, str] | str:
    """The rationale and the answer of an unwrapped text, or why there are none."""
    if text.count("<answer>") > 1 or text.count("</answer>") > 1:
        return "more than one answer"
    thought = _thought(text)
    if isinstance(thought, str):
        return thought
    rationale, rest = thought
    if "<answer>" in rest:
        found = _tagged(rest, options)
    elif "</answer>" in rest:
        found = "no answer tag"
    else:
        found = _untagged(rest, options)
    if isinstance(found, str):
        return found
    before, answer = found
    before = _REASONS.sub("", unwrapping.without_preface(before), count=1)
    return "\n\n".join(part for part in (rationale, before.strip()) if part), answer


def _thought(text: str) -> tuple[str, str] | str:
    """The reasoning in its tags, of which the opening one may be in the prompt, and the rest."""
    opened, closed = text.count("<think>"), text.count("</think>")
    if not opened and not closed:
        return "", text
    if not closed:
        return "the reasoning is cut off"
    before, _, rest = text.partition("</think>")
    if opened:
        preface, _, before = before.partition("<think>")
        if unwrapping.without_preface(preface):
            return "text outside the tags"
    if opened > 1 or closed > 1 or _TAG.search(before) or "<think>" in rest:
        return "a tag inside the reasoning"
    return before.strip(), rest


def _tagged(text: str, options: tuple[str, ...]) -> tuple[str, str] | str:
    """What stands before the one answer tag, and the answer in it."""
    before, _, rest = text.partition("<answer>")
    inside, closed, after = rest.partition("</answer>")
    if not closed:
        return "the answer is cut off"
    if not nothing(after):
        return "text after the answer"
    answer = bare(inside, options) if options else inside.strip()
    if contradicted(before, answer, options):
        return "more than one answer"
    return before, answer


def _untagged(text: str, options: tuple[str, ...]) -> tuple[str, str] | str:
    try:
        found = unwrapping.find_object(text, _ANSWER_KEYS)
    except unwrapping.SaidTwice:
        return "more than one answer"
    except unwrapping.NotWhole:
        return "broken JSON"
    if found and _fields(found[1], _ANSWER_KEYS):
        return _in_object(*found, options)
    said = declared(text, options)
    if said is None:
        only = bare(text, options)
        if options and "\n" not in only and len(only) < 500 and resolve(only, options):
            return "", only
        return "no answer tag"
    return said


def _fields(value: dict[str, Any], names: frozenset[str]) -> list[Any]:
    return [
        one for key, one in value.items() if one is not None and unwrapping.key_of(key) in names
    ]


def _in_object(
    before: str, value: dict[str, Any], after: str, options: tuple[str, ...]
) -> tuple[str, str] | str:
    if not nothing(after):
        return "more than one answer" if "{" in after else "text after the answer"
    answers = [_answer(one) for one in _fields(value, _ANSWER_KEYS)]
    said = [bare(answer, options) for answer in answers if answer is not None]
    if len(said) < len(answers) or any(len(answer) > LONGEST_ANSWER for answer in said):
        return "an answer that is no short text"
    spelt = [resolve(one, options) if options else normalise(one) for one in said]
    if len(set(spelt)) > 1 or contradicted(before, said[0], options):
        return "more than one answer"
    reasons = _fields(value, _REASON_KEYS)
    lines = [
        one for reason in reasons for one in (reason if isinstance(reason, list) else [reason])
    ]
    parts = [unwrapping.without_preface(before), *(str(line).strip() for line in lines)]
    return "\n".join(part for part in parts if part), max(said, key=len)


def _answer(value: Any) -> str | None:
    """An answer of a JSON value: a text or a number, alone in a list, or a letter with its text."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, dict) and len(value) == 1:
        ((letter, said),) = value.items()
        value = f"{letter}. {said}" if len(letter) == 1 and isinstance(said, str) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def read_question(text: str) -> ParsedQuestion:
    """The question and the options of a reply; `problem` where it cannot be read. Never raises.

    An answer that a model adds to its own question is left away.
    """
    tags = [f"<{end}{tag}>" for tag in ("question", "options") for end in ("", "/")]
    once = all(text.count(tag) < 2 for tag in tags)
    strict = parse_question(text) if once else None
    if strict and strict.problem is None:
        return strict
    found = _asked(unwrapping.unwrapped(text))
    if isinstance(found, str):
        return ParsedQuestion("", (), found)
    stem, options = found[0].strip(), tuple(option.strip() for option in found[1])
    if options and listed.first_of_list(options[0]):
        return ParsedQuestion(stem, (), "options in no known form")
    if any("|" in option for option in options):
        return ParsedQuestion(stem, (), "a bar inside an option")
    if listed.given_away(list(options)):
        return ParsedQuestion(stem, options, "an option is marked as the answer")
    read = parse_question(render_question(stem, options))
    if read.problem is None and (read.text, read.options) != (stem, options):
        return ParsedQuestion("", (), "no question tag")
    return read


def _asked(text: str) -> tuple[str, list[str]] | str:
    """The stem and the options of an unwrapped text, or why there are none."""
    asked = text.find("<question>")
    thought = ("", text) if 0 <= asked < text.find("<think>") else _thought(text)
    if isinstance(thought, str):
        return thought
    text = thought[1].strip()
    if "<question>" in text or "</question>" in text:
        return _tagged_question(text)
    try:
        found = unwrapping.find_object(text, _QUESTION_KEYS)
    except unwrapping.SaidTwice:
        return "more than one question"
    except unwrapping.NotWhole:
        return "broken JSON"
    if found and (stems := _fields(found[1], _QUESTION_KEYS)):
        return _question_object(stems, found[1], found[2])
    return _written(unwrapping.without_preface(text))


def _tagged_question(text: str) -> tuple[str, list[str]] | str:
    if text.count("<question>") > 1 or text.count("</question>") > 1:
        return "more than one question"
    before, _, rest = text.partition("<question>")
    stem, closed, after = rest.partition("</question>")
    if not closed:
        return "the question is cut off"
    if _TAG.search(before):
        return "no question tag"
    if "<options>" not in after:
        return _followed(after) or (stem, [])
    between, _, rest = after.partition("<options>")
    inside, closed, after = rest.partition("</options>")
    if not closed:
        return "the options are cut off"
    if between.strip() and not _LISTED.fullmatch(between.strip()):
        return "text after the question"
    if _TAG.search(inside) or "options>" in after:
        return "a tag inside the options"
    options = listed.options_in(inside)
    return _followed(after) or (stem, options) if options else "an empty option"


def _followed(after: str) -> str | None:
    """A complaint, unless nothing but the question's own solution follows."""
    after = after.strip()
    return None if nothing(after) or _SOLVED.match(after) else "text after the question"


def _question_object(
    stems: list[Any], value: dict[str, Any], after: str
) -> tuple[str, list[str]] | str:
    if len(stems) > 1 or "{" in after:
        return "more than one question"
    if not isinstance(stems[0], str):
        return "no question tag"
    if complaint := _followed(after):
        return complaint
    given = _fields(value, _OPTION_KEYS)
    options = listed.options_of(given[0]) if given else listed.lettered_fields(value)
    if len(given) > 1 or options is None or (given and given[0] and not options):
        return "options in no known form"
    return stems[0], options


def _written(text: str) -> tuple[str, list[str]] | str:
    """A question in lines: "Question: …", "Options:" or "A) …", perhaps "Answer: …"."""
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not _RULE.fullmatch(line)]
    labels = [place for place, line in enumerate(lines) if _ASKED.match(line)]
    if len(labels) > 1:
        return "more than one question"
    start = labels[0] if labels else 0
    if not lines or (labels and labels[0] > 2):
        return "no question tag"
    body = [_ASKED.sub("", lines[start], count=1) if labels else lines[start], *lines[start + 1 :]]
    end = next((n for n, line in enumerate(body) if n and _SOLVED.match(line)), len(body))
    body = body[:end]
    for place, line in enumerate(body):
        if place and (label := _LISTED.match(line)):
            options = listed.options_in("\n".join([line[label.end() :], *body[place + 1 :]]))
            return _stem(body[:place], bool(labels), options)
        if place and listed.first_of_list(line):
            options = listed.options_in("\n".join(body[place:]))
            return _stem(body[:place], bool(labels), options)
    stem, options = listed.in_line(body[0])
    return _stem([stem], True, options) if labels and len(body) == 1 else "no question tag"


def _stem(lines: list[str], labelled: bool, options: list[str]) -> tuple[str, list[str]] | str:
    stem = _NUMBER.sub("", " ".join(lines).strip(), count=1).strip("*_ ")
    if not labelled and not stem.endswith(("?", ":")):
        return "no question tag"
    return stem, options
