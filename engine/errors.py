"""Errors for the person at the terminal: one line that says what, where and what to do."""


class TriptychError(Exception):
    """Bad input or a state that a person has to resolve; the CLI prints it without a traceback.

    The message is made one line, whatever was put into it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
