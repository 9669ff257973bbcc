"""How many requests a server is sent at once: a server of our own counts them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from engine.config.backend import Endpoint
from engine.errors import TriptychError
from engine.vlm import endpoint
from engine.vlm.crowding import Crowd
from engine.vlm.endpoint import EndpointVLM
from engine.vlm.protocol import Request, Sample, Sampling
from tests.engine.vlm.test_endpoint import completion, refusal, serve

__all__ = ["serve"]  # the fixture


class Bearing:
    """Answers so many requests at once and refuses those beyond; counts all of them."""

    def __init__(self, bears: int, took_s: float = 0.02, how: Callable[[], Any] | None = None):
        self.bears, self.took_s = bears, took_s
        self.how = how or (lambda: refusal(429))
        self.lock = threading.Lock()
        self.under_way, self.most = 0, 0
        self.refused: list[int] = []  # of which request, in order

    def __call__(self, body: dict[str, Any], number: int) -> Any:
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            full = self.under_way > self.bears
            self.refused += [number] if full else []
        time.sleep(0 if full else self.took_s)
        with self.lock:
            self.under_way -= 1
        return self.how() if full else completion(body)


def ask(vlm: EndpointVLM, requests: int) -> list[Sample]:
    asked = [Request(None, f"question {k}") for k in range(requests)]
    return [sample for (sample,) in vlm.generate(asked, Sampling())]


def opened(server: Any, most: int) -> EndpointVLM:
    return EndpointVLM("m", Endpoint(url=server.url, concurrency=most))


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_bears_few_is_sent_few_and_every_request_is_answered(
    serve: Any, status: int
) -> None:
    """Thirty-two at once are seven tries too many for some, and no run ends of it."""
    bearing = Bearing(4, how=lambda: refusal(status))
    server = serve(bearing)
    vlm = opened(server, 32)
    assert all(sample.problem is None for sample in ask(vlm, 160))
    assert 1 <= vlm.crowd.bears < 8
    early = [number for number in bearing.refused if number < 64]
    late = [number for number in bearing.refused if number >= len(server.bodies) - 64]
    assert len(late) < len(early)  # it learns; what it loses is what it tries out
    before = len(server.bodies)
    ask(vlm, 32)
    assert len(server.bodies) - before < 32 * 1.5  # and remembers from one batch to the next


def test_no_more_than_the_configured_number_are_under_way(serve: Any) -> None:
    bearing = Bearing(1000)
    assert len(ask(opened(serve(bearing), 3), 24)) == 24
    assert bearing.most == 3


def test_as_many_as_the_server_bears_are_under_way(serve: Any) -> None:
    bearing = Bearing(1000, took_s=0.5)
    ask(opened(serve(bearing), 8), 16)
    assert bearing.most == 8


def test_time_outs_lower_the_number_too(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT", httpx.Timeout(0.3))

    def slow_once(body: dict[str, Any], number: int) -> dict[str, Any]:
        time.sleep(0 if number else 1)
        return completion(body)

    vlm = opened(serve(slow_once), 8)
    ask(vlm, 1)
    assert vlm.crowd.bears == 4


@pytest.mark.parametrize("fault", [refusal(500), refusal(400), None])
def test_what_says_nothing_of_crowding_lowers_nothing(serve: Any, fault: Any) -> None:
    vlm = opened(serve(lambda body, number: completion(body) if number else fault), 8)
    ask(vlm, 2)
    assert vlm.crowd.bears == 8


def test_while_a_server_asks_to_be_left_alone_it_is_sent_nothing(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at: list[float] = []
    told, refused = threading.Event(), Crowd.refused

    def tell(crowd: Crowd, turn: Any, wait_s: float = 0.0) -> None:
        refused(crowd, turn, wait_s)
        told.set()

    def busy_once(body: dict[str, Any], number: int) -> Any:
        at.append(time.monotonic())
        if not number:
            return refusal(429, Retry_After="1")
        assert told.wait(60)  # what is under way beside it is answered after the refusal is known
        return completion(body)

    monkeypatch.setattr(Crowd, "refused", tell)
    assert len(ask(opened(serve(busy_once), 2), 12)) == 12
    beside = 1  # was under way when the first was refused
    assert min(sorted(at)[1 + beside :]) - at[0] > 0.9


def test_a_server_too_busy_for_one_at_a_time_ends_the_run(serve: Any) -> None:
    server = serve(lambda body, number: refusal(429))
    with pytest.raises(TriptychError, match="answers 429"):
        ask(opened(server, 8), 1)
    halvings = 3
    assert len(server.bodies) == halvings + endpoint.TRIES


def test_a_burst_of_refusals_halves_once() -> None:
    crowd = Crowd(16)
    with ExitStack() as stack:
        turns = [stack.enter_context(crowd.turn()) for _ in range(16)]
        for turn in turns:
            crowd.refused(turn)
        assert crowd.bears == 8
    with crowd.turn() as turn:
        crowd.refused(turn)
        crowd.refused(turn)
    assert crowd.bears == 4


def test_it_is_never_less_than_one_and_climbs_by_one_a_round() -> None:
    crowd = Crowd(8)
    for _ in range(9):
        with crowd.turn() as turn:
            crowd.refused(turn)
    assert (crowd.bears, turn.crowded) == (1, False)
    for rounds in (1, 2, 3):
        with ExitStack() as stack:
            under_way = [stack.enter_context(crowd.turn()) for _ in range(int(crowd.bears))]
            for _ in under_way:
                crowd.answered()
        assert rounds < crowd.bears <= rounds + 1
    for _ in range(100):
        with ExitStack() as stack:
            for _ in range(int(crowd.bears)):
                stack.enter_context(crowd.turn())
            crowd.answered()
    assert crowd.bears == 8


def test_answers_that_left_room_raise_nothing() -> None:
    crowd = Crowd(8)
    with crowd.turn() as turn:
        crowd.refused(turn)
    with crowd.turn():
        crowd.answered()
    assert crowd.bears == 4
