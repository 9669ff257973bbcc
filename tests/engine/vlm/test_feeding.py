"""What is computed together, and what becomes of what an engine refuses or dies of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.vlm.feeding import AT_A_TIME, Fed


class Counting:
    """Answers a request after as many steps as it asks for; keeps what was in each step."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.left: dict[str, int] = {}
        self.steps: list[list[str]] = []
        self.before_step: Callable[[], None] = lambda: None

    def ask(self, prompt: str, params: int) -> str:
        assert threading.current_thread() is self.thread
        if params < 0:
            raise ValueError(f"{prompt}: no")
        self.left[prompt] = params
        return prompt

    def step(self) -> list[tuple[str, str]]:
        assert threading.current_thread() is self.thread
        self.steps.append(sorted(self.left))
        self.before_step()
        self.left = {name: n - 1 for name, n in self.left.items()}
        ended = [name for name, n in self.left.items() if n <= 0]
        for name in ended:
            del self.left[name]
        return [(name, f"{name}!") for name in ended]


@pytest.fixture
def fed() -> Fed:
    return Fed(Counting)


def test_answers_are_in_the_order_of_what_was_asked(fed: Fed) -> None:
    assert fed.generate(["a", "b", "c"], [3, 1, 2]) == ["a!", "b!", "c!"]
    assert fed.engine.steps == [["a", "b", "c"], ["a", "c"], ["a"]]
    assert fed.generate([], []) == []


def test_a_call_alone_is_taken_whole_before_the_first_step(fed: Fed) -> None:
    many = [f"{n:03d}" for n in range(10 * AT_A_TIME)]
    fed.generate(many, [1] * len(many))
    assert fed.engine.steps == [many]


def test_what_is_asked_meanwhile_is_computed_beside_it(fed: Fed) -> None:
    """The first call goes on for as long as the second, of which a few are taken at each step."""
    begun = threading.Event()
    second = [f"second {n:02d}" for n in range(2 * AT_A_TIME + 1)]

    def handed_over() -> None:
        if len(fed.engine.steps) == 1:
            begun.set()
            while fed._asked.empty():
                pass

    fed.engine.before_step = handed_over
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fed.generate, ["first"], [6])
        begun.wait(10)
        later = pool.submit(fed.generate, second, [2] * len(second))
        assert later.result(10) == [f"{name}!" for name in second]
        assert first.result(10) == ["first!"]
    sizes = [len(names) for names in fed.engine.steps]
    assert sizes == [1, 1 + AT_A_TIME, 1 + 2 * AT_A_TIME, 1 + AT_A_TIME + 1, 2, 1]


def test_what_is_refused_is_told_and_the_others_are_answered(fed: Fed) -> None:
    a, refused, c = fed.generate(["a", "b", "c"], [1, -1, 1])
    assert (a, c) == ("a!", "c!")
    assert str(refused) == "b: no"
    assert [str(e) for e in fed.generate(["d", "e"], [-1, -1])] == ["d: no", "e: no"]
    assert fed.generate(["f"], [1]) == ["f!"]


def test_an_engine_that_dies_is_told_to_all_that_wait_and_to_all_that_come(fed: Fed) -> None:
    def die() -> None:
        if len(fed.engine.steps) == 3:
            raise MemoryError("no room")

    fed.engine.before_step = die
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(fed.generate, [f"{n}"], [99]) for n in range(4)]
        for call in calls:
            with pytest.raises(MemoryError, match="no room"):
                call.result(10)
        with pytest.raises(MemoryError, match="no room"):
            pool.submit(fed.generate, ["late"], [1]).result(10)


def test_an_engine_that_cannot_be_opened_says_why() -> None:
    def none() -> Counting:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        Fed(none)


def test_many_threads_each_get_their_own_answers(fed: Fed) -> None:
    def ask(n: int) -> bool:
        names = [f"{n} {k}" for k in range(7)]
        return fed.generate(names, [1 + (n + k) % 5 for k in range(7)]) == [f"{x}!" for x in names]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(60)))
