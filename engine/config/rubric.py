"""A rubric: what a verifier is asked of a question and its answer, item by item, in a YAML file.

Where none is named it is `engine/prompts/rubrics/default.yaml`, which says what the keys are.
"""

from __future__ import annotations

import string
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from engine.config.section import Section
from engine.errors import TriptychError
from engine.records import content_id
from engine.yaml_file import read_yaml

FIELDS = {  # of each text, which fields it may and must have
    "request": {"known", "question", "options", "item"},
    "request_of_answer": {"known", "question", "options", "answer", "reasoning", "item"},
    "known": {"known"},
    "options": {"options"},
    "reasoning": {"reasoning"},
}


class RubricItem(Section):
    """One question about a row, answered yes or no."""

    ask: str = Field(min_length=1)
    kind: Literal["essential", "bonus", "pitfall"] = "essential"
    right: Literal["yes", "no"] | None = Field(None, description="null: yes, of a pitfall no")
    weight: float = Field(1.0, gt=0)
    of: Literal["question", "answer"] = "question"
    needs: Literal["options", "reasoning"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _words(cls, values: Any) -> Any:
        """YAML's yes and no without quotes are the words."""
        if isinstance(values, dict) and isinstance(values.get("right"), bool):
            return values | {"right": "yes" if values["right"] else "no"}
        return values

    @model_validator(mode="after")
    def _is_shown_what_it_asks_about(self) -> RubricItem:
        if self.needs == "reasoning" and self.of == "question":
            raise ValueError("needs reasoning: only an item with `of: answer` is shown it")
        return self

    @property
    def passes_on(self) -> Literal["yes", "no"]:
        """The reply that speaks for the row."""
        return self.right or ("no" if self.kind == "pitfall" else "yes")


class RubricAsks(Section):
    """The words of the requests, and the items in the order in which they are asked."""

    request: str
    request_of_answer: str
    known: str
    options: str
    reasoning: str
    items: dict[str, RubricItem] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_filled(self) -> RubricAsks:
        for name, fields in FIELDS.items():
            text = getattr(self, name)
            try:
                found = {field for _, field, _, _ in string.Formatter().parse(text) if field}
            except ValueError as error:
                raise ValueError(f"{name}: {error}; a brace as such is doubled") from None
            if found != fields:
                wanted = " ".join(f"{{{field}}}" for field in sorted(fields))
                raise ValueError(f"{name}: needs the fields {wanted}, and no others")
        if not any(item.kind == "essential" for item in self.items.values()):
            raise ValueError("items: one at least must be essential")
        return self

    @cached_property
    def id(self) -> str:
        """The hash of all its words."""
        return content_id("rubric", self.model_dump())


def read_rubric(path: Path) -> dict[str, Any]:
    """A rubric file; raises TriptychError with the file, the key and what is wrong."""
    values = read_yaml(path, "rubric")
    if not isinstance(values, dict):
        raise TriptychError(f"rubric {path}: give the keys of engine/prompts/rubrics/default.yaml")
    try:
        return RubricAsks.model_validate(values).model_dump()
    except ValidationError as error:
        told = [_told(dict(e)) for e in error.errors()]
        raise TriptychError(f"rubric {path}: {'; '.join(told)}") from None


def _told(error: dict[str, Any]) -> str:
    place = ".".join(map(str, error["loc"]))
    said = "unknown key" if error["type"] == "extra_forbidden" else error["msg"]
    return f"{place}: {said}" if place else str(said).removeprefix("Value error, ")


def _read_where_named(value: object) -> object:
    if value is None:
        shipped = resources.files("engine.prompts") / "rubrics" / "default.yaml"
        return yaml.safe_load(shipped.read_text(encoding="utf-8"))
    return read_rubric(Path(value)) if isinstance(value, str) else value


NamedRubric = Annotated[RubricAsks, BeforeValidator(_read_where_named)]
