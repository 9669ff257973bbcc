"""Questions that are put to the columns of the table beside the images, by column.

    finding:
      - question: What is the main finding?
        options: seen            # the values of training images, four at a time
      - question: Does the image show any {value}?
    side:
      - question: On which side is the {finding}?
        paraphrases: ["Where is the {finding}: left or right?"]
        options: [left, right]
        answers: {L: left, R: right, "?": }  # what a cell says, in words; no words: not asked
        when: {finding: any}     # only where that column has a value; or one value, or a list

Everything in the file is text as it stands there: yes is "yes", and 0 is "0".
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from engine.answers.parsing import parse_question, render_question
from engine.answers.spelling import normalise
from engine.config.section import Section
from engine.errors import TriptychError
from engine.yaml_file import read_yaml

VALUE = "value"  # the place of a value that is asked about
ANY = "any"  # of a condition: whatever the other column says
PLACE = re.compile(r"\{([^{}]*)\}")
YES_NO = ("yes", "no")
_SHORT = re.compile(r"[+-]?\d{1,3}(?:[.,]\d{1,2})?\s*")


def key_of(text: str) -> str:
    """Cells and words that are equal in this say the same."""
    return normalise(text, keep_a=True) or text.strip().casefold()


QuestionType = Literal["modality", "anatomy", "disease", "grading", "attribute"]


class Template(Section):
    """A question put to a column. An empty cell is not asked about.

    With `{value}` in it, it is asked once of a value that the cell has, and once of one that it has
    not: the answers are yes and no. `{COLUMN}` is what another column says of the image.
    """

    question: str
    paraphrases: list[str] = Field([], description="other words, one of which an image gets")
    question_type: QuestionType | None = Field(None, description="null: found from its words")
    answers: dict[str, str] = Field({}, description="words by what a cell says; empty: not asked")
    options: Literal["seen"] | list[str] | None = Field(
        None, description="as listed; seen: of training images; null: an open question"
    )
    offered: int = Field(4, ge=2, description="options at a time of those seen")
    unit: str = Field("", description="said after the value")
    separator: str = Field("", description="between the values of a cell that holds several")
    nothing: list[str] = Field(
        [], description="what a cell says where it has no value: with {value} all are denied"
    )
    when: dict[str, list[str]] = Field(
        {}, description="by column the values with which it is asked; any: with whatever value"
    )

    @field_validator("when", mode="before")
    @classmethod
    def _one_or_several(cls, when: Any) -> Any:
        if not isinstance(when, dict):
            return when
        return {k: [v] if isinstance(v, str) else v for k, v in when.items()}

    @model_validator(mode="after")
    def _can_be_asked(self) -> Template:
        listed = tuple(self.options) if isinstance(self.options, list) else ()
        if isinstance(self.options, list) and len(listed) < 2:
            raise ValueError("options: give two or more, or `seen`")
        for words in self.wordings:
            problem = parse_question(render_question(words, listed)).problem
            if problem:
                raise ValueError(f"{words!r} cannot be asked: {problem}")
        if len({bool(VALUE in PLACE.findall(words)) for words in self.wordings}) > 1:
            raise ValueError("paraphrases: all wordings hold {value}, or none does")
        if self.asks_presence and self.options is not None:
            raise ValueError("a question with {value} is answered yes or no: leave out options")
        return self

    @property
    def wordings(self) -> list[str]:
        """The question in all its words."""
        return [self.question, *self.paraphrases]

    @property
    def asks_presence(self) -> bool:
        """Whether it asks of a value if the cell has it."""
        return VALUE in PLACE.findall(self.question)

    def knows(self, cell: str) -> bool:
        """Whether it names all that a cell says, so that each of it is known to be harmless."""
        options = self.options if isinstance(self.options, list) else []
        named = {key_of(word) for word in (*self.answers, *self.nothing, *options)}
        parts = cell.split(self.separator) if self.separator else [cell]
        return all(key_of(part) in named or self._measures(part) for part in parts)

    def _measures(self, cell: str) -> bool:
        """Whether a cell is a short number with the unit."""
        number, unit = cell.strip().removesuffix(self.unit), self.unit
        return bool(unit and number != cell.strip() and _SHORT.fullmatch(number))

    @property
    def columns(self) -> set[str]:
        """Other columns that it needs."""
        named = {name for words in self.wordings for name in PLACE.findall(words)}
        return (named - {VALUE}) | self.when.keys()


Templates = dict[str, list[Template]]
_CHECK = TypeAdapter(Templates)


class _Twice(TriptychError):
    """A key that comes twice; the file is not known where it is found."""


class _Text(yaml.BaseLoader):
    """YAML whose every value is text; a key that comes twice is refused."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        assert isinstance(node, yaml.MappingNode)
        keys = [key.value for key, _ in node.value]
        twice = [str(key) for key in keys if keys.count(key) > 1]
        if twice:
            line = node.start_mark.line + 1
            raise _Twice(f"{twice[0]} stands twice in what begins on line {line}")
        return super().construct_mapping(node, deep)


def read_templates(path: Path) -> Templates:
    """Templates from a YAML file; raises TriptychError with the file, the key and what is wrong."""
    needs = "a text with : or # in it, or ? in braces, needs quotes"
    try:
        values = read_yaml(path, "templates", broken=needs, loader=_Text)
    except _Twice as error:
        raise TriptychError(f"templates {path}: {error}") from None
    if not isinstance(values, dict) or not values:
        raise TriptychError(f"templates {path}: give `COLUMN:` lines with questions below them")
    try:
        return _CHECK.validate_python(values)
    except ValidationError as error:
        problems = [f"{_place(e['loc'])}: {_said(dict(e))}" for e in error.errors()]
        raise TriptychError(f"templates {path}: {'; '.join(dict.fromkeys(problems))}") from None


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the file: column, which of its questions from 1, key."""
    parts = [
        f"question {p + 1}" if n == 1 and isinstance(p, int) else str(p) for n, p in enumerate(loc)
    ]
    return ", ".join(parts)


def _said(error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key; known are {', '.join(Template.model_fields)}"
    if error["type"] == "list_type" and len(error["loc"]) == 1:
        return "give a list of questions, each as `- question: ...`"
    return str(error["msg"]).removeprefix("Value error, ")


def _read_where_named(value: object) -> object:
    if _has_bool(value):
        raise ValueError("yes, no, true and false need quotes here, not in a file of their own")
    return read_templates(Path(value)) if isinstance(value, str) else value


def _has_bool(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_bool, [*value, *value.values()]))
    return isinstance(value, bool) or (isinstance(value, list) and any(map(_has_bool, value)))


NamedTemplates = Annotated[Templates | None, BeforeValidator(_read_where_named)]
