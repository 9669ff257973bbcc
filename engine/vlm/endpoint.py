"""The protocol on any OpenAI-compatible server (vLLM, SGLang, llama.cpp, a hosted model).

As many requests are under way as the server bears (`engine.vlm.crowding`). What passes (a reset, a
time-out, 408, 429, 5xx) is tried again, as late as Retry-After asks. What a server refuses of one
request is a sample with a problem; what it would refuse of any ends the run. Where a batch does not
tell the two apart, one small question more does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from operator import itemgetter
from typing import Any

import httpx
import stamina

from engine.config import MAX_PIXELS
from engine.config.backend import Endpoint
from engine.errors import TriptychError
from engine.private import address_told, bearer
from engine.vlm.crowding import Crowd, Turn
from engine.vlm.endpoint_replies import (
    BUSY,
    Refused,
    body_of,
    parts_of,
    read_choices,
    read_reply,
    tokens_of,
)
from engine.vlm.journal import Journaled, key_of
from engine.vlm.protocol import Request, Sample, Sampling
from engine.vlm.streams import stream_seed

TIMEOUT = httpx.Timeout(300, connect=10)
TRIES = 5  # of one request, the first included; what a server was too busy for beside others apart
FIRST_WAIT_S, LAST_WAIT_S = 1.0, 8.0  # between tries; doubled each time
LONGEST_WAIT_S = 120.0  # that Retry-After may ask for; a server that asks for more ends the run
FUTILE = 2  # replies without a usable choice before a request is given up
# stamina would tell of each retry in the terminal that shows the progress.
stamina.instrumentation.set_on_retry_hooks(())


class EndpointVLM(Journaled):
    """Chat completions over HTTP; the key is read from OPENAI_API_KEY, if it is set.

    Redirects are not followed, so the key goes to the configured address and to no other. What is
    in the journal is not asked again; what is refused is not kept in it.
    """

    keeps = True

    def __init__(self, model: str, backend: Endpoint, max_pixels: int = MAX_PIXELS) -> None:
        self.model, self.max_pixels = model, max_pixels
        self.url, self.name = _address(backend.url)
        self.key, headers = bearer("OPENAI_API_KEY")
        self.crowd = Crowd(backend.concurrency)
        self.client = httpx.Client(
            headers=headers,
            timeout=TIMEOUT,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=backend.concurrency, max_keepalive_connections=backend.concurrency
            ),
        )

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        """As the protocol says; a log-probability that the server does not give is None.

        Raises TriptychError where the server does not answer or refuses whatever it is asked.
        """
        keys = [key_of(request, place, sampling) for place, request in enumerate(requests)]
        known = self.journal.answers(keys) if self.journal else {}
        places = [place for place in range(len(requests)) if place not in known]
        with ThreadPoolExecutor(self.crowd.most) as pool:
            own = [replace(sampling, seed=stream_seed(requests[p], p, sampling)) for p in places]
            of_each = ([keys[p] for p in places], own, [requests[p] for p in places])
            new = dict(zip(places, pool.map(self._new, *of_each)))
        failed = [answer for answer in new.values() if isinstance(answer, Refused)]
        if len(failed) == len(new) or any(error.passing for error in failed):
            self._check_that_it_answers(requests, sampling, failed)
        answers = {**known, **new}
        return [
            [_problem(str(answer))] if isinstance(answer, Refused) else answer
            for _, answer in sorted(answers.items(), key=itemgetter(0))
        ]

    def _new(self, key: str, sampling: Sampling, request: Request) -> list[Sample] | Refused:
        answer = self._one(sampling, request)
        if self.journal and not isinstance(answer, Refused):
            self.journal.keep(key, answer)
        return answer

    def _check_that_it_answers(
        self, requests: Sequence[Request], sampling: Sampling, failed: list[Refused]
    ) -> None:
        """Raise what failed, unless a small question of the same kind is answered."""
        if not failed:
            return
        png = _grey() if any(request.png for request in requests) else None
        probe = self._one(replace(sampling, n=1), Request(png, "Say yes."), tries=1)
        if isinstance(probe, Refused):
            raise TriptychError(str(next((e for e in failed if e.passing), failed[0])))

    def _one(
        self, sampling: Sampling, request: Request, tries: int = TRIES
    ) -> list[Sample] | Refused:
        """All samples of a request, or why there is none.

        A server that gives fewer is asked for the rest, with other seeds; what it never gives is
        a sample with a problem. One that refuses `n` or log-probabilities is asked without.
        """
        samples: list[Sample] = []
        try:
            parts = parts_of(request, self.max_pixels)
        except Refused as error:
            return error
        at_once, logprobs, futile, why = sampling.n, True, 0, ""
        while len(samples) < sampling.n and futile < FUTILE:
            missing = min(sampling.n - len(samples), at_once)
            rest = replace(sampling, n=missing, seed=sampling.seed + len(samples) + futile)
            try:
                said = self._post(body_of(self.model, parts, rest, logprobs, request.form), tries)
                found, why = read_choices(said)
                why = f"{self.name} {why}"
            except Refused as error:
                if error.passing:
                    return error
                if logprobs and "logprob" in str(error):
                    logprobs = False
                    continue
                if missing > 1:
                    at_once = 1
                    continue
                found, why, futile = [], str(error), FUTILE
            samples += found
            futile += not found
        if not samples:
            return Refused(why)
        missed = [] if len(samples) >= sampling.n else [_problem(why)]
        return samples[: sampling.n] + missed

    def _post(self, body: dict[str, Any], tries: int) -> dict[str, Any]:
        """The server's answer. Raises Refused, or TriptychError where that holds for all."""
        tried = stamina.retry_context(
            on=_again(tries), attempts=tries + self.crowd.most.bit_length(), timeout=None,
            wait_initial=FIRST_WAIT_S, wait_max=LAST_WAIT_S, wait_jitter=FIRST_WAIT_S,
        )  # fmt: skip
        try:
            for attempt in tried:
                with attempt, self.crowd.turn() as turn:
                    return self._post_once(body, turn)
        except Refused as error:
            if error.status == 429:  # no fault of this request: it is asked again in a later run
                raise TriptychError(str(error)) from None
            raise
        raise AssertionError("an attempt returns or raises")

    def _post_once(self, body: dict[str, Any], turn: Turn) -> dict[str, Any]:
        try:
            reply = self.client.post(self.url, json=body)
        except httpx.TransportError as error:
            if isinstance(error, httpx.TimeoutException):
                self.crowd.refused(turn)
            why = " ".join(str(error).split()) or type(error).__name__
            raise Refused(f"{self.name} does not answer: {why}", passing=True) from None
        except httpx.HTTPError as error:  # a body that cannot be decompressed
            raise Refused(f"{self.name} answers what cannot be read: {error}") from None
        self.spent(*tokens_of(reply))
        try:
            said = read_reply(reply, self.name, self.key)
        except Refused as error:
            if error.status in BUSY:
                error.crowded = turn.crowded
                self.crowd.refused(turn, min(error.wait_s or 0.0, LONGEST_WAIT_S))
            raise
        self.crowd.answered()
        return said


def _again(tries: int) -> Callable[[Exception], bool | float]:
    """For one request: whether to try again, and in how many seconds where the server says so.

    A try that the server was too busy for beside others does not count: fewer are sent from then
    on, and how few it bears takes some halvings to find out.
    """
    left = tries

    def again(error: Exception) -> bool | float:
        nonlocal left
        if not (isinstance(error, Refused) and error.passing):
            return False
        left -= not error.crowded
        if left <= 0 or (error.wait_s or 0.0) > LONGEST_WAIT_S:
            return False
        return True if error.wait_s is None else error.wait_s

    return again


def _address(url: str) -> tuple[httpx.URL, str]:
    """Where to post, and how errors name it: without a password that the address may hold."""
    try:
        address = httpx.URL(url.rstrip("/") + "/chat/completions")
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not address.host:
        raise TriptychError(
            "generator.backend.url is no address of a server: write http://HOST:PORT/v1"
        )
    return address, f"endpoint {address_told(str(address))}"


def _problem(why: str) -> Sample:
    return Sample("", None, 0, problem=why)


def _grey() -> bytes:
    import PIL.Image

    out = BytesIO()
    PIL.Image.new("L", (64, 64), 128).save(out, "PNG")
    return out.getvalue()
