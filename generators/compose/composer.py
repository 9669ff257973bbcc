"""Questions about an image composed from its facts, one after the other, balanced over all images.

Rules for options, where a choice is asked. Closed questions offer yes and no. A count of statements
offers every number there could be, in order. A condition offers two values of what is asked for
where it holds and two of what is asked for where not: the true one and a near one of each, so that
neither branch, nor the option that stands alone, tells the answer. A measure stands among four,
each 1.35 times the one before, at a place that is drawn in turn: they are apart to the eye, and no
relation between them tells which is right.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from generators.compose.balance import SLACK, Balance, Shown
from generators.compose.facts import agreed, values_of
from generators.compose.forms import BY_STEPS
from generators.compose.program import (
    COUNT,
    IF,
    MM,
    TIMES,
    Apply,
    Fact,
    Look,
    Node,
    Program,
    in_words,
    nodes,
    type_of,
)
from generators.compose.writer import WORDINGS, called, claim_of, question, rationale, steps_of

DRAWS = 48  # programs of a form that are looked at for one that is taken
IN_VAIN = 6  # draws without a program, after which the facts allow none
APART = 1.35  # a measure over the option below it
LEAST = 1.0  # mm or times, below which options would be too alike in steps of 0.1
TOO_FEW = "too few facts"
CONTRADICT = "facts contradict each other"
GUESSABLE = "the answer would be guessable"


@dataclass(frozen=True, slots=True)
class Composed:
    """A composed question with all that is needed to make a row of it."""

    form: str
    program: Program
    question: str
    options: tuple[str, ...]
    answer: str
    rationale: str
    steps: int

    @property
    def closed(self) -> bool:
        return set(self.options) == {"yes", "no"}

    @property
    def confidence(self) -> float:
        """The least of its facts': it is right where all of them are, so at most so sure."""
        return min(fact.confidence for fact in self.program.facts)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program that could be asked, and what its words show."""

    form: str
    steps: int
    program: Program
    shown: tuple[Shown, ...]


def compose(
    facts: Sequence[Fact],
    width_mm: float | None,
    number: int,
    shares: dict[int, float],
    balance: Balance,
    rng: np.random.Generator,
    before: Collection[str] = (),
) -> tuple[list[Composed], str | None]:
    """Up to `number` questions about one image, and why there are fewer, where there are.

    `facts` are all that is known of it, `width_mm` how wide it is, if known; without that no
    measure is asked for. `shares` says how many steps are wanted how often, `before` which
    questions were asked about the image already.
    """
    known, against = agreed(facts)
    if against:
        return [], f"{CONTRADICT}: {against}"
    found: list[Composed] = []
    asked = set(before)
    why: str | None = None
    for _ in range(number):
        one, why = _one(known, width_mm, shares, balance, asked, rng)
        if one is None:
            break
        asked.add(one.question)
        found.append(one)
    return found, why


def _one(
    facts: Sequence[Fact],
    width_mm: float | None,
    shares: dict[int, float],
    balance: Balance,
    asked: set[str],
    rng: np.random.Generator,
) -> tuple[Composed | None, str | None]:
    able = False
    for steps in balance.first("steps", shares):
        for form in balance.rarest(("form", steps), list(BY_STEPS[steps])):
            drawn = _candidates(facts, width_mm, form, steps, balance, rng)
            able = able or bool(drawn)
            for candidate in sorted(drawn, key=lambda c: balance.cost(c.shown)):
                if balance.cost(candidate.shown)[0] > SLACK:
                    break
                made = _made(candidate, balance, asked, rng)
                if made:
                    balance.take(
                        (
                            *candidate.shown,
                            Shown("steps", str(steps), ()),
                            Shown(("form", steps), form, ()),
                        )
                    )
                    return made, None
    return None, GUESSABLE if able else TOO_FEW


def _candidates(
    facts: Sequence[Fact],
    width_mm: float | None,
    form: str,
    steps: int,
    balance: Balance,
    rng: np.random.Generator,
) -> list[Candidate]:
    draw, number = BY_STEPS[steps][form]
    found: list[Candidate] = []
    for place in range(DRAWS):
        if place >= IN_VAIN and not found:
            break
        program = draw(facts, number, rng)
        if program is None:
            continue
        if any(type_of(node) == MM for node in nodes(program.tree)):
            if width_mm is None:
                return []
            program = Program(program.tree, width_mm)
        if steps_of(program) == steps:
            found.append(Candidate(form, steps, program, _shown(form, steps, program)))
    return found


def _shown(form: str, steps: int, program: Program) -> tuple[Shown, ...]:
    """What a question of a program shows, with what it comes to: see `balance`."""
    tree, answer = program.tree, program.answer
    assert isinstance(tree, Apply)
    kind, came_to = type_of(tree), answer
    possible: tuple[str, ...] = ("yes", "no")
    more: list[Shown] = []
    if kind in (MM, TIMES):
        return ()  # the place among the options is drawn in turn
    if tree.op == "hold":
        possible = tuple(map(str, range(len(tree.args) + 1)))
    elif tree.op == IF:
        holds = Program(tree.args[0]).run()[0]
        taken = tree.args[1] if holds else tree.args[2]
        assert isinstance(taken, Look)
        came_to, possible = ("first" if holds else "second"), ("first", "second")
        values = _values(taken.fact)
        if values:
            more.append(Shown(("value", taken.fact.about), answer, values))
    features: list[Hashable] = [(form, steps), (form, called(program).one)]
    features += [(form, *_claimed(node)) for node in nodes(tree) if claim_of(node)]
    return (*(Shown(feature, came_to, possible) for feature in features), *more)


def _claimed(node: Node) -> tuple[str, str, str]:
    found = claim_of(node)
    assert found is not None
    assert isinstance(node, Apply)
    fact, value = found
    return node.op, f"{fact.about} {fact.subject if fact.about == 'presence' else ''}", str(value)


def _values(fact: Fact) -> tuple[str, ...]:
    """What a fact that is asked for may be, in words; counts that lie near are all there are."""
    if fact.about == COUNT:
        return tuple(map(str, range(1, max(3, int(fact.value)) + 1)))
    return values_of(fact.about, fact.subject, fact.value)


def _made(
    candidate: Candidate, balance: Balance, asked: set[str], rng: np.random.Generator
) -> Composed | None:
    program = candidate.program
    words = question(program, int(rng.integers(WORDINGS)))
    options = None if words in asked else _options(candidate.form, program, balance, rng)
    if options is None:
        return None
    return Composed(
        candidate.form,
        program,
        words,
        options,
        program.answer,
        rationale(program),
        candidate.steps,
    )


def _options(
    form: str, program: Program, balance: Balance, rng: np.random.Generator
) -> tuple[str, ...] | None:
    """The options of a program's question; None where there are not enough different ones."""
    tree, answer = program.tree, program.answer
    assert isinstance(tree, Apply)
    kind = type_of(tree)
    if kind in (MM, TIMES):
        right = float(program.run()[0])
        if right < LEAST:
            return None
        place = balance.place(form, 4)
        values = [round(right * APART ** (n - place), 1) for n in range(4)]
        return tuple(in_words(value, kind) for value in values)
    if tree.op == "hold":
        return tuple(map(str, range(len(tree.args) + 1)))
    if tree.op != IF:
        other = "no" if answer == "yes" else "yes"
        return _placed(answer, [other], balance.place((form, answer), 2))
    others: list[str] = []
    for branch in tree.args[1:]:
        assert isinstance(branch, Look)
        fact = branch.fact
        wrong = [v for v in _near(fact) if v != str(fact.value)]
        if not wrong:
            return None
        others += [str(fact.value), wrong[rng.integers(len(wrong))]]
    if len(set(others)) < len(others):
        return None
    wrong = [other for other in others if other != answer]
    rng.shuffle(wrong)
    return _placed(answer, wrong, balance.place(form, len(others)))


def _near(fact: Fact) -> tuple[str, ...]:
    if fact.about == COUNT:
        return tuple(str(int(fact.value) + by) for by in (-1, 1) if int(fact.value) + by > 0)
    return _values(fact)


def _placed(answer: str, wrong: list[str], place: int) -> tuple[str, ...]:
    """The answer in its place among wrong ones."""
    return (*wrong[:place], answer, *wrong[place:])
