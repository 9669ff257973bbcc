"""What a worker that dies leaves behind, and what is asked again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.config.backend import Endpoint
from engine.errors import TriptychError
from engine.vlm.endpoint import EndpointVLM
from engine.vlm.journal import Journal, Journaled, Spent, journaled, spent_in
from engine.vlm.protocol import Request, Sample, Sampling
from tests.engine.vlm.test_endpoint import choice, completion, refusal, serve

__all__ = ["serve"]  # the fixture

ODD = [
    Sample("línea\n\u2028 {", -0.1 - 0.2, 3),
    Sample("", None, 0, "gives a message without text"),
    Sample("x", float("-inf"), 1),
]
ASKED = [Request(None, f"question {k}") for k in range(12)]


def answering(body: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """A text of the request's own words and seed, and what it took."""
    words = body["messages"][0]["content"][-1]["text"]
    said = [choice(f"{words} {body['seed']}")] * body["n"]
    return {"choices": said, "usage": {"prompt_tokens": 10, "completion_tokens": 3}}


def of(server: Any, path: Path | None, concurrency: int = 2) -> Any:
    return journaled(EndpointVLM("m", Endpoint(url=server.url, concurrency=concurrency)), path)


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    Journal(tmp_path / "a.jsonl").keep("k", ODD)
    assert Journal(tmp_path / "a.jsonl").answers(["none", "k"]) == {1: ODD}


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_a_line_that_a_crash_cut_short_is_as_if_it_was_never_written(
    tmp_path: Path, left: int
) -> None:
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    journal.keep("first", ODD)
    whole = path.read_bytes()
    journal.keep("second", ODD)
    path.write_bytes(path.read_bytes()[: len(whole) + left])
    again = Journal(path)
    assert path.read_bytes() == whole
    again.keep("third", ODD)
    assert Journal(path).answers(["first", "second", "third"]) == {0: ODD, 2: ODD}


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    long = [Sample("x" * 5000, -1.0, 5000)]
    threads = [
        threading.Thread(target=lambda n=n: [journal.keep(f"{n}.{k}", long) for k in range(20)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [f"{n}.{k}" for n in range(8) for k in range(20)]
    assert len(Journal(tmp_path / "a.jsonl").answers(keys)) == 160


def test_what_was_answered_before_a_server_was_gone_is_not_asked_again(
    serve: Any, tmp_path: Path
) -> None:
    calm = of(serve(answering), None).generate(ASKED, Sampling(seed=7))
    path = tmp_path / "a.jsonl"
    gone = serve(lambda body, number: answering(body) if number < 5 else None)
    with pytest.raises(TriptychError, match="does not answer"):
        of(gone, path).generate(ASKED, Sampling(seed=7))
    server = serve(answering)
    assert of(server, path).generate(ASKED, Sampling(seed=7)) == calm
    assert len(server.bodies) == len(ASKED) - 5
    assert spent_in(tmp_path) == Spent(120, 36)


def _die(url: str, path: Path) -> None:
    vlm = EndpointVLM("m", Endpoint(url=url, concurrency=2))
    journaled(vlm, path).generate(ASKED, Sampling(seed=7))


def test_a_worker_that_is_killed_costs_what_it_had_under_way(serve: Any, tmp_path: Path) -> None:
    """kill -9 at its eighth request; two are under way at most."""
    path, children = tmp_path / "a.jsonl", []

    def deadly(body: dict[str, Any], number: int) -> dict[str, Any]:
        if number == 7:
            time.sleep(0.2)
            os.kill(children[0].pid, signal.SIGKILL)
        elif number > 7:
            time.sleep(1)
        return answering(body)

    server = serve(deadly)
    child = multiprocessing.get_context("spawn").Process(target=_die, args=(server.url, path))
    children.append(child)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    calm = serve(answering)
    samples = of(calm, path).generate(ASKED, Sampling(seed=7))
    assert samples == of(serve(answering), None).generate(ASKED, Sampling(seed=7))
    assert len(calm.bodies) <= len(ASKED) - 7 + 1  # the eighth, and one beside it


def test_a_refusal_is_asked_again_and_what_was_answered_before_does_not_excuse_it(
    serve: Any, tmp_path: Path
) -> None:
    """Answers of an earlier run do not show that the server answers this one."""
    path = tmp_path / "a.jsonl"
    picky = serve(lambda b, n: refusal(400, "no") if "question 3" in str(b) else answering(b))
    first = of(picky, path).generate(ASKED[:4], Sampling())
    assert [samples[0].problem is None for samples in first] == [True, True, True, False]
    refusing = serve(lambda body, number: refusal(400, "no such field: seed"))
    with pytest.raises(TriptychError, match="no such field"):
        of(refusing, path).generate(ASKED[:4], Sampling())
    server = serve(answering)
    assert all(s.problem is None for [s] in of(server, path).generate(ASKED[:4], Sampling()))
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "other",
    [
        ([Request(None, "another")], Sampling(seed=7)),
        ([Request(b"", "question 0")], Sampling(seed=7)),
        ([Request(None, "question 0", form="yes|no")], Sampling(seed=7)),
        ([Request(None, "question 0", seed=5)], Sampling(seed=7)),
        ([Request(None, "question 0")], Sampling(seed=8)),
        ([Request(None, "question 0")], Sampling(2, seed=7)),
        ([Request(None, "question 0")], Sampling(temperature=0.5, seed=7)),
        ([Request(None, "question 0")], Sampling(max_tokens=9, seed=7)),
        ([ASKED[1], ASKED[0]], Sampling(seed=7)),  # in another place its stream is another
    ],
)
def test_what_is_asked_otherwise_is_asked(tmp_path: Path, other: Any) -> None:
    model = Counting()
    path = tmp_path / "a.jsonl"
    journaled(model, path).generate(ASKED[:1], Sampling(seed=7))
    journaled(model, path).generate(*other)
    assert model.calls == [1, len(other[0])]


class Counting(Journaled):
    """A model that counts what it is asked, and says how often it was."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        self.calls.append(len(requests))
        self.spent(len(requests), 2)
        return [[Sample(f"{request.text} {len(self.calls)}", -0.1, 1)] for request in requests]


def test_a_local_model_is_asked_whole_calls_again_and_no_part_of_one(tmp_path: Path) -> None:
    """Of a call that is not whole in the journal all is asked: its batch is then the same."""
    model, path = Counting(), tmp_path / "a.jsonl"
    first = journaled(model, path).generate(ASKED, Sampling())
    assert journaled(model, path).generate(ASKED, Sampling()) == first
    assert model.calls == [12]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    again = journaled(model, path).generate(ASKED, Sampling())
    assert model.calls == [12, 12]
    assert [samples[0].text[-1] for samples in again] == ["2"] * 12
    assert journaled(model, path).generate(ASKED, Sampling()) == again


def test_without_a_journal_a_model_is_itself() -> None:
    model = Counting()
    assert journaled(model, None) is model
    assert model.generate(ASKED[:1], Sampling())
    assert model.journal is None


def test_a_model_that_tells_no_tokens_is_kept_all_the_same(tmp_path: Path) -> None:
    class Plain:
        def generate(self, requests: Any, sampling: Any) -> list[list[Sample]]:
            return [[Sample("x", -0.1, 1)] for _ in requests]

    path = tmp_path / "a.jsonl"
    journaled(Plain(), path).generate(ASKED, Sampling())
    assert len(path.read_bytes().splitlines()) == 12
    assert spent_in(tmp_path) == Spent()


def test_tokens_of_replies_that_were_of_no_use_count(serve: Any, tmp_path: Path) -> None:
    """Without choices, asked again for the rest, with an error; a server too busy says nothing."""
    usage = {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    script = [
        refusal(503),
        {"choices": None} | usage,
        (500, {"error": "x"} | usage, {}),
        {"choices": [choice()]} | usage,
        {"choices": [choice()]} | usage,
    ]
    server = serve(lambda body, number: script[number])
    ((first, second),) = of(server, tmp_path / "a.jsonl").generate(ASKED[:1], Sampling(2))
    assert (first.problem, second.problem) == (None, None)
    assert spent_in(tmp_path) == Spent(20, 8)


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (None, Spent(0, 0, 1)),
        ([], Spent(0, 0, 1)),
        ({}, Spent(0, 0, 1)),
        ({"prompt_tokens": 5}, Spent(5, 0, 1)),
        ({"prompt_tokens": 5, "completion_tokens": None}, Spent(5, 0, 1)),
        ({"prompt_tokens": "5", "completion_tokens": True}, Spent(0, 0, 1)),
        ({"prompt_tokens": -5, "completion_tokens": 10**400}, Spent(0, 0, 1)),
        ({"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}, Spent(5, 0)),
    ],
    ids=str,
)
def test_tokens_that_a_server_does_not_tell_are_said_to_be_untold(
    serve: Any, tmp_path: Path, usage: Any, told: Spent
) -> None:
    server = serve(lambda body, number: completion(body) | {"usage": usage})
    of(server, tmp_path / "a.jsonl").generate(ASKED[:1], Sampling())
    assert spent_in(tmp_path) == told


def test_a_journal_is_read_while_its_writer_is_at_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    Journal(path).spend(5, 2)
    with path.open("ab") as out:
        out.write(b'{"prompt": 1')
    assert spent_in(tmp_path) == Spent(5, 2)
