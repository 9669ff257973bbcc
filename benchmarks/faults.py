"""Rows with a fault planted in them, by makers that no rule of the filters was drawn up on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.records import Triplet

Maker = Callable[[random.Random, Triplet], Triplet | None]

# Of Britain, Ireland, India, China, Nigeria, Spain and the United States, as they came to mind.
GIVEN = (
    "Bethan Gareth Sian Conor Kirsty Aoife Hitesh Priya Ananya Wei Xiaoming Ngozi Chinedu Lucia "
    "Javier Emily Michael Sarah Robert Linda Patricia Kevin Deborah Thomas Nancy Brian"
).split()
SURNAMES = (
    "Llewellyn Murphy Gallagher Sutherland Banerjee Krishnan Chaudhary Zhang Huang Okonkwo "
    "Adeyemi Fernandez Castillo Johnson Peterson Kowalski Nguyen Robinson Harris Campbell "
    "Mitchell Henderson Wallace Brooks"
).split()
FOREIGN = (
    "Welches Organ ist auf der Aufnahme abgebildet?",
    "Zeigt die Aufnahme eine Fraktur oder ist sie unauffällig?",
    "Wo befindet sich der Erguss bei diesem Patienten?",
    "Dans quel lobe se trouve cette opacité ?",
    "Le cœur est-il augmenté de volume sur ce cliché ?",
    "¿En qué lóbulo está el nódulo que se observa?",
    "¿Cuál es el diagnóstico más probable?",
    "Em qual lobo está o nódulo?",
    "In quale lobo si trova il nodulo della paziente?",
    "In welke long is het infiltraat te zien?",
    "Vilken lunga är påverkad och hur stor är den?",
    "Tento snímek ukazuje zlomeninu žebra?",
)
KINDS = "calcified subtle irregular cystic focal diffuse chronic incidental".split()


def others(rng: random.Random, row: Triplet) -> str | None:
    """Another option than the answer that is a word; None where there is none."""
    words = [o for o in row.options if o != row.answer and o.isalpha() and o != "none"]
    return rng.choice(words) if words else None


def options(make: Callable[[random.Random, str, str], str | None]) -> Maker:
    """A maker that puts an option made of the answer and of another among the options."""

    def planted(rng: random.Random, row: Triplet) -> Triplet | None:
        other = others(rng, row)
        if other is None or not row.answer.isalpha() or row.answer in ("yes", "no", "none"):
            return None
        more = make(rng, row.answer, other)
        return replace(row, options=(*row.options, more)) if more else None

    return planted


def answer(make: Callable[[random.Random, Triplet], str]) -> Maker:
    """A maker that changes the answer of a row with options."""
    return lambda rng, row: replace(row, answer=make(rng, row)) if row.options else None


def question(make: Callable[[random.Random, Triplet], str]) -> Maker:
    """A maker that changes the question."""
    return lambda rng, row: replace(row, question=make(rng, row))


def telling(texts: Sequence[str]) -> Maker:
    """A maker that asks in one of these ways, with the answer in it."""

    def planted(rng: random.Random, row: Triplet) -> Triplet | None:
        if not row.answer.replace(" ", "").isalpha() or row.answer in ("yes", "no", "none"):
            return None
        return replace(row, question=rng.choice(texts).format(row.answer))

    return planted


def person(*texts: str) -> Maker:
    """A maker that says one of these before the question or the reasoning, of somebody made up."""

    def planted(rng: random.Random, row: Triplet) -> Triplet:
        told = rng.choice(texts).format(
            surname=rng.choice(SURNAMES), name=_name(rng), date=_date(rng), phone=_phone(rng),
            number=_digits(rng, rng.randint(5, 10)), house=rng.randint(1, 900),
        )  # fmt: skip
        if rng.random() < 0.5:
            return replace(row, question=f"{told} {row.question}")
        return replace(row, rationale=f"{told} {row.rationale}".strip())

    return planted


def _name(rng: random.Random) -> str:
    return f"{rng.choice(GIVEN)} {rng.choice(SURNAMES)}"


def _date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1930, 2026)
    word = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()[month - 1]
    return rng.choice((
        f"{day}/{month}/{year}", f"{month:02}-{day:02}-{year}", f"{year}-{month:02}-{day:02}",
        f"{day} {word} {year}", f"{word} {day}, {year}", f"{day:02}{word.upper()}{year}",
        f"{day}.{month}.{year % 100:02}", f"{year}{month:02}{day:02}",
    ))  # fmt: skip


def _digits(rng: random.Random, many: int) -> str:
    return "".join(rng.choices("0123456789", k=many))


def _phone(rng: random.Random) -> str:
    area, first, last = _digits(rng, 3), _digits(rng, 3), _digits(rng, 4)
    return rng.choice((
        f"({area}) {first}-{last}", f"{area}.{first}.{last}", f"+1 {area} {first} {last}",
        f"+49 {area} {first}{last}", f"020 7{first} {last}", f"tel {first}-{last}",
    ))  # fmt: skip


def _nonsense(rng: random.Random, row: Triplet) -> str:
    letters = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(5, 9)))
    first, *rest = row.question.split()
    return " ".join([first, letters, *rest])


def _stutter(rng: random.Random, row: Triplet) -> str:
    words = row.question.split()
    long = [n for n, word in enumerate(words) if word.isalpha() and len(word) > 3] or [0]
    place = rng.choice(long)
    words[place] = words[place] * rng.randint(2, 3)
    return " ".join(words)


def _above(rng: random.Random, one: str, two: str) -> str:
    return rng.choice(("All of the above", "all of these", "Both A and B"))


def _outside(rng: random.Random, row: Triplet) -> str:
    return rng.choice(("unclear", f"{row.answer} or not", f"not {row.answer}"))


FAULTS: dict[str, tuple[str, Maker]] = {  # name: the filter that it is for, and the maker
    "an option said otherwise": (
        "options",
        options(lambda rng, a, _: rng.choice((a if a[-1] == "s" else f"{a}s", f"the {a.upper()}"))),
    ),
    "an option in another": (
        "options",
        options(lambda rng, a, b: f"{a} {rng.choice(('and', 'with', 'or'))} {b}"),
    ),
    "a kind of an option": ("options", options(lambda rng, a, b: f"{rng.choice(KINDS)} {a}")),
    "all of the above": ("options", options(_above)),
    "an answer that is no option": ("options", answer(_outside)),
    "the answer in the question": (
        "given_away",
        telling(
            (
                "What is the {} that the arrow marks?",
                "Which finding, seen here as {}, is it?",
                "In this image of {}, what is the main finding?",
                "What makes {} the right description?",
            )
        ),
    ),
    "a question in another language": ("language", question(lambda rng, _: rng.choice(FOREIGN))),
    "letters for a word": ("spelling", question(_nonsense)),
    "a word that says itself again": ("spelling", question(_stutter)),
    "a question without end": ("length", question(lambda _, row: " ".join([row.question] * 90))),
    "a titled name": (
        "personal",
        person("Dr. {surname} asked for it.", "Mrs {surname} coughs.", "Seen by Prof. {surname}."),
    ),
    "two names": ("personal", person("This is {name}.", "The film of {name} is shown.")),
    "who read or is shown": (
        "personal",
        person("Patient: {name}.", "Signed by {name}.", "Name: {name}.", "Reported by {name}."),
    ),
    "a date": ("personal", person("Acquired {date}.", "Seen {date}.", "Born {date}.")),
    "a record's number": (
        "personal",
        person("MRN {number}.", "Acc. no. {number}.", "Accession: {number}.", "ID: {number}."),
    ),
    "a telephone number": ("personal", person("Call {phone}.", "{phone} is on the film.")),
    "an address": (
        "personal",
        person("Lives at {house} {surname} Street.", "Of {house} {surname} Crescent, Leeds."),
    ),
}
