"""Which programs some facts of an image allow, drawn at random: one form a function.

A form takes facts, how many claims or regions it is to have, and a generator of random numbers, and
gives a program or None. Claims are drawn true and false alike; `balance` chooses among many draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from generators.compose.facts import values_of
from generators.compose.program import (
    CLOSED,
    COUNT,
    DIAMETER,
    IF,
    MM,
    NUMBER,
    PRESENCE,
    SEVERAL,
    WORD,
    Apply,
    Fact,
    Given,
    Look,
    Node,
    Program,
)
from generators.compose.words import ATTRIBUTES, name_of, noun
from generators.phantoms.bank import SUBJECTS
from generators.phantoms.kind import EACH

Draw = Callable[[Sequence[Fact], int, np.random.Generator], Program | None]
_NUMBER_OF = {COUNT, SEVERAL, DIAMETER}  # tell how many there are


def claim(fact: Fact, rng: np.random.Generator) -> Node | None:
    """A claim about a fact, true or false; None where nothing else could be claimed."""
    if fact.type == CLOSED:
        return Apply("is", (Look(fact), Given(bool(rng.integers(2)), CLOSED)))
    if fact.type == NUMBER:
        if rng.random() < 0.5:
            return Apply("more", (Look(fact), Given(1, NUMBER)))
        near = [n for n in (int(fact.value) - 1, int(fact.value) + 1) if n > 0]
        number = fact.value if rng.random() < 0.5 else near[rng.integers(len(near))]
        return Apply("is", (Look(fact), Given(int(number), NUMBER)))
    others = [v for v in values_of(fact.about, fact.subject, fact.value) if v != fact.value]
    if fact.type != WORD or not others:
        return None
    value = fact.value if rng.random() < 0.5 else others[rng.integers(len(others))]
    return Apply("is", (Look(fact), Given(str(value), WORD)))


def _distinct(facts: Sequence[Fact]) -> bool:
    """Whether facts are of different things: none tells of another, of one subject at most.

    Where one finding excludes others, two claims of presence would tell of each other; and a claim
    of presence is told by what only some findings have: the dysplasia of an adenoma, or a side,
    which metastases of the liver have none of.
    """
    abouts = [COUNT if f.about in _NUMBER_OF else f.about for f in facts]
    told = {about for about in abouts if about != PRESENCE}
    present = [f.subject for f in facts if f.about == PRESENCE]
    others = [f for f in facts if f.about != PRESENCE and f.subject]
    if len(told) + len(present) < len(facts) or len({f.subject for f in others}) > 1:
        return False
    if not present or not others:
        return len(present) < 2
    of = next((of for of in SUBJECTS.values() if present[0] in of), None)
    lesion = told - {about for f, about in zip(facts, abouts) if not f.subject}
    return len(present) < 2 and lesion <= set(EACH if of is None else of[present[0]])


def _some(facts: Sequence[Fact], number: int, rng: np.random.Generator) -> list[Fact] | None:
    """So many facts that claims can be made of."""
    fit = [f for f in facts if f.about in (PRESENCE, SEVERAL, COUNT, "side", "size", *ATTRIBUTES)]
    if len(fit) < number:
        return None
    for _ in range(8):
        found = [fit[n] for n in rng.permutation(len(fit))[:number]]
        if _distinct(found):
            return found
    return None


def _claims(
    facts: Sequence[Fact], number: int, rng: np.random.Generator
) -> tuple[Node, ...] | None:
    some = _some(facts, number, rng)
    claims = [claim(fact, rng) for fact in some] if some else [None]
    return None if any(c is None for c in claims) else tuple(c for c in claims if c is not None)


def _joining(op: str) -> Draw:
    def draw(facts: Sequence[Fact], number: int, rng: np.random.Generator) -> Program | None:
        claims = _claims(facts, number, rng)
        return Program(Apply(op, claims)) if claims else None

    return draw


def condition(facts: Sequence[Fact], number: int, rng: np.random.Generator) -> Program | None:
    """ "If there is more than one lesion, give its side; otherwise its size." """
    asked = [f for f in facts if f.about != PRESENCE and name_of(f, noun("lesion"))]
    if len(asked) < 2:
        return None
    then, otherwise = (asked[n] for n in rng.permutation(len(asked))[:2])
    some = _some([f for f in facts if f not in (then, otherwise)], number, rng)
    if not some or not _distinct([*some, then, otherwise]):
        return None
    claims = [claim(fact, rng) for fact in some]
    if any(c is None for c in claims):
        return None
    parts = tuple(c for c in claims if c is not None)
    met = parts[0] if number == 1 else Apply("all", parts)
    return Program(Apply(IF, (met, Look(then), Look(otherwise))))


def _diameters(facts: Sequence[Fact]) -> list[Fact]:
    return [f for f in facts if f.about == DIAMETER]


def grown(facts: Sequence[Fact], number: int, rng: np.random.Generator) -> Program | None:
    """ "It was 9.0 mm across before. By how many mm has it grown?" """
    found = _diameters(facts)
    if len(found) != 1:
        return None
    before = round(float(found[0].value) * float(rng.uniform(0.35, 0.85)), 1)
    return Program(Apply("difference", (Look(found[0]), Given(before, MM))))


def _of_two(op: str) -> Draw:
    def draw(facts: Sequence[Fact], number: int, rng: np.random.Generator) -> Program | None:
        found = _diameters(facts)
        if len(found) < 2:
            return None
        first, last = found[0], found[-1]
        if float(first.value) < 1.2 * float(last.value):
            return None  # too alike to be told apart
        return Program(Apply(op, (Look(first), Look(last))))

    return draw


def _sum(facts: Sequence[Fact], number: int) -> Apply | None:
    found = _diameters(facts)
    return Apply("sum", tuple(map(Look, found))) if len(found) == number else None


def total(facts: Sequence[Fact], number: int, rng: np.random.Generator) -> Program | None:
    """ "How many mm do the widths of all lesions add up to?" """
    tree = _sum(facts, number)
    return Program(tree) if tree else None


def exceeds(facts: Sequence[Fact], number: int, rng: np.random.Generator) -> Program | None:
    """ "Do the widths of all lesions add up to more than 30 mm?" """
    tree = _sum(facts, number)
    if tree is None:
        return None
    whole = float(Program(tree).run()[0])
    off = float(rng.uniform(1.2, 1.6))
    limit = round(whole / off if rng.random() < 0.5 else whole * off, 1)
    return Program(Apply("more", (tree, Given(limit, MM))))


# The forms that take so many steps, each with how many claims or regions it then has.
BY_STEPS: dict[int, dict[str, tuple[Draw, int]]] = {
    2: {"condition": (condition, 1), "grown": (grown, 1)},
    3: {
        "both": (_joining("all"), 2),
        "either": (_joining("any"), 2),
        "counting": (_joining("hold"), 2),
        "difference": (_of_two("difference"), 2),
        "ratio": (_of_two("ratio"), 2),
        "sum": (total, 2),
    },
    4: {
        "both": (_joining("all"), 3),
        "either": (_joining("any"), 3),
        "counting": (_joining("hold"), 3),
        "condition": (condition, 2),
        "sum": (total, 3),
        "exceeds": (exceeds, 2),
    },
    5: {
        "both": (_joining("all"), 4),
        "counting": (_joining("hold"), 4),
        "condition": (condition, 3),
        "sum": (total, 4),
        "exceeds": (exceeds, 3),
    },
}
STEPS = tuple(BY_STEPS)
