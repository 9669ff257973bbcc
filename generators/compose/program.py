"""Facts of an image, expressions over them, and how these are evaluated, step by step.

A program is a tree of three kinds of nodes: a fact that is looked at, a value that the question
gives, an operation. It has a type, is JSON, and gives the same answer whenever it is run:

    ["if", ["more", ["look", 0], ["given", 1]], ["look", 1], ["look", 2]]

with the facts 0, 1 and 2 beside it. Types are `yes or no` (bool), `number` (int), `mm` (millimetres
in steps of 0.1), `times` (a ratio in steps of 0.1) and `word`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.records import canonical

Value = bool | int | float | str

CLOSED, NUMBER, MM, TIMES, WORD = "yes or no", "number", "mm", "times", "word"
PRESENCE, SEVERAL, COUNT, SIDE, SIZE, DIAMETER = (
    "presence",
    "several",
    "count",
    "side",
    "size",
    "diameter",
)
_TYPES = {PRESENCE: CLOSED, SEVERAL: CLOSED, COUNT: NUMBER, DIAMETER: MM}
_PYTHON: dict[str, tuple[type, ...]] = {
    CLOSED: (bool,),
    NUMBER: (int,),
    MM: (float, int),
    TIMES: (float, int),
    WORD: (str,),
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something known of an image.

    `about` is what is known (presence, count, side, size, diameter, or an attribute's name) of
    `subject` (a finding's name; "" for the image as a whole), and of `which` of several, by size.
    `kind` is where it is from: kept, expert, corrected, labels, truth or segmentation; `source` the
    id of the triplet, or of the image where no triplet says it. `confidence` in [0, 1] is how sure
    selection was of that triplet, and 1 for what is certain.
    """

    about: str
    subject: str
    value: Value
    kind: str
    source: str
    which: str = ""
    confidence: float = 1.0

    @property
    def key(self) -> tuple[str, str, str]:
        """What two facts with different values contradict each other about."""
        return self.about, self.subject, self.which

    @property
    def type(self) -> str:
        return _TYPES.get(self.about, WORD)


@dataclass(frozen=True, slots=True)
class Look:
    """A fact that is looked at."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class Given:
    """A value that the question gives; `unit` is its type."""

    value: Value
    unit: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation on what other nodes are."""

    op: str
    args: tuple[Node, ...]


Node = Look | Given | Apply


@dataclass(frozen=True, slots=True)
class Op:
    """What an operation takes (a type, or "same" for all alike), gives, and does.

    `least` and `most` are how many arguments it takes.
    """

    takes: str
    gives: str
    least: int
    most: int
    run: Callable[..., Value]


def _tenth(value: float) -> float:
    return round(value + 0.0, 1)


OPS: dict[str, Op] = {
    "is": Op("same", CLOSED, 2, 2, lambda a, b: a == b),
    "more": Op("same", CLOSED, 2, 2, lambda a, b: a > b),
    "all": Op(CLOSED, CLOSED, 2, 4, lambda *a: all(a)),
    "any": Op(CLOSED, CLOSED, 2, 4, lambda *a: any(a)),
    "hold": Op(CLOSED, NUMBER, 2, 4, lambda *a: sum(a)),
    "sum": Op(MM, MM, 2, 4, lambda *a: _tenth(sum(a))),
    "difference": Op(MM, MM, 2, 2, lambda a, b: _tenth(a - b)),
    "ratio": Op(MM, TIMES, 2, 2, lambda a, b: _tenth(a / b)),
}
IF = "if"


def type_of(node: Node) -> str:
    """The type of a tree; of an `if` with branches of two types both, as "a or b".

    Raises ValueError where an operation is unknown or does not take what it is given.
    """
    if isinstance(node, Look):
        return _checked(node.fact.value, node.fact.type)
    if isinstance(node, Given):
        return _checked(node.value, node.unit)
    found = [type_of(arg) for arg in node.args]
    if node.op == IF:
        if len(found) != 3 or found[0] != CLOSED:
            raise ValueError("if takes a condition and two branches")
        return " or ".join(dict.fromkeys(found[1:]))
    op = OPS.get(node.op)
    if op is None:
        raise ValueError(f"no operation is called {node.op!r}")
    wanted = found[0] if op.takes == "same" and found else op.takes
    if not op.least <= len(found) <= op.most or any(kind != wanted for kind in found):
        raise ValueError(f"{node.op} does not take {', '.join(found) or 'nothing'}")
    if node.op == "more" and wanted not in (NUMBER, MM, TIMES):
        raise ValueError(f"more compares no {wanted}")
    return op.gives


def _checked(value: Value, kind: str) -> str:
    allowed = _PYTHON.get(kind, ())
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"{value!r} is no {kind}")
    return kind


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an evaluation: what was looked at or put together, and what it came to.

    A fact that is held against a given value at once is one step, whose `claim` that value is.
    """

    op: str  # "look", or an operation's name
    args: tuple[Value, ...]
    value: Value
    fact: Fact | None = None
    claim: Given | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A tree that computes an answer; raises ValueError where it has no type.

    `width_mm` is how wide the image is, where the question says so: without it nobody sees mm.
    """

    tree: Node
    width_mm: float | None = None

    def __post_init__(self) -> None:
        type_of(self.tree)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts that it names, each once, in the order of the tree."""
        return tuple(
            dict.fromkeys(node.fact for node in nodes(self.tree) if isinstance(node, Look))
        )

    def run(self) -> tuple[Value, tuple[Step, ...]]:
        """The value, and the steps in their order. Of an `if` only the branch taken is run.

        Raises ZeroDivisionError where a ratio has nothing to divide by.
        """
        steps: list[Step] = []
        return _run(self.tree, steps), tuple(steps)

    @property
    def answer(self) -> str:
        """The value in words: what an answer has to be equal to."""
        return in_words(*_typed(self))

    def on(self, told: Callable[[Fact], Value | None]) -> Program | None:
        """The same question of other facts: each fact's value as `told` has it; None where it is
        not known of one that the answer depends on, or of one that the question takes for granted.
        """
        known = {fact: told(fact) for fact in self.facts}
        if any(value is None for value in known.values()):
            return None
        changed = {fact: replace(fact, value=value) for fact, value in known.items()}  # type: ignore[arg-type]
        return Program(_with(self.tree, changed), self.width_mm)

    def to_json(self) -> str:
        """Canonical JSON, from which `from_json` makes an equal program."""
        facts = self.facts
        told = {"facts": [asdict(fact) for fact in facts], "tree": _plain(self.tree, facts)}
        return canonical(told | ({} if self.width_mm is None else {"width_mm": self.width_mm}))

    @classmethod
    def from_json(cls, text: str) -> Program:
        """Raises ValueError where the text is no program."""
        try:
            data = json.loads(text)
            facts = [Fact(**fact) for fact in data["facts"]]
            return cls(_node(data["tree"], facts), data.get("width_mm"))
        except (KeyError, TypeError, IndexError, RecursionError) as error:
            raise ValueError(f"no program: {error!r}") from None


def nodes(node: Node) -> Iterator[Node]:
    """A tree's nodes, each before its arguments."""
    yield node
    if isinstance(node, Apply):
        for arg in node.args:
            yield from nodes(arg)


def _with(node: Node, facts: Mapping[Fact, Fact]) -> Node:
    if isinstance(node, Look):
        return Look(facts[node.fact])
    if isinstance(node, Apply):
        return Apply(node.op, tuple(_with(arg, facts) for arg in node.args))
    return node


def _run(node: Node, steps: list[Step]) -> Value:
    if isinstance(node, Given):
        return node.value
    if isinstance(node, Look):
        steps.append(Step("look", (), node.fact.value, node.fact))
        return node.fact.value
    if node.op == IF:
        condition, then, otherwise = node.args
        return _run(then if _run(condition, steps) else otherwise, steps)
    first, *others = node.args
    if node.op in ("is", "more") and isinstance(first, Look) and isinstance(others[0], Given):
        value = OPS[node.op].run(first.fact.value, others[0].value)
        steps.append(Step(node.op, (), value, first.fact, others[0]))
        return value
    args = tuple(_run(arg, steps) for arg in node.args)
    value = OPS[node.op].run(*args)
    steps.append(Step(node.op, args, value))
    return value


def _typed(program: Program) -> tuple[Value, str]:
    """A program's value and its type, which for an `if` is the taken branch's."""
    node = program.tree
    while isinstance(node, Apply) and node.op == IF:
        node = node.args[1] if _run(node.args[0], []) else node.args[2]
    return program.run()[0], type_of(node)


def in_words(value: Value, kind: str) -> str:
    """A value of a type as an answer says it: "yes", "2", "left", "12.3 mm", "2.5 times"."""
    if kind == CLOSED:
        return "yes" if value else "no"
    if kind in (MM, TIMES):
        return f"{value:.1f} {kind}"
    return str(value)


def _plain(node: Node, facts: tuple[Fact, ...]) -> list[Any]:
    if isinstance(node, Look):
        return ["look", facts.index(node.fact)]
    if isinstance(node, Given):
        return ["given", node.value, node.unit]
    return [node.op, *(_plain(arg, facts) for arg in node.args)]


def _node(data: list[Any], facts: list[Fact]) -> Node:
    op, *args = data
    if op == "look":
        return Look(facts[args[0]])
    if op == "given":
        return Given(*args)
    return Apply(op, tuple(_node(arg, facts) for arg in args))
