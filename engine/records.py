"""The row types that every stage reads and writes. A row's id is the hash of what made it.

Each type is a frozen dataclass with one Arrow schema (`schema_of`), so that a table on disk, in Ray
and in DuckDB has the same columns everywhere. Values that vary in shape (rendering parameters,
truth, metrics) are JSON text, canonical so that equal values are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache, lru_cache
from itertools import repeat
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

import pyarrow as pa

_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return _JSON.encode(value)


def content_id(*parts: Any) -> str:
    """32 hex digits (128 bits) of the SHA-256 of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical(parts).encode(errors="replace")).hexdigest()[:32]


def bytes_id(data: bytes) -> str:
    """32 hex digits of the SHA-256 of raw bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


class Row:
    """Base of the row types: conversion to and from the plain dictionaries that Arrow holds."""

    table: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in column_names(type(self))}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Any:
        """Build a row from a dictionary; keys that are not columns are ignored."""
        known = column_names(cls)
        picked = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known
        }
        return cls(**picked)


def column_names(row_type: type[Row]) -> tuple[str, ...]:
    """The names of a row type's columns, in order."""
    return _names(row_type)  # type: ignore[arg-type]


_names = cache(lambda row_type: tuple(f.name for f in fields(row_type)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Row):
    """What is known of a safe image, whose id is the hash of its pixels, shape and mode."""

    table: ClassVar[str] = "images"
    id: str
    width: int
    height: int
    modality: str
    anatomy: str
    group: str  # what splits are made by: patients, joined where they share a picture
    split: str  # train, val or test; one group is in one split
    source: str  # file name relative to the source, or the generator of a phantom
    rendering: str  # JSON: window, frame, photometric interpretation and what was chosen
    deidentification: str  # the profile applied
    is_synthetic: bool
    truth: str | None = None  # JSON, phantoms only
    patient: str = ""  # keyed hash of the patient, else of the study or file
    labels: str | None = None  # JSON: the columns of the table beside the images that were named
    report: str | None = None  # its free text, de-identified
    twin_of: str = ""  # the image that it was drawn again from, one thing changed
    drawn: str | None = None  # JSON: what was changed of a twin, or its layout, or the text in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(Row):
    """An image's pixels as an 8-bit PNG, under the image's id: `engine.pixels` finds them by it.

    `engine.imaging.duplicates` compares pictures by their signature.
    """

    table: ClassVar[str] = "pictures"
    id: str
    png: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Row):
    """The words that asked a generator for a question; a triplet's `prompt_hash` is its id."""

    table: ClassVar[str] = "prompts"
    id: str
    words: str  # the set of templates: compact, full or file
    text: str
    words_id: str = ""  # hash of all words of the set, those of answers too


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Row):
    """What to ask for: the controllable specification of a triplet."""

    table: ClassVar[str] = "tasks"
    id: str
    modality: str
    question_type: str
    difficulty: str
    answer_format: str
    prompt_style: str
    anatomy: str = ""  # empty: any
    steps: int = 1  # of reasoning that the question asks for

    @classmethod
    def make(
        cls,
        modality: str,
        question_type: str,
        difficulty: str,
        answer_format: str,
        style: str,
        anatomy: str = "",
        steps: int = 1,
    ) -> Task:
        parts = (modality, question_type, difficulty, answer_format, style, anatomy, steps)
        return cls(
            id=content_id("task", *parts),
            modality=modality,
            question_type=question_type,
            difficulty=difficulty,
            answer_format=answer_format,
            prompt_style=style,
            anatomy=anatomy,
            steps=steps,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment(Row):
    """A task that a round's plan asks of an image; `place` is its place in the plan, from 0."""

    table: ClassVar[str] = "assignments"
    id: str
    image_id: str
    task_id: str
    round: int
    place: int

    @classmethod
    def make(cls, image_id: str, task_id: str, round: int, place: int) -> Assignment:
        return cls(
            id=content_id("assignment", image_id, task_id, round, place),
            image_id=image_id,
            task_id=task_id,
            round=round,
            place=place,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Triplet(Row):
    """An image's question and one answer to it. `problem` is set where the text did not parse."""

    table: ClassVar[str] = "triplets"
    id: str
    image_id: str
    generator_id: str  # a model's id, or "expert"
    task_id: str
    prompt_hash: str
    seed: int
    sample: int
    round: int
    question: str
    options: tuple[str, ...]
    answer: str
    rationale: str
    raw: str
    logprob: float | None  # mean log-probability of the answer's tokens; 0: expert, empty: unknown
    problem: str | None = None  # why the text did not parse
    derived_from: tuple[str, ...] = ()  # triplets or images that its words were taken from
    program: str | None = None  # JSON: what computed its answer, or the rule that it teaches
    known: tuple[str, ...] = ()  # kinds of private knowledge of the image that its writer was told
    tries: int = 1  # of its question or its answer, whichever took more: 2 after a complaint

    @property
    def question_key(self) -> str:
        """What candidates for one answer share: image, question and options."""
        return _question_key(self.image_id, self.question, self.options)


@lru_cache(maxsize=1 << 16)  # the samples of a question have one, and are asked for it often
def _question_key(image_id: str, question: str, options: tuple[str, ...]) -> str:
    return content_id(image_id, question, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Row):
    """What was measured of a question (image, question, options) before it was judged.

    Answers are keys as `engine.answers.matching.compared` has them. What was not measured is empty.
    """

    table: ClassVar[str] = "verifications"
    id: str
    question_id: str  # the `question_key` of its triplets
    image_id: str
    triplet_id: str  # of the answer that most samples give the surest: the row that was read
    round: int
    answer: str  # of that row: the verified answer
    samples: int  # triplets of the question that parsed
    agreeing: int  # of these, those that give the verified answer
    answers: str  # JSON: samples by answer
    other_id: str = ""  # the image of another patient that was shown in its place
    blind_id: str = ""  # the model that answered with the image and without it
    blind: str = ""  # JSON: by what was shown replies by answer, and how many could not be read
    margin: float | None = None  # share right with the image less the best share without, -1 to 1
    verifier_id: str = ""  # the model that answered the rubric
    rubric_id: str = ""  # the hash of the rubric's words
    rubric: str = ""  # JSON: replies by item, and by answer replies, score and what failed
    score: float | None = None  # of the verified answer by the rubric, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Row):
    """A judge's opinion: three criteria and their weighted sum (logits), and a probability."""

    table: ClassVar[str] = "judgements"
    id: str
    triplet_id: str
    judge_id: str
    factuality: float
    reasoning: float
    relevance: float
    overall: float
    probability: float  # calibrated: that an expert would accept the row


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Row):
    """What a row that could be read turned out to be, whatever was asked for."""

    table: ClassVar[str] = "found"
    id: str
    triplet_id: str
    question_type: str  # by its words (`engine.question_types`); or unknown
    answer_format: str  # by its options and the chosen answer: closed, choice or open
    difficulty: str  # by the pass rate (`generators.found`); empty where it is not known
    pass_rate: float | None  # share of the question's samples that give the chosen answer
    samples: int  # of its question that could be read
    steps: int  # of the program that composed it; 1 where none did


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Row):
    """Keep or reject, always with the reason. Rejects are kept for ever."""

    table: ClassVar[str] = "decisions"
    id: str
    triplet_id: str
    rules_id: str
    round: int
    keep: bool
    reason: str
    score: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Row):
    """An expert (or a stated rule) found one of two triplets better by a criterion."""

    table: ClassVar[str] = "preferences"
    id: str
    image_id: str
    chosen_id: str
    rejected_id: str
    criterion: str  # factuality, reasoning or relevance
    tier_chosen: float  # MedGR2's tiers: expert 10, perturbed 6, incoherent 0, irrelevant -6
    tier_rejected: float
    expert: str  # pseudonym, or the rule that made the pair
    round: int
    holdout: bool  # of a patient who is not in the set train: no judge learns from it
    outcome: str = "better"  # or tie, both bad, cannot tell: then which is chosen says nothing
    item_id: str = ""  # what was asked; empty where a rule made the pair
    at: str = ""  # RFC 3339, UTC
    seconds: float | None = None  # that the expert looked at it
    repeat: bool = False  # the same expert answered it before: for self-agreement alone
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item(Row):
    """What experts are asked: a verdict on one triplet, or which of two of an image is better."""

    table: ClassVar[str] = "items"
    id: str
    kind: str  # verdict or preference
    triplet_id: str
    other_id: str  # the second triplet of a preference; else empty
    image_id: str
    stream: str  # why it is asked: random, informative or test
    round: int
    place: int  # in the order in which items are shown, from 0
    readers: int  # how many different experts are to answer it

    @classmethod
    def make(
        cls,
        triplet: Triplet,
        other: Triplet | None,
        stream: str,
        round: int,
        place: int,
        readers: int,
    ) -> Item:
        """What is asked of a triplet, or of two."""
        second = other.id if other else ""
        return cls(
            id=content_id("item", triplet.id, second, stream, round),
            kind="preference" if other else "verdict",
            triplet_id=triplet.id,
            other_id=second,
            image_id=triplet.image_id,
            stream=stream,
            round=round,
            place=place,
            readers=readers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Row):
    """An expert's opinion of one triplet."""

    table: ClassVar[str] = "verdicts"
    id: str
    item_id: str  # what was asked; empty where nobody asked and it was given
    triplet_id: str
    image_id: str
    verdict: str  # accept, reject or cannot tell
    reasons: tuple[str, ...]  # of `reward_model.verdicts.REASONS`
    correction: str  # the right answer, where the expert gave one
    comment: str
    expert: str  # pseudonym
    at: str  # RFC 3339, UTC
    seconds: float | None  # that the expert looked at it
    stream: str  # why it was asked: random, informative, test; or given
    round: int
    repeat: bool  # the same expert answered it before: for self-agreement alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Row):
    """Weights in the workspace (or named from outside) and what they were made from.

    `known_by` files: the id is the hash of all files of the folder. commit: of a Hub repository's
    commit, which `path` names. name: an endpoint's, and which weights answered cannot be known.
    """

    table: ClassVar[str] = "models"
    id: str  # hash of its files, else of what it is known by
    role: str  # base, generator, solver, verifier, judge, sft or policy
    stage: str
    round: int
    parent_id: str | None
    path: str  # relative to the workspace; outside it a folder, NAME@COMMIT, or a server's name
    metrics: str  # JSON
    step: int | None = None  # optimiser steps of its training; None where it is not known
    known_by: str = "files"  # what the id is of: files, a Hub commit, or a name (weights unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption(Row):
    """A training saw a row. A seeded shuffle's order is not kept, so first use is two bounds."""

    table: ClassVar[str] = "consumption"
    id: str
    model_id: str  # what the training made in the end; earlier checkpoints are of the same commit
    row_id: str
    row_table: str  # triplets, preferences, verdicts, or models (a judge that rewarded)
    stage: str
    first_step: int | None = None  # no step before this one saw it; None: from the start
    by_step: int | None = None  # it was seen by the end of this step; None: perhaps never


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Row):
    """A model's answer to one held-out question."""

    table: ClassVar[str] = "evaluations"
    id: str
    model_id: str
    image_id: str
    split: str
    round: int
    arm: str  # which model of the round: base, sft, policy
    modality: str
    question_type: str
    question: str
    options: tuple[str, ...]
    gold: str
    answer: str
    valid: bool
    correct: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Row):
    """An input that was not used, and why. `path` is relative to the source.

    Of a row of gold values it is the file and the row's JSON Pointer (RFC 6901): "d.json#/3".

    `image_id` is what the image's id would be, where there were pixels; no more of them is kept.
    """

    table: ClassVar[str] = "refusals"
    id: str
    path: str
    frame: int
    reason: str
    status: str = "refused"  # or flagged, quarantined, duplicate, skipped, gold
    image_id: str = ""
    patient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review(Row):
    """A person's decision about a quarantined image."""

    table: ClassVar[str] = "reviews"
    id: str
    image_id: str
    verdict: str  # released or dropped
    reason: str  # why it was in quarantine
    reviewer: str  # pseudonym
    decided: str  # when: UTC, ISO 8601


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Row):
    """One invocation that worked on a stage that was committed.

    Nothing in it names a machine or a person, but for the paths and URLs that the configuration
    gives.
    """

    table: ClassVar[str] = "runs"
    id: str
    started: str  # ISO 8601, UTC
    config: str  # JSON: the resolved configuration, without where it ran
    version: str  # of Triptych
    code: str  # hash of its Python sources
    python: str
    packages: str  # JSON: version by name of what Triptych depends on


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Row):
    """An export: what left the workspace, by the hashes of its files."""

    table: ClassVar[str] = "datasets"
    id: str  # hash of name and files
    name: str
    path: str  # relative to the workspace
    url: str | None  # where it was to be published
    files: str  # JSON: SHA-256 by path below the folder
    rows: int
    shard_mb: float | None = None  # MB of a file at most; empty where a split was one file


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(Row):
    """A triplet is in a dataset."""

    table: ClassVar[str] = "membership"
    id: str
    dataset_id: str
    triplet_id: str
    split: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal(Row):
    """A patient, or whoever speaks for one, took back an image, or all of a patient or group.

    Or a reader took back what they said.
    """

    table: ClassVar[str] = "withdrawals"
    id: str
    subject_kind: str  # image, patient, group or reader
    subject_id: str
    reason: str
    requested_by: str
    at: str  # RFC 3339, UTC
    images: int  # how many it took away
    answer: str  # JSON: both tiers, the clean checkpoint and the cost, as they then were


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone(Row):
    """A row that a withdrawal took away: that it was stays known, what it held does not."""

    table: ClassVar[str] = "tombstones"
    id: str
    withdrawal_id: str
    row_id: str
    row_table: str


ROW_TYPES: tuple[type[Row], ...] = (  # what the ledger holds: all but pictures
    Image,
    Prompt,
    Task,
    Assignment,
    Triplet,
    Verification,
    Judgement,
    Found,
    Decision,
    Preference,
    Item,
    Verdict,
    Model,
    Consumption,
    Evaluation,
    Run,
    Dataset,
    Membership,
    Refusal,
    Review,
    Withdrawal,
    Tombstone,
)
TYPES_BY_TABLE = {t.table: t for t in ROW_TYPES} | {Picture.table: Picture}
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _arrow_type(hint: Any) -> pa.DataType:
    args = [a for a in get_args(hint) if a is not NoneType]
    if hint is bytes:
        return pa.binary()
    if hint == tuple[str, ...]:
        return pa.list_(pa.string())
    return _ARROW[args[0] if args else hint]


def schema_of(row_type: type[Row]) -> pa.Schema:
    """The Arrow schema of a row type: its columns in order, nullable where it allows None."""
    return _schema(row_type)  # type: ignore[arg-type]


@cache
def _schema(row_type: type[Row]) -> pa.Schema:
    hints = get_type_hints(row_type)
    return pa.schema(
        [
            pa.field(f.name, _arrow_type(hints[f.name]), NoneType in get_args(hints[f.name]))
            for f in fields(row_type)  # type: ignore[arg-type]
        ]
    )


def to_arrow(row_type: type[Row], rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table of the type's schema."""
    schema, rows = schema_of(row_type), list(rows)
    columns = ([getattr(row, field.name) for row in rows] for field in schema)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, schema)], schema=schema
    )


def column_table(row_type: type[Row], columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Columns as an Arrow table of the type's schema, without a row object each.

    Columns that are not given are empty in every row.
    """
    schema = schema_of(row_type)
    length = len(next(iter(columns.values())))
    given = {name: columns.get(name) or [None] * length for name in schema.names}
    arrays = [pa.array(given[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def from_arrow(row_type: type[Row], table: pa.Table) -> list[Any]:
    """The inverse of `to_arrow`; columns that are none of the type's are ignored.

    Fields are set a column at a time past the generated `__init__`, which takes most of the time of
    reading many rows. Raises TypeError where a column without a default is missing.
    """
    rows = [row_type.__new__(row_type) for _ in range(table.num_rows)]
    for field in fields(row_type):  # type: ignore[arg-type]
        values: Iterable[Any] = repeat(field.default)
        if field.name in table.column_names:
            values = table[field.name].to_pylist()
            if pa.types.is_list(table.schema.field(field.name).type):
                values = [value if value is None else tuple(value) for value in values]
        elif field.default is MISSING:
            raise TypeError(f"{row_type.__name__} needs a column {field.name}")
        setter = getattr(row_type, field.name).__set__  # of the slot
        deque(map(setter, rows, values), maxlen=0)
    return rows


def unique(rows: Iterable[Any]) -> list[Any]:
    """Rows without repeated ids, the first of each, in order."""
    first: dict[str, Any] = {}
    for row in rows:
        first.setdefault(row.id, row)
    return list(first.values())
