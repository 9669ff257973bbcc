"""Under what name a reader goes into the record: a pseudonym, never who they are.

The record outlives the study and leaves with a dataset, so an e-mail address or a person's name
does not get in. Who R1 is stands on a list that the hospital keeps elsewhere.
"""

from __future__ import annotations

import re

from engine.imaging.lexicon import PEOPLE, TITLES, given_names, names

PSEUDONYM = re.compile(r"[A-Za-z0-9][\w.-]{0,39}", re.ASCII)
RIGHT = "a pseudonym is up to 40 letters, digits, _ . and -, such as R1"


def pseudonym_problem(name: str) -> str | None:
    """Why a name cannot be a reader's in the record; None where it can.

    An e-mail address, words with spaces, a title, or a given name beside another name.
    """
    if "@" in name:
        return f"{name[:60]!r} is an e-mail address: {RIGHT}"
    if not PSEUDONYM.fullmatch(name):
        return f"{name[:60]!r} is no pseudonym: {RIGHT}"
    words = _words(name)
    given, listed = given_names(), names()[1]
    others = [word for word in words if word in listed and word not in PEOPLE]
    if set(words) & TITLES or (len(others) > 1 and any(word in given for word in others)):
        return f"{name[:60]!r} looks like a person's name: {RIGHT}"
    return None


def looks_like_a_name(name: str) -> bool:
    """Whether a pseudonym is a given name or a surname, which it may be by chance."""
    return any(w in names()[1] and w not in PEOPLE and len(w) > 2 for w in _words(name))


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
