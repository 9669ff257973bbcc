"""Errors for the person at the terminal: one line that says what, where and what to do."""

import unicodedata


def printable(text: str) -> str:
    """Text as one line that a terminal shows and does not obey.

    Control and format characters (escape sequences, line breaks, what turns the direction of
    reading: Unicode's Cc, Cf, Zl and Zp), and what is no character, are written as escapes.
    """
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _escaped(c)
        for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class TriptychError(Exception):
    """Bad input or a state that a person has to resolve; the CLI prints it without a traceback.

    The message is made one printable line, whatever was put into it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))
