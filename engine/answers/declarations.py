r"""Where a text declares its answer: "The answer is (B).", "**Answer:** B", `\boxed{B}`.

A declaration begins its sentence but for words such as "therefore, the best"; what follows it to
the end of its line is the answer. Nothing here guesses: a letter that stands somewhere declares
nothing. Every function is linear in the length of its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.answers.matching import resolve
from engine.answers.spelling import normalise

LONGEST_ANSWER = 2_000  # characters of a declared answer

_MARKUP = " \t\r\n*_`\"'“”‘’«»"
_SAID = re.compile(
    r"\b(?:answers?|(?:option|choice)(?=[*_]{0,3}\s{0,3}(?:is\b|would be\b|:)))[*_\"'”]{0,3}\s{0,3}"
    r"(?:(?:is|would be|should be)\b\s{0,3}[:：]?|[:：=]|[-–—](?=\s)|[*_]{0,3}\Z)",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_GIVEN = re.compile(
    r"\b(?:based on|given|considering|looking at|from)\b[^,]{1,120},", re.IGNORECASE
)
_LEADING = frozenset(
    "so therefore thus hence then finally overall consequently accordingly in conclusion summary "
    "short and i we think believe conclude that the my our a final correct best right most likely "
    "appropriate suitable probable chosen selected single step".split()
)
_DOUBT = re.compile(
    r"\b(?:not|never|neither|nor|cannot|false|wrong|incorrect|unlikely|doubt|whether|if|either|or|"
    r"maybe|perhaps|might|could|may)\b|n['’]t\b",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"[.!?;]\s+\S|\s/\s|\||\b[2b][).]\s|\b(?:or|but|because|since|however|although|though|wait|actually|either|maybe|"
    r"perhaps|unless|instead|rather)\b",
    re.IGNORECASE,
)
_PIECES = re.compile(r"\n|(?<=[.!?,:])\s+")
_LATEX = re.compile(r"\\(?:boxed|fbox|text(?:bf|it|rm)?|math(?:bf|rm|it))\s{0,3}\{")
_OPTION = re.compile(r"(?:the\s+)?(?:option|choice|letter)\s+(?=\(?[a-z]\b)", re.IGNORECASE)
_BOTH = re.compile(
    r"[(\[]?([A-Za-z])(?:[)\]][*_]{0,3}\s{0,3}[-–—,:.=]?|[*_]{0,3}\s{0,3}[,:=]|\s{1,3}[-–—](?=\s)|"
    r"\s{1,3}(?=\())\s{0,3}[*_]{0,3}(?:\((.*)\)|(.*))"
)
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3})(?=[^\s*_])(.+?)(?<=[^\s*_])\1", re.DOTALL)
_LOOSE = re.compile(r"^[*_#>]{0,3}\s+|\s+$|(?:\*\*|__)$")
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_PAIRS = {'"': '"', "“": "”", "‘": "’", "«": "»", "'": "'", "`": "`", "$": "$", r"\(": r"\)"}
_PAIRS |= {r"\[": r"\]"}


@dataclass(frozen=True, slots=True)
class Declaration:
    """A declared answer: where it begins and ends in the text, and whether it may be in doubt."""

    start: int
    end: int
    text: str
    sure: bool


def declarations(text: str) -> Iterator[Declaration]:
    """The declarations of a text, one a line at most, in their order."""
    lines = list(_lines(text))
    for place, (start, line) in enumerate(lines):
        if found := _SAID.search(line):
            begun = _sentence(line[: found.start()])
            sure = _leads(line[begun : found.start()])
            end, answer = start + len(line), line[found.end() :]
            below = lines[place + 1] if place + 1 < len(lines) else None
            if not answer.strip(_MARKUP + ":") and below:
                end, answer = below[0] + len(below[1]), below[1]
            yield Declaration(start + begun, end, answer, sure)
        elif found := _BOXED.search(line):
            close = _closing(line, found.end())
            if close is not None:
                sure = not _DOUBT.search(line, max(0, found.start() - 200), found.start())
                yield Declaration(
                    start + found.start(), start + close + 1, line[found.end() : close], sure
                )


def declared(text: str, options: tuple[str, ...]) -> tuple[str, str] | str | None:
    """What stands before the declared answer, and the answer; else why not; None without any.

    An answer that is no option is given as it stands. The last declaration counts, and none before
    it may name another option, however it is put; nothing may follow it.
    """
    found = list(declarations(text))
    sure = [one for one in found if one.sure]
    if not sure:
        return "more than one answer" if any(_SAID.search(one.text) for one in found) else None
    last = sure[-1]
    if len(last.text) > LONGEST_ANSWER:
        return "no answer tag"
    answer = bare(last.text.strip().rstrip(".。!"), options)
    if not nothing(text[last.end :]):
        late = _SAID.search(last.text) or contradicted(text[: last.start], answer, options)
        return "more than one answer" if late else "text after the answer"
    start = last.start
    for one in reversed(sure[:-1]):
        if not _same(one.text, answer, options) or not nothing(text[one.end : start]):
            break
        start = one.start
    if _SAID.search(last.text) or contradicted(text[:start], answer, options):
        return "more than one answer"
    if not options and _GOES_ON.search(answer):
        return "text after the answer"
    return text[:start].rstrip(_MARKUP + "$#>-([\\"), answer


def contradicted(before: str, answer: str, options: tuple[str, ...]) -> bool:
    """Whether what stands before an answer gives another one.

    By a declaration, or, with options, by a line or sentence that is another option and no list of
    all of them.
    """
    if not options:
        return any(one.sure and not _same(one.text, answer, ()) for one in declarations(before))
    wanted = resolve(answer, options)
    named = {resolve(bare(one.text, options), options) for one in declarations(before)}
    longest = 2 * max(map(len, options)) + 20
    pieces = {piece for piece in _PIECES.split(before) if len(piece) <= longest}
    alone = {resolve(bare(piece, options), options) for piece in pieces} - {None}
    return bool(named - {None, wanted}) or (bool(alone) and alone not in ({wanted}, set(options)))


def _same(text: str, answer: str, options: tuple[str, ...]) -> bool:
    said = bare(text, options)
    if options:
        return resolve(said, options) == resolve(answer, options)
    return said == answer or normalise(said[:LONGEST_ANSWER]) == normalise(answer[:LONGEST_ANSWER])


def nothing(text: str) -> bool:
    """Whether a text holds marks of formatting alone."""
    return not text.strip(_MARKUP + ".。!$)]}\\#-=>")


def bare(text: str, options: tuple[str, ...]) -> str:
    """An answer without what models wrap it in, as far as its options say, or as far as is safe.

    Markdown, LaTeX, quotes, "option", a full stop; brackets where there are options. "B - left"
    and "B (left)" become "B. left".
    """
    text = text.strip()
    if len(text) > LONGEST_ANSWER:
        return text
    peeled, whole = "", text
    for _ in range(8):
        if options:
            if resolve(text, options) is not None:
                return text
            if (pair := _pair(text)) and resolve(pair, options) is not None:
                return pair
        peeled = _peeled(text, bool(options))
        if peeled in (text, ""):
            break
        text = peeled
    return whole if options else text


def _pair(text: str) -> str | None:
    """A letter and a text as "B. left"."""
    found = _BOTH.fullmatch(text)
    return f"{found[1]}. {(found[2] or found[3] or '').strip('*_ ')}" if found else None


def _peeled(text: str, closed: bool) -> str:
    """One wrapping less; brackets only of an answer that is an option."""
    if emphasis := _EMPHASIS.fullmatch(text):
        return emphasis[2]
    stripped = _LOOSE.sub("", text)
    if stripped == text:
        stripped = text.rstrip(".。!,;:")
    if stripped == text and closed:
        stripped = text.strip("*_")
    if stripped != text:
        return stripped
    if found := _SAID.match(text):
        return text[found.end() :].strip()
    if closed and (found := _OPTION.match(text)):
        return text[found.end() :]
    if (found := _LATEX.match(text)) and _closing(text, found.end()) == len(text) - 1:
        return text[found.end() : -1].strip()
    for left, right in (_PAIRS | _BRACKETS if closed else _PAIRS).items():
        if text.startswith(left) and text.endswith(right) and len(text) > len(left + right):
            inner = text[len(left) : -len(right)].strip()
            if left not in inner and right not in inner and (left not in "<{" or len(inner) == 1):
                return inner
    return text


def _sentence(before: str) -> int:
    """Where the sentence begins in which a line goes on."""
    return max(before.rfind(mark) for mark in ".!?") + 1


def _leads(before: str) -> bool:
    """Whether the beginning of a sentence only leads to a declaration."""
    if len(before) > 300:
        return False
    words = re.findall(r"[^\W_]+", _GIVEN.sub(" ", before).casefold())
    return all(word in _LEADING or word.isdigit() for word in words)


def _closing(text: str, start: int) -> int | None:
    """Where the brace is closed that was opened before `start`; None where it is not."""
    depth = 1
    for found in re.finditer(r"[{}]", text[start : start + LONGEST_ANSWER]):
        depth += 1 if found[0] == "{" else -1
        if not depth:
            return start + found.start()
    return None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, each with its place."""
    start = 0
    for line in text.split("\n"):
        if line.strip():
            yield start, line
        start += len(line) + 1
