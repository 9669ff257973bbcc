"""What clinicians write that a rule would take for broken: letters, abbreviations, lists, sizes.

`without_shorthand` writes a text without them, `phrases` parts it where no order of words holds,
and `lone_letter` knows a letter that means something by itself.
"""

from __future__ import annotations

import re

# A letter stands behind the first and before the second.
_NAMED_BY = frozenset(
    "hepatitis vitamin type types grade stage group class category zone level segment lead "
    "panel figure image option answer choice part label letter point case view series pattern "
    "density protein factor hemoglobin haemoglobin influenza child pugh weber stanford dukes "
    "kerley strep coxsackie coenzyme complex nerve and or".split()
)
_NAMES = frozenset(
    "score scores line lines wave waves spine tube tubes wire wires section sections arm cell "
    "cells sign shape shaped loop dimer reflex fiber fibers fibre fibres ring pouch coli diff "
    "difficile pylori aureus value values mode space stage curve view tach fib angle max plane "
    "axis".split()
)
_ALONE = frozenset("axilr")  # an article, a size or x-ray, who writes, left and right
_SIZE = re.compile(r"\d+(?:[.,]\d+)?(?:\s*(?:x|×|\*|by)\s*\d+(?:[.,]\d+)?)+", re.I)
_MARK = re.compile(r"(?:^|[\s.,;:])(?:\d{1,2}|[A-Za-z]|[ivxIVX]{1,4})\.?$")
_RATIO = re.compile(r"\b(\w+):(\w+)(?= ratio)|\b([A-Z]\d?):([A-Z]\d?)\b")
_BREAK = re.compile(r"[,;:.!?()\[\]/\"–—]+(?:\s|$)|[/()\[\]\"–—]")


def without_shorthand(text: str) -> str:
    """The text with "3 x 2 x 2 cm" as one number and "E:A ratio" as words."""
    return _RATIO.sub(lambda m: " ".join(filter(None, m.groups())), _SIZE.sub("1", text))


def phrases(text: str) -> list[str]:
    """The parts between commas, brackets and other marks; empty ones are left out."""
    return [part for part in _BREAK.split(text) if part.strip()]


def unbalanced(text: str) -> bool:
    """Whether a bracket has no partner; that behind the mark of a list ("2)", "a)") needs none."""
    left = {")": "(", "]": "["}
    opened: list[str] = []
    for place, sign in enumerate(text):
        if sign in left.values():
            opened.append(sign)
        elif sign in left:
            if opened and opened[-1] == left[sign]:
                opened.pop()
            elif opened or not (sign == ")" and _MARK.search(text[:place])):
                return True
    return bool(opened)


def lone_letter(text: str, start: int) -> bool:
    """Whether the letter at `start`, a word by itself, is one that clinicians write.

    It touches a mark ("p.o.", "r/o", "b)"), is a unit or a symbol ("5 l", "p < 0.05"), or its
    neighbour says what it names ("hepatitis c", "b lines").
    """
    before, after = text[:start], text[start + 1 :]
    behind = re.search(r"([A-Za-z]+|\d)[\s.-]*$", before)
    ahead = re.match(r"[\s-]*([A-Za-z]+)", after)
    return (
        text[start] in _ALONE
        or before[-1:] in tuple("./('’")
        or after[:1] in tuple("./)'’")
        or bool(re.match(r"\s*[<>=≤≥]", after))
        or (behind is not None and (behind[1].isdigit() or behind[1].lower() in _NAMED_BY))
        or (ahead is not None and ahead[1].lower() in _NAMES)
    )
