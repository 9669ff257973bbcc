"""What a reply says (`parsing`, tolerantly `reading`), and whether it is right (`matching`)."""

from engine.answers.matching import is_correct, is_valid, resolve
from engine.answers.parsing import parse_completion, parse_question

__all__ = ["is_correct", "is_valid", "parse_completion", "parse_question", "resolve"]
