"""Errors for the person at the terminal: one line that says what, where and what to do."""


class TriptychError(Exception):
    """Bad input or a state that a person has to resolve; the CLI prints it without a traceback."""
