"""One engine that several threads ask, in a thread of its own: what they ask is computed together.

So the engine has work while one shard ends and another is prepared or written. What is asked while
nothing is under way is taken whole before the first step: the calls of a single thread are
scheduled the same every time. Beside other work it is taken a few requests at a time, so that what
is under way does not wait until all are prepared.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, NoReturn, Protocol

AT_A_TIME = 4  # requests taken between two steps


class Engine(Protocol):
    """An engine that is stepped: vLLM's, or a test's."""

    def ask(self, prompt: Any, params: Any) -> str:
        """Take a request; returns its id. Raises what is wrong with it."""
        ...

    def step(self) -> list[tuple[str, Any]]:
        """Compute for a while; returns ids and answers of the requests that ended."""
        ...


class _Call:
    """What one thread asked together; done where all of it is answered."""

    def __init__(self, number: int) -> None:
        self.answers: list[Any] = [None] * number
        self.left = number
        self.done: Future[list[Any]] = Future()

    def answer(self, place: int, answer: Any) -> None:
        self.answers[place] = answer
        self.left -= 1
        if not self.left:
            self.done.set_result(self.answers)


class Fed:
    """An engine, opened by `open_engine` in its thread; raises what that raises."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._asked: SimpleQueue[tuple[_Call, list[tuple[int, Any, Any]]]] = SimpleQueue()
        self._waiting: deque[tuple[_Call, int, Any, Any]] = deque()
        self._under_way: dict[str, tuple[_Call, int]] = {}
        opened: Future[Any] = Future()
        threading.Thread(target=self._run, args=(open_engine, opened), daemon=True).start()
        self.engine = opened.result()

    def generate(self, prompts: Sequence[Any], params: Sequence[Any]) -> list[Any]:
        """What each is answered, or the exception with which the engine refused it.

        Raises what a step raised; the engine is then of no more use.
        """
        if not prompts:
            return []
        call = _Call(len(prompts))
        self._asked.put((call, [(n, *asked) for n, asked in enumerate(zip(prompts, params))]))
        return call.done.result()

    def _run(self, open_engine: Callable[[], Engine], opened: Future[Any]) -> None:
        try:
            engine = open_engine()
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(engine)
        try:
            while True:
                self._take()
                self._feed(engine)
                if self._under_way:
                    for name, answer in engine.step():
                        call, place = self._under_way.pop(name)
                        call.answer(place, answer)
        except BaseException as error:
            self._fail(error)

    def _take(self) -> None:
        """What was asked since; waits where there is nothing to do."""
        idle = not (self._under_way or self._waiting)
        while idle or not self._asked.empty():
            call, asked = self._asked.get()
            self._waiting += [(call, *one) for one in asked]
            idle = False

    def _feed(self, engine: Engine) -> None:
        most = AT_A_TIME if self._under_way else len(self._waiting)
        for _ in range(min(most, len(self._waiting))):
            call, place, prompt, params = self._waiting.popleft()
            try:
                self._under_way[engine.ask(prompt, params)] = call, place
            except Exception as error:
                call.answer(place, error)

    def _fail(self, error: BaseException) -> NoReturn:
        """Tell it to all that wait and to all that will."""
        while True:
            waiting = {one[0] for one in self._waiting}
            for call in waiting | {call for call, _ in self._under_way.values()}:
                call.done.set_exception(error)
            self._waiting.clear()
            self._under_way.clear()
            self._take()
