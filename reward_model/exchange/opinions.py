"""From what a file says to answers for the journal, and from answers to what a file says.

An entry names what it is about by an item, by a row (triplet), by the beginning of either's id, or
by image, question and answer. What names no item was asked by nobody. An answer's id is the hash of
what its entry says, so that a file that is read twice adds nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from engine.answers.gold import NotText, gold_problem, text_of
from engine.answers.matching import resolve
from engine.records import Item, Triplet, content_id
from engine.workspace import utc
from reward_model.criteria import CRITERIA
from reward_model.exchange.given import COLUMNS, TOLD, Bad, Entry, Given
from reward_model.pseudonyms import looks_like_a_name, pseudonym_problem
from reward_model.verdicts import (
    GIVEN,
    PREFERENCE,
    PREFERENCES,
    REASONS,
    REJECT,
    UNDO,
    VERDICT,
    VERDICTS,
    Answer,
    place_of,
)

LONGEST = {"comment": 2000, "correction": 500}  # characters, as in the reading room
CELL = 20_000  # characters of any other value
BEGINNING = 6  # of an id: fewer could mean too many


@dataclass(frozen=True)
class Said:
    """An entry whose own words make sense; what it is about is not looked up yet."""

    entry: Entry
    reader: str
    at: str  # RFC 3339, UTC; empty where the entry does not say
    seconds: float | None
    verdict: str
    reasons: tuple[str, ...]
    correction: str
    preferences: dict[str, str]
    comment: str
    repeat: bool
    names: dict[str, str]  # what names it: ids in lower case, and words


@dataclass
class Known:
    """What a file may be about: items and rows, and what was withdrawn."""

    items: list[Item] = field(default_factory=list)
    rows: list[Triplet] = field(default_factory=list)
    gone: Collection[str] = ()  # ids of items, rows and images that were withdrawn
    readers_gone: Mapping[str, str] = field(default_factory=dict)  # when, by pseudonym
    settled: Collection[tuple[str, str, bool]] = ()  # answered in the record (`place_of`)

    def __post_init__(self) -> None:
        self._items = {item.id: item for item in self.items}
        self._rows = {row.id: row for row in self.rows}
        self._of_image: dict[str, list[Triplet]] = {}
        for row in self._rows.values():
            self._of_image.setdefault(row.image_id, []).append(row)
        kinds: dict[str, Iterable[str]] = {
            "item": self._items,
            "row": self._rows,
            "image": self._of_image,
        }
        self._sorted = {kind: sorted(names) for kind, names in kinds.items()}

    def item(self, name: str) -> Item:
        """The item that an id, or its beginning, means. Raises Bad."""
        return self._items[self._id("item", "item_id", name)]

    def row(self, column: str, name: str) -> Triplet:
        """The row that an id, or its beginning, means. Raises Bad."""
        return self._rows[self._id("row", column, name)]

    def _id(self, what: str, column: str, name: str) -> str:
        known = self._sorted[what]
        first = bisect_left(known, name)
        found = [n for n in known[first : first + 2] if n.startswith(name)]
        if len(found) == 1 or (found and found[0] == name):
            return found[0]
        if found:
            raise Bad(column, f"{name!r} could be several {what}s: give more characters")
        if any(gone.startswith(name) for gone in self.gone):
            raise Bad(column, f"{what} {name!r} was withdrawn: nothing is taken about it")
        odd = "" if all(c in "0123456789abcdef" for c in name) else (
            "; a spreadsheet may have taken it for a number"
        )  # fmt: skip
        raise Bad(column, f"no {what} has an id that begins with {name!r}{odd}")

    def described(self, names: Mapping[str, str], answer: str, column: str) -> Triplet:
        """The row of an image with a question and an answer; of equals the first. Raises Bad."""
        image = self._id("image", "image_id", names["image_id"])
        asked = [r for r in self._of_image[image] if _same(r.question, names["question"])]
        if not asked:
            raise Bad("question", "no row asks this of the image: copy its words, or give its id")
        found = [row for row in asked if _same(row.answer, answer)]
        if not found:
            there = ", ".join(sorted({repr(row.answer[:40]) for row in asked})[:4])
            raise Bad(column, f"no row answers so; the answers to this question are {there}")
        if len({(row.options, row.rationale) for row in found}) > 1:
            ids = ", ".join(row.id[:12] for row in found[:4])
            raise Bad(column, f"{len(found)} rows say so, and differ ({ids}): give triplet_id")
        return min(found, key=lambda row: (row.round, row.id))


@dataclass
class Taken:
    """What becomes of a file: answers to be added, how many are known, and what is refused."""

    answers: list[Answer] = field(default_factory=list)
    known: int = 0
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def said(given: Given, readers: Mapping[str, str]) -> tuple[list[Said], Taken]:
    """The entries that make sense by themselves, and what is refused so far.

    `readers` are pseudonyms by what the file calls a reader; the one of "" is whose entries name
    nobody.
    """
    taken, found, zoneless = Taken(refused=list(given.refused), notes=list(given.notes)), [], 0
    for entry in given.entries:
        try:
            what = _said(entry, readers)
        except Bad as error:
            taken.refused.append(_told(entry, error))
            continue
        found.append(what)
        zoneless += bool(what.at) and _moment(entry.values["at"]).tzinfo is None
    if zoneless:
        taken.notes.append(f"{zoneless} times have no zone and were taken for UTC")
    names = sorted({s.reader for s in found if looks_like_a_name(s.reader)})
    if names:
        taken.notes.append(
            f"readers who may be called so in truth: {', '.join(names)}; the record keeps a name "
            "for good, and --reader NAME=PSEUDONYM gives another"
        )
    return found, taken


def answers_of(
    entries: Iterable[Said], known: Known, before: Iterable[Answer], taken: Taken
) -> Taken:
    """Add to `taken` what the entries become, `before` being what the journal has."""
    now = utc()
    journal = list(before)
    there = {a.id for a in journal} | {key_of(a) for a in journal if a.kind != UNDO}
    for what in entries:
        try:
            answer = _answer(what, known, now)
        except Bad as error:
            taken.refused.append(_told(what.entry, error))
            continue
        if answer.id in there:
            taken.known += 1
        elif place_of(answer) in known.settled:
            column = next(iter(answer.preferences), "verdict")
            why = f"another answer of {answer.reader} to this is in the record, and stays"
            taken.refused.append(_told(what.entry, Bad(column, why)))
        else:
            there.add(answer.id)
            taken.answers.append(answer)
    given = sum(not a.item_id for a in taken.answers)
    if given:
        taken.notes.append(f"{given} name no item: they count as {GIVEN}, and certify nothing")
    return taken


def key_of(answer: Answer) -> str:
    """The hash of what an answer says, whatever its id is."""
    values = (answer.reader, _utc(answer.at), answer.item_id, answer.triplet_id, answer.other_id)
    return _key(*values, answer)


def _key(
    reader: str, at: str, item_id: str, triplet_id: str, other_id: str, says: Answer | Said
) -> str:
    return content_id(
        "given",
        (reader, at, item_id, triplet_id, other_id),
        (says.verdict, sorted(says.reasons), says.correction, says.preferences),
        (says.comment, says.seconds, says.repeat),
    )


def row_of(
    answer: Answer, item: Item | None, first: Triplet, other: Triplet | None
) -> dict[str, object]:
    """An answer as a row of COLUMNS."""
    values: dict[str, object] = {
        "item_id": answer.item_id,
        "triplet_id": first.id,
        "other_id": other.id if other else "",
        "image_id": first.image_id,
        "question": first.question,
        "options": list(first.options),
        "answer": first.answer,
        "other_answer": other.answer if other else "",
        "reader": answer.reader,
        "verdict": answer.verdict,
        "reasons": list(answer.reasons),
        "correction": answer.correction,
        **{name: answer.preferences.get(name, "") for name in CRITERIA},
        "comment": answer.comment,
        "at": answer.at,
        "seconds": answer.seconds,
        "repeat": answer.repeat,
        "stream": item.stream if item else GIVEN,
        "round": item.round if item else first.round,
    }
    return {name: values[name] for name in COLUMNS}


def _told(entry: Entry, error: Bad) -> str:
    return f"{entry.where(error.column)}: {error}"


def _same(one: str, two: str) -> bool:
    return one.split() == two.split()


# An entry's own words


def _said(entry: Entry, readers: Mapping[str, str]) -> Said:
    texts = {
        name: _text(entry, name)
        for name in COLUMNS
        if name not in (*TOLD, "reasons", "seconds", "repeat", "at", "reader")
    }
    verdict = _word(texts, "verdict", VERDICTS)
    preferences = {c: w for c in CRITERIA if (w := _word(texts, c, PREFERENCES))}
    if verdict and preferences:
        raise Bad(next(iter(preferences)), "an opinion is a verdict or a preference: leave one")
    if not verdict and not preferences:
        raise Bad("verdict", f"is empty: give one of {', '.join(VERDICTS)}")
    reasons = _reasons(entry)
    for name, value in (("reasons", reasons), ("correction", texts["correction"])):
        if value and verdict != REJECT:
            raise Bad(name, f"only what is rejected has any: leave it out, or {REJECT} the row")
    ids = ("item_id", "triplet_id", "other_id", "image_id")
    names = {name: texts[name].lower() for name in ids}
    names |= {name: texts[name] for name in ("question", "answer", "other_answer")}
    _check_named(names, bool(preferences))
    return Said(
        entry=entry,
        reader=_reader(entry, readers),
        at=_at(entry),
        seconds=_seconds(entry),
        verdict=verdict,
        reasons=reasons,
        correction=texts["correction"],
        preferences=preferences,
        comment=texts["comment"],
        repeat=_repeat(entry),
        names=names,
    )


def _check_named(names: Mapping[str, str], two: bool) -> None:
    for column in ("item_id", "triplet_id", "other_id", "image_id"):
        if names[column] and len(names[column]) < BEGINNING:
            raise Bad(column, f"{names[column]!r} is too short: give {BEGINNING} characters")
    if names["item_id"] or (names["triplet_id"] and (names["other_id"] or not two)):
        return
    if names["triplet_id"] and two:
        raise Bad("other_id", "is empty: a preference is between two rows")
    wanted = ["image_id", "question", "answer", *(["other_answer"] if two else [])]
    missing = [name for name in wanted if not names[name]]
    if len(missing) == len(wanted):
        raise Bad("item_id", "nothing says what it is about: give item_id or triplet_id")
    if missing:
        raise Bad(missing[0], "is empty: give item_id or triplet_id, or " + ", ".join(wanted))


def _value(entry: Entry, column: str) -> Any:
    """A value; None where there is none, or what pandas writes for that."""
    value = entry.values.get(column)
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(entry: Entry, column: str) -> str:
    value = _value(entry, column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Bad(column, f"{str(value)[:40]!r} is no text: put it into quotes")
    text = value.strip()
    if len(text) > LONGEST.get(column, CELL):
        most = LONGEST.get(column, CELL)
        raise Bad(column, f"has {len(text)} characters, and {most} are the most: shorten it")
    return text


def _word(texts: Mapping[str, str], column: str, words: tuple[str, ...]) -> str:
    word = _plain(texts[column])
    if word and word not in words:
        raise Bad(column, f"{texts[column][:40]!r} is none of {', '.join(words)}")
    return word


def _plain(text: str) -> str:
    """A word of ours, also where it was written Cannot_Tell."""
    return " ".join(text.lower().replace("_", " ").replace("-", " ").split())


def _reasons(entry: Entry) -> tuple[str, ...]:
    value = _value(entry, "reasons")
    if isinstance(value, str):
        value = value.replace("|", ";").replace(",", ";").split(";")
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise Bad("reasons", f"are words with `; ` between them: {', '.join(REASONS)}")
    found = {_plain(part) for part in value} - {""}
    unknown = sorted(found - REASONS.keys())
    if unknown:
        raise Bad("reasons", f"{unknown[0][:40]!r} is none of {', '.join(REASONS)}")
    return tuple(reason for reason in REASONS if reason in found)


def _reader(entry: Entry, readers: Mapping[str, str]) -> str:
    value = _value(entry, "reader")
    named = "" if value is None else str(value).strip()
    name = readers.get(named, named)
    if not name:
        raise Bad("reader", "is empty: name who says so, or give --reader PSEUDONYM")
    problem = pseudonym_problem(name)
    if problem:
        raise Bad("reader", f"{problem}; --reader NAME=PSEUDONYM puts one in its place")
    return name


def _at(entry: Entry) -> str:
    value = _value(entry, "at")
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return utc(_moment(value).replace(tzinfo=_moment(value).tzinfo or UTC).timestamp())


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        found = datetime.fromisoformat(value.strip())
        utc(found.replace(tzinfo=found.tzinfo or UTC).timestamp())
        return found
    except (ValueError, AttributeError, OverflowError):
        raise Bad(
            "at", f"{str(value)[:40]!r} is no time: write 2026-11-26T14:30:00+01:00"
        ) from None


def _utc(at: str) -> str:
    """A journal's time as `_at` writes it."""
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        return at
    return utc(found.replace(tzinfo=found.tzinfo or UTC).timestamp())


def _seconds(entry: Entry) -> float | None:
    value = _value(entry, "seconds")
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = float(value.strip().replace(",", "."))
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        value = None
    elif value is None and _value(entry, "seconds") is None:
        return None
    if value is None or not math.isfinite(value) or value < 0:
        raise Bad("seconds", f"{str(entry.values['seconds'])[:40]!r} is no number of seconds")
    return float(value)


def _repeat(entry: Entry) -> bool:
    value = _value(entry, "repeat")
    word = str(value).strip().lower()
    if value is None or word in ("", "false", "0", "no", "0.0"):
        return False
    if word in ("true", "1", "yes", "1.0"):
        return True
    raise Bad("repeat", f"{str(value)[:40]!r} is neither true nor false")


# What an entry is about


def _answer(what: Said, known: Known, now: str) -> Answer:
    names = what.names
    when = known.readers_gone.get(what.reader, "")
    if when and what.at <= when:
        raise Bad("reader", f"{what.reader} was withdrawn on {when}: nothing before is taken")
    item = known.item(names["item_id"]) if names["item_id"] else None
    first, other = _rows(what, item, known)
    _check_same(names, first, other)
    answer = Answer(
        id="",
        kind=PREFERENCE if what.preferences else VERDICT,
        reader=what.reader,
        at=what.at or now,
        item_id=item.id if item else "",
        triplet_id=first.id,
        other_id=other.id if other else "",
        seconds=what.seconds,
        verdict=what.verdict,
        reasons=what.reasons,
        correction=_correction(what.correction, first),
        preferences=what.preferences,
        comment=what.comment,
        repeat=what.repeat,
    )
    ids = (what.reader, what.at, answer.item_id, answer.triplet_id, answer.other_id)
    return replace(answer, id=_key(*ids, answer))


def _rows(what: Said, item: Item | None, known: Known) -> tuple[Triplet, Triplet | None]:
    names, two = what.names, bool(what.preferences)
    if item is not None:
        if two != (item.kind == PREFERENCE):
            asks = "which of two is better" if item.kind == PREFERENCE else "whether a row is right"
            raise Bad("item_id", f"item {item.id[:12]} asks {asks}: answer that")
        for column, own in (("triplet_id", item.triplet_id), ("other_id", item.other_id)):
            if names[column] and not own.startswith(names[column]):
                raise Bad(column, f"item {item.id[:12]} is about {own[:12] or 'one row'}")
        return known.row("item_id", item.triplet_id), (
            known.row("item_id", item.other_id) if two else None
        )
    if names["triplet_id"]:
        first = known.row("triplet_id", names["triplet_id"])
        other = known.row("other_id", names["other_id"]) if two else None
    else:
        first = known.described(names, names["answer"], "answer")
        other = known.described(names, names["other_answer"], "other_answer") if two else None
    if other is not None and (other.id == first.id or other.image_id != first.image_id):
        raise Bad("other_id", "a preference is between two rows of one image")
    if other is None and names["other_id"]:
        raise Bad("other_id", "a verdict is on one row: leave it empty")
    return first, other


def _check_same(names: Mapping[str, str], first: Triplet, other: Triplet | None) -> None:
    """Raise Bad where what is told beside an id is another row's: columns may have slipped."""
    told = [("question", first.question), ("answer", first.answer)]
    told += [("other_answer", other.answer)] if other else []
    for column, there in told:
        if names[column] and not _same(names[column], there):
            raise Bad(
                column,
                f"{names[column][:40]!r} is not what row {first.id[:12]} has ({there[:40]!r}): "
                "were the columns sorted apart?",
            )
    if names["image_id"] and not first.image_id.startswith(names["image_id"]):
        raise Bad("image_id", f"row {first.id[:12]} is about image {first.image_id[:12]}")


def _correction(text: str, row: Triplet) -> str:
    """The right answer as the row would have it. Raises Bad where it can be none."""
    if not text:
        return ""
    if row.options:
        found = resolve(text, row.options)
        if found is None:
            raise Bad("correction", f"{text[:40]!r} is none of {' | '.join(row.options)}")
    else:
        try:
            found = text_of(text)
        except NotText as error:
            raise Bad("correction", str(error)) from None
    if found == row.answer:
        raise Bad("correction", f"{found[:40]!r} is the answer that is rejected")
    problem = gold_problem(row.question, row.options, found)
    if problem:
        raise Bad("correction", f"no row can be made of it: the {problem[:200]}")
    return found
