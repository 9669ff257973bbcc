"""What is sent to an OpenAI-compatible server and what comes back, none of it taken for granted."""

from __future__ import annotations

import base64
import email.utils
import json
import math
import time
from contextlib import suppress
from typing import Any

import httpx

from engine.errors import TriptychError
from engine.vlm.inputs import REFUSALS, marks_as_words, one_line, within_budget
from engine.vlm.protocol import Request, Sample, Sampling

PASSING = {408, 425, 429}  # and all from 500 on: asked again
BUSY = {429, 503}  # of those what says that fewer at once would fare better
OF_ALL = {401, 402, 404, 405, 407}  # and redirects: no other request would fare better
LEAST = -9999.0  # what vLLM says where there is none
LONGEST_WORDS = 300  # characters of a refusal that are told


class Refused(TriptychError):
    """A request that a server does not answer. What is `passing` may be answered later, `wait_s`
    seconds where the server said so; `status` is HTTP's, 0 where there was none. What is `crowded`
    was sent beside others, to a server that was too busy."""

    def __init__(
        self, message: str, status: int = 0, passing: bool = False, wait_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.passing, self.wait_s = status, passing, wait_s
        self.crowded = False


def parts_of(request: Request, max_pixels: int) -> list[dict[str, Any]]:
    """A request's picture and words as parts of a message. Raises Refused for no picture."""
    text = {"type": "text", "text": marks_as_words(request.text)}
    if request.png is None:
        return [text]
    try:
        data = base64.b64encode(within_budget(request.png, max_pixels)).decode()
    except REFUSALS as error:
        raise Refused(f"a picture that cannot be read: {one_line(error)}") from None
    return [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}, text]


def body_of(
    model: str,
    parts: list[dict[str, Any]],
    sampling: Sampling,
    logprobs: bool,
    form: str | None = None,
) -> dict[str, Any]:
    """What a chat completion is asked for with; `form` in vLLM's field of a request."""
    held = {"structured_outputs": {"regex": form}} if form else {}
    return (
        held
        | {
            "model": model,
            "messages": [{"role": "user", "content": parts}],
            "n": sampling.n,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        | ({"logprobs": True} if logprobs else {})
    )


def read_reply(reply: httpx.Response, who: str, secret: str) -> dict[str, Any]:
    """The JSON object of a reply; raises Refused, or TriptychError where it holds for all.

    An error in a reply of status 200 counts as one of the status that it names, else as passing.
    `who` answers, for the message, in which `secret` is never told.
    """
    said, error = _parsed(reply)
    if reply.is_success and said is not None and not error:
        return said
    if reply.is_redirect:
        raise TriptychError(
            f"{who} answers {reply.status_code}, a redirect: set generator.backend.url to its goal"
        )
    status, how = reply.status_code, str(reply.status_code)
    if reply.is_success:
        named = _status(error.get("code") if isinstance(error, dict) else None)
        status = named or 500
        how += f" with error {named or ''}".rstrip() if error else " with what is no completion"
    told = f"{who} answers {how}: {_words(error or reply.text, secret)}"
    if status in OF_ALL:
        raise TriptychError(told)
    passing = status in PASSING or status >= 500
    raise Refused(told, status, passing, _wait(reply.headers.get("Retry-After")))


def _parsed(reply: httpx.Response) -> tuple[dict[str, Any] | None, Any]:
    """(the reply's JSON object or None, the error that it says or None)."""
    try:
        said = reply.json()
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(said, dict):
        return None, None
    return said, said if said.get("object") == "error" else said.get("error")


def tokens_of(reply: httpx.Response) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of all choices, as the reply's `usage` says; None where it does not.

    A refusal that tells none had none.
    """
    said, _ = _parsed(reply)
    usage = said.get("usage") if said else None
    usage = usage if isinstance(usage, dict) else {}
    prompt, completion = (_count(usage.get(f"{of}_tokens")) for of in ("prompt", "completion"))
    nothing = None if reply.is_success else 0
    return (nothing if prompt is None else prompt, nothing if completion is None else completion)


def _count(value: Any) -> int | None:
    """A number of tokens, if it is one: whole, not negative, and none that no model writes."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 1 << 40 else None


def _words(error: Any, secret: str) -> str:
    """What an error says, on one line of bounded length and without the secret."""
    words = error.get("message", error) if isinstance(error, dict) else error
    text = words if isinstance(words, str) else json.dumps(words)
    return " ".join((text.replace(secret, "[key]") if secret else text).split())[:LONGEST_WORDS]


def _status(code: Any) -> int:
    """An error's code where it is an HTTP status, else 0."""
    with suppress(TypeError, ValueError, OverflowError):
        return int(code) if 400 <= int(code) <= 599 else 0
    return 0


def _wait(said: str | None) -> float | None:
    """Retry-After in seconds: a number of them, or a date (RFC 9110, 10.2.3)."""
    if not said:
        return None
    with suppress(ValueError):
        return max(float(said), 0.0) if math.isfinite(float(said)) else None
    with suppress(ValueError):
        return max(email.utils.parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    return None


def read_choices(said: dict[str, Any]) -> tuple[list[Sample], str]:
    """The samples of a reply, and what is wrong with a choice that is none ("" where all are)."""
    choices = said.get("choices")
    if not isinstance(choices, list) or not choices:
        return [], "gives no choices"
    read = [_read(choice) for choice in choices]
    samples = [one for one in read if isinstance(one, Sample)]
    return samples, next((one for one in read if isinstance(one, str)), "")


def _read(choice: Any) -> Sample | str:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return "gives a choice without a message"
    text = _text(message.get("content"))
    if text is None:
        ended = choice.get("finish_reason")
        return f"gives a message without text (finish_reason {str(ended)[:40]})"
    known = choice.get("logprobs")
    tokens = known.get("content") if isinstance(known, dict) else None
    tokens = tokens if isinstance(tokens, list) else []
    # Half a surrogate pair, which JSON can say and no file can hold, is a question mark.
    whole = text.encode(errors="replace").decode()
    return Sample(whole.strip(), _mean(tokens), len(tokens))


def _text(content: Any) -> str | None:
    """A message's text: a string, or the text parts of a list; None where there is none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [p.get("text") if isinstance(p, dict) else p for p in parts]
    found = [t for t in texts if isinstance(t, str)]
    return "".join(found) if found else None


def _mean(tokens: list[Any]) -> float | None:
    """The mean log-probability; None, unknown, unless every token has a finite one, at most 0."""
    values = [t.get("logprob") if isinstance(t, dict) else None for t in tokens]
    known = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if not known or len(known) < len(values) or not all(LEAST < v <= 1e-6 for v in known):
        return None
    return sum(known) / len(known)
