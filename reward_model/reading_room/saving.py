"""Answers to the journal: on disk before anybody is told, those that wait together in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from reward_model.journal import Journal
from reward_model.verdicts import Answer


class Saver:
    """The one place where a server reads and writes its journal, in a thread of its own.

    `took` is called in the event loop with what is new in the journal, other servers' answers too,
    before `save` returns; with all of it, and True, where a withdrawal has taken lines out.
    """

    def __init__(self, journal: Journal, took: Callable[[list[Answer], bool], None]) -> None:
        self.journal, self._took = journal, took
        self._thread = ThreadPoolExecutor(1, "journal")
        self._taken, self._last = 0, ""  # how many answers were taken, and the last one's id
        self._waiting: list[tuple[Answer, asyncio.Future[None]]] = []
        self._work: asyncio.Task[None] | None = None

    def load(self) -> tuple[list[Answer], bool]:
        """What is new in the journal; all of it, and True, where lines went.

        Raises TriptychError where it cannot be read.
        """
        answers, taken = self.journal.answers(), self._taken
        anew = taken > len(answers) or (taken > 0 and answers[taken - 1].id != self._last)
        self._taken, self._last = len(answers), answers[-1].id if answers else ""
        return (answers, True) if anew else (answers[taken:], False)

    async def look(self) -> None:
        """Take what others have written."""
        self._took(*await asyncio.get_running_loop().run_in_executor(self._thread, self.load))

    async def save(self, answer: Answer) -> None:
        """Return once an answer is on disk; raises what hinders it, and then it is not saved."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((answer, done))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._write_all())
        await done

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                new = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._write, [answer for answer, _ in batch]
                )
                self._took(*new)
            except Exception as error:  # each who waits is told
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _write(self, answers: list[Answer]) -> tuple[list[Answer], bool]:
        self.journal.append(answers)
        return self.load()
