"""A round's chosen rows beside others: benchmarks, copies of their pictures, each other's answers.

What a filter of one row cannot see. Run by select on the rows that the threshold chooses from,
before it does: contamination, then near-duplicates, then balance (`generators/filters/`). Which row
of two stays depends on surer rows alone, so that no threshold keeps a row out for one that it does
not keep, and a certificate is of what is kept.

Rows come as streams of DuckDB; pictures are compared by the signatures that lie beside them. The
driver holds what was refused, the texts of benchmarks, the ids of images that are compared, and of
balance counts and the rows that wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.config.select import Contamination, Select
from engine.errors import TriptychError
from engine.imaging.duplicates import (
    BLOCK,
    PAIRS,
    SIGNATURE_BYTES,
    joined,
    near_within,
    orientation,
)
from engine.pixels import signatures_in
from engine.reasons import FURTHER, UNBALANCED
from engine.records import Image, Picture, Triplet, schema_of
from engine.sets.published import read_published
from engine.shards import write_shard
from engine.sql import Scan
from engine.workspace import Stage
from generators.filters.balance import SHOWN, Balance, Stratum, guesses, strata
from generators.filters.contamination import Pictures, Questions
from generators.filters.near_duplicates import Seen, repeated
from pipelines.context import Context
from pipelines.weighing import Weighing
from reward_model.threshold import KEEPS, Weighed

NOWHERE = -1.0  # the confidence of a row for which balance has no place: under every threshold


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed of a weighed row: why it is out, or from which confidence it has a place."""

    reason: str | None = None
    confidence: float | None = None
    held: str | None = None


# {keeps} are the reasons of chosen rows; `before` is what earlier rounds kept.
_CHOSEN = """
chosen AS (SELECT * FROM weighed WHERE reason IN ({keeps})),
about AS (
    SELECT id, bool_or(fresh) AS fresh FROM (
        SELECT image_id AS id, true AS fresh FROM chosen
        UNION ALL SELECT image_id, false FROM before
    ) GROUP BY id
),
grouped AS (SELECT DISTINCT a.id, a.fresh, i."group" FROM about a JOIN images i ON i.id = a.id),
several AS (
    SELECT "group" FROM grouped GROUP BY "group" HAVING count(*) > 1 AND bool_or(fresh)
)
""".format(keeps=", ".join(f"'{reason}'" for reason in KEEPS))
_SHOWN = f"""
WITH {_CHOSEN} SELECT id, dense_rank() OVER (ORDER BY "group") AS number FROM grouped
WHERE ("group" IN (FROM several)) OR ({{all}} AND fresh) ORDER BY number, id
"""
_ABOUT = f"""
WITH {_CHOSEN}
SELECT c.triplet_id, c.image_id, t.question FROM chosen c JOIN triplets t ON t.id = c.triplet_id
"""
_OF_COPIES = f"""
WITH {_CHOSEN}, rows AS (
    SELECT t.id, t.image_id, t.question, t.options, t.answer, false AS kept_before, c.confidence
    FROM chosen c JOIN triplets t ON t.id = c.triplet_id
    UNION ALL
    SELECT b.id, b.image_id, b.question, b.options, b.answer, true, 1.0 FROM before b
), placed AS (
    SELECT r.*, coalesce(c.root, r.image_id) AS root, coalesce(c.orientation, 0) AS orientation
    FROM rows r LEFT JOIN copies c ON c.id = r.image_id
)
SELECT root, id, image_id, question, options, answer, orientation, kept_before FROM placed
WHERE root IN (SELECT root FROM placed WHERE NOT kept_before)
ORDER BY root, kept_before DESC, confidence DESC, id
"""
_SUREST = f"""
WITH {_CHOSEN}, rows AS (
    SELECT t.id, t.question, t.options, t.answer, c.confidence
    FROM chosen c JOIN triplets t ON t.id = c.triplet_id
    UNION ALL SELECT b.id, b.question, b.options, b.answer, NULL FROM before b
)
SELECT *, count(*) OVER (PARTITION BY question) > 1 AS repeated FROM rows
ORDER BY confidence DESC NULLS FIRST, id
"""
_DECIDED = f"""
SELECT t.question, t.options, t.answer, d.keep, count(*) OVER (PARTITION BY t.question) > 1
FROM decisions d JOIN triplets t ON t.id = d.triplet_id
WHERE (d.keep AND d.reason <> '{FURTHER}')
    OR ({{taken}} AND starts_with(d.reason, '{UNBALANCED}: '))
"""
_COPIES = pa.schema({"id": pa.string(), "root": pa.string(), "orientation": pa.int64()})


def across(context: Context, stage: Stage, weighing: Weighing) -> tuple[Weighing, dict[str, Any]]:
    """The round's rows weighed beside all others, in scratch files of the stage, and metrics."""
    rules = weighing.job.rules
    told: dict[str, Any] = {}
    if not (rules.near_duplicates or rules.contamination.benchmarks or rules.balance is not None):
        return weighing, {}
    changes: dict[str, Change] = {}
    with context.scan(Image) as scan:
        scan.table("weighed", Weighed, list(weighing.files.values()))
        scan.table("triplets", Triplet, context.shards(Triplet, "generate", stage.round))
        before = weighing.job.kept_before
        scan.table("before", Triplet, [before] if before else [])
        signed = _signed(context, stage, scan, rules)
        if rules.contamination.benchmarks:
            found, told = _contaminated(context, stage, scan, rules.contamination, signed)
            changes |= {name: Change(reason) for name, reason in found}
        if rules.near_duplicates:
            scan.register("copies", _copies(signed))
            repeats = _repeated(scan, changes.keys())
            changes |= {name: Change(reason) for name, reason in repeats}
        if rules.balance is not None:
            changes |= dict(_balanced(scan, rules.balance, {*changes}))
    return _changed(stage, weighing, changes), told


@dataclass(frozen=True)
class Signatures:
    """Images in order of their groups, with what they are compared by, in a file."""

    ids: np.ndarray  # (N,) of 32 bytes
    groups: np.ndarray  # (N,) rising whole numbers; ingest gave near copies one group
    path: Path

    def rows(self, more: int = 0) -> np.ndarray:
        """(N + more, SIGNATURE_BYTES) uint8; `more` rows were written behind the images'."""
        shape = len(self.ids) + more, SIGNATURE_BYTES
        if not shape[0]:
            return np.empty(shape, np.uint8)
        return np.memmap(self.path, np.uint8, "r", shape=shape)

    def parts(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Whole groups, at least BLOCK images at a time: where they are, and their signatures."""
        starts = np.flatnonzero(np.diff(self.groups, prepend=-1)).tolist()
        with self.path.open("rb") as file:
            low = 0
            for high in [*starts, len(self.ids)]:
                if high - low >= BLOCK or low < high == len(self.ids):
                    read = file.read((high - low) * SIGNATURE_BYTES)
                    yield slice(low, high), np.frombuffer(read, np.uint8).reshape(high - low, -1)
                    low = high


def _signed(context: Context, stage: Stage, scan: Scan, rules: Select) -> Signatures:
    """Signatures of the images that may have copies, of all where benchmarks are named."""
    folder = stage.folder / "across"
    folder.mkdir(parents=True, exist_ok=True)
    every = bool(rules.contamination.benchmarks)
    shown = scan.values(_SHOWN.format(all="true" if every else "false"))
    kind = np.dtype([("id", "S32"), ("group", np.int64)])
    wanted = np.fromiter(shown if rules.near_duplicates or every else (), kind)
    signed = Signatures(wanted["id"], wanted["group"], folder / "signatures")
    order = np.argsort(signed.ids)
    missing = np.ones(len(order), bool)
    with signed.path.open("wb") as out:
        for ids, rows in signatures_in(context.shards(Picture)) if len(order) else ():
            at = order[np.searchsorted(signed.ids, ids, sorter=order) % len(order)]
            for number in np.flatnonzero(signed.ids[at] == ids):
                os.pwrite(out.fileno(), rows[number], int(at[number]) * SIGNATURE_BYTES)
                missing[at[number]] = False
    if missing.any():
        raise TriptychError(
            f"workspace {context.workspace.root} has no picture of image "
            f"{signed.ids[missing][0].decode()}: ingest into a new one"
        )
    return signed


def _contaminated(
    context: Context, stage: Stage, scan: Scan, rules: Contamination, signed: Signatures
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """(id, reason) of rows that are a benchmark's, and what was compared with."""
    questions, pictures = Questions(rules.similarity, rules.words), Pictures()
    compared: dict[str, dict[str, int]] = {}
    for name, place in rules.benchmarks.items():
        published = read_published(name, Path(place))
        unread, shown = pictures.unread, len(pictures.names)
        questions.add(published)
        pictures.add(published)
        compared[name] = {
            "questions": len(published.questions),
            "images": len(pictures.names) - shown,
        }
        if pictures.unread > unread:
            context.display.warn(
                f"{pictures.unread - unread} pictures of benchmark {name} cannot be read, and no "
                "row is compared with them"
            )
    with signed.path.open("ab") as out:
        out.write(pictures.signatures.tobytes())
    ids = [name.decode() for name in signed.ids.tolist()]
    shown_by = pictures.matches(ids, signed.rows(len(pictures.names)))
    found = []
    asked: dict[str, str | None] = {}
    for row_id, image_id, question in scan.values(_ABOUT + " ORDER BY t.question"):
        if question not in asked:
            match = questions.match(question)
            asked = {question: match.reason if match else None}  # in their order: one is enough
        reason = shown_by[image_id].reason if image_id in shown_by else asked[question]
        if reason:
            found.append((row_id, reason))
    return found, {"contamination": compared}


def _copies(signed: Signatures) -> pa.Table:
    """Images that have near copies: the smallest id among these, and how each is turned to it."""
    tables = [_COPIES.empty_table()]
    for where, rows in signed.parts():
        ids = [name.decode() for name in signed.ids[where].tolist()]
        pairs = near_within(rows, signed.groups[where])
        roots = joined((ids[one], ids[other]) for one, other in pairs)
        place = {name: number for number, name in enumerate(ids) if name in roots}
        names = sorted(roots)
        turned: list[int] = []
        for low in range(0, len(names), PAIRS):
            some = names[low : low + PAIRS]
            of_roots, own = ([place[name] for name in n] for n in (map(roots.get, some), some))
            turned += orientation(rows[of_roots], rows[own]).tolist()
        tables.append(pa.table([names, [roots[n] for n in names], turned], schema=_COPIES))
    return pa.concat_tables(tables)


def _repeated(scan: Scan, out: Any) -> list[tuple[str, str]]:
    """(id, reason) of rows that say what a surer one says of the same picture."""
    found: list[tuple[str, str]] = []
    for _, rows in groupby(scan.values(_OF_COPIES), key=lambda row: row[0]):
        seen = (
            Seen(name, image, question, tuple(options), answer, turned, before)
            for _, name, image, question, options, answer, turned, before in rows
        )
        found += repeated(row for row in seen if row.id not in out)
    return found


def _balanced(scan: Scan, margin: float, out: set[str]) -> Iterator[tuple[str, Change]]:
    """Rows that have no place of their own, with what they wait for."""
    balance = Balance(margin)
    for name, question, options, answer, confidence, again in scan.values(_SUREST):
        if name in out:
            continue
        at = strata(question, tuple(options), answer, again)
        if confidence is None:
            balance.count(at)
            continue
        for placed in balance.add(name, confidence, at):
            yield placed.id, Change(None, placed.confidence, placed.reason)
    for placed in balance.left():
        yield placed.id, Change(None, NOWHERE, placed.reason)


def guessable(scan: Scan, margin: float | None) -> dict[str, Any]:
    """How far a round's answers can be guessed, of tables `triplets` and `decisions`.

    The strata whose best constant guess was furthest above chance before the balance, each with its
    share of right guesses before and after; and how far above chance the lower end of the highest
    interval is in the end.
    """

    def rows(taken: bool) -> Iterator[Mapping[Stratum, str]]:
        query = _DECIDED.format(taken="true" if taken else "false")
        for question, options, answer, _, again in scan.values(query):
            yield strata(question, tuple(options), answer, again)

    before, after = guesses(rows(True)), guesses(rows(False))
    left = {guess.stratum: guess for guess in after}
    told = [
        {
            "of": str(guess.stratum),
            "chance": round(guess.chance, 4),
            "before": guess.told(),
            "after": left[guess.stratum].told() if guess.stratum in left else None,
        }
        for guess in before[:SHOWN]
    ]
    above = max((guess.low - guess.chance for guess in after), default=0.0)
    return {"guesses": told, "guess_above_chance": round(above, 4)} if margin is not None else {}


def _changed(stage: Stage, weighing: Weighing, changes: dict[str, Change]) -> Weighing:
    """The weighed rows with what was changed of them, in files of their own."""
    names = pa.array(changes.keys(), pa.string())
    reasons, confidences, held = (
        pa.array([getattr(change, column) for change in changes.values()], kind)
        for column, kind in (
            ("reason", pa.string()), ("confidence", pa.float64()), ("held", pa.string()),
        )
    )  # fmt: skip
    files = {}
    for name, path in weighing.files.items():
        rows = pq.read_table(path)
        at = pc.index_in(rows["triplet_id"], value_set=names)
        moved = confidences.take(_one(at))
        columns = {column: rows[column] for column in rows.column_names}
        columns |= {
            "reason": pc.coalesce(reasons.take(_one(at)), _one(rows["reason"])),
            "own": pc.if_else(pc.is_valid(moved), _one(rows["confidence"]), None),
            "confidence": pc.coalesce(moved, _one(rows["confidence"])),
            "held": held.take(_one(at)),
        }
        table = pa.table(columns).select(schema_of(Weighed).names).cast(schema_of(Weighed))
        files[name] = write_shard(stage.folder / "across", f"{Weighed.table}-{name}", table)
    return replace(weighing, files=files)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
