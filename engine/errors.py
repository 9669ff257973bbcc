"""Errors for the person at the terminal: one line that says what, where and what to do."""

import unicodedata

# Marks that turn the direction of reading: a line then shows other than it says (CVE-2021-42574).
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey.

    Line breaks and tabs stay; other control characters (escape sequences begin with one), turning
    marks and lone surrogates are written as escapes.
    """
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in text)


def _harmless(character: str) -> bool:
    if character in _TURNING:
        return False
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")


PEOPLE = 3  # the exit status of a run that waits for people


class TriptychError(Exception):
    """Bad input or a state that a person has to resolve; the CLI prints it without a traceback.

    The message is made one printable line, whatever was put into it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


class PeopleWanted(TriptychError):
    """A run has come as far as it can before people have answered; it ends with status PEOPLE."""
