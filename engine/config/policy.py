"""The written policy that rows which teach safety cite: clauses with numbers, in a file.

A policy has a clause for each of `SUBJECTS`, which are what such rows are about. The words
themselves are in the configuration that the record holds, not the name of the file.
"""

from __future__ import annotations

from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from engine.config.section import Section
from engine.errors import TriptychError
from engine.records import content_id
from engine.yaml_file import read_yaml

Subject = Literal[
    "instruction",  # a text in the picture tells what to answer
    "organ",  # another body part than the image shows
    "modality",  # another modality
    "comparison",  # with an earlier examination
    "laboratory",
    "history",  # what a patient feels, takes or tells
    "outcome",
    "treatment",
    "identity",
    "answerable",  # the image answers what is asked
]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
# What no single image tells, whichever it is.
UNANSWERABLE = ("comparison", "laboratory", "history", "outcome", "treatment", "identity")


class Clause(Section):
    """One rule, and the subjects that it is about."""

    number: int = Field(ge=1)
    says: str
    about: tuple[Subject, ...] = ()

    @field_validator("says")
    @classmethod
    def _is_cited_as_it_is(cls, says: str) -> str:
        """A line that ends as a sentence, without what would end a model's reasoning."""
        line = " ".join(says.split())
        if not line.endswith((".", "!")) or len(line.split()) < 3:
            raise ValueError("write a whole sentence, with its full stop: reasoning cites it")
        if "<" in line or ">" in line:
            raise ValueError("a tag ends the reasoning that cites it: write no < or >")
        return line


class Policy(Section):
    """The clauses; of each subject exactly one is the rule."""

    clauses: tuple[Clause, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_subject_has_its_clause(self) -> Policy:
        numbers = [clause.number for clause in self.clauses]
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        if twice:
            raise ValueError(f"clauses: number {twice[0]} is there twice")
        ruled = [subject for clause in self.clauses for subject in clause.about]
        for subject in SUBJECTS:
            if ruled.count(subject) != 1:
                how = "none" if subject not in ruled else "more than one"
                raise ValueError(f"clauses: {how} is about {subject}; exactly one has to be")
        return self

    def clause(self, subject: str) -> Clause:
        """The rule for a subject."""
        return next(clause for clause in self.clauses if subject in clause.about)

    @cached_property
    def id(self) -> str:
        """The hash of its clauses."""
        return content_id("policy", self.model_dump())


def shipped_text() -> str:
    """The policy that is used where none is named, with its comments."""
    file = resources.files("engine.prompts") / "policies" / "default.yaml"
    return file.read_text(encoding="utf-8")


def read_policy(path: Path) -> Policy:
    """A user's policy; raises TriptychError with file, clause and what is wrong, in a line."""
    values = read_yaml(path, "policy", unread="`triptych prompts FILE --of policy` makes one")
    if not isinstance(values, dict):
        raise TriptychError(f"policy {path}: give `clauses`, each with its number and what it says")
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        told = "; ".join(_told(dict(e), values) for e in error.errors())
        raise TriptychError(f"policy {path}: {told}") from None


def _told(error: dict[str, Any], values: dict[str, Any]) -> str:
    """A problem with the number of its clause, where it has one, instead of its place."""
    place, said = [*error["loc"]], error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        said = "unknown key; a clause has number, says, about"
    if len(place) > 1 and isinstance(place[1], int):
        clause = values["clauses"][place[1]]
        number = clause.get("number") if isinstance(clause, dict) else None
        place[:2] = [f"clause {number}" if number else f"the {place[1] + 1}. clause"]
    where = " ".join(str(part) for part in place if not isinstance(part, int))
    return f"{where}: {said}" if where else said


def _read_where_named(value: object) -> object:
    if value is None:
        return yaml.safe_load(shipped_text())
    return read_policy(Path(value)) if isinstance(value, str) else value


NamedPolicy = Annotated[Policy, BeforeValidator(_read_where_named)]
