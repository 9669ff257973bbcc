"""The protocol on any OpenAI-compatible server (vLLM, SGLang, llama.cpp, a hosted model)."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from typing import Any

from engine.config import MAX_PIXELS
from engine.errors import TriptychError
from engine.vlm import Request, Sample, Sampling
from engine.vlm.inputs import plain, within_budget

TIMEOUT_S = 300
BUSY = {429, 500, 502, 503, 504}
WAITS_S = (1, 2, 4, 8, 16)  # before each further try where a server is busy
CONCURRENT = 16


class EndpointVLM:
    """Chat completions over HTTP; the key is read from OPENAI_API_KEY, if it is set."""

    def __init__(self, model: str, url: str | None, max_pixels: int = MAX_PIXELS) -> None:
        if not url:
            raise TriptychError("backend endpoint needs its address: set generator.url to …/v1")
        self.model = model
        self.max_pixels = max_pixels
        self.url = url.rstrip("/") + "/chat/completions"

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        with ThreadPoolExecutor(CONCURRENT) as pool:
            return list(pool.map(lambda request: self._one(request, sampling), requests))

    def _one(self, request: Request, sampling: Sampling) -> list[Sample]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": _content(request, self.max_pixels)}],
            "n": sampling.n,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "logprobs": True,
        }
        answer = self._post(body)
        return [_sample(choice) for choice in answer["choices"]]

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        key = os.environ.get("OPENAI_API_KEY", "")
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        call = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        waits = iter(WAITS_S)
        while True:
            try:
                with urllib.request.urlopen(call, timeout=TIMEOUT_S) as reply:
                    return dict(json.load(reply))
            except urllib.error.HTTPError as error:
                wait = next(waits, None) if error.code in BUSY else None
                if wait is None:
                    raise TriptychError(
                        f"endpoint {self.url} answers {error.code} {error.reason}: {_said(error)}"
                    ) from None
                time.sleep(wait)
            except (OSError, HTTPException, ValueError) as error:
                raise TriptychError(f"endpoint {self.url} does not answer: {error}") from None


def _said(error: urllib.error.HTTPError) -> str:
    """What a refusal says beside its code, where it can be read."""
    with suppress(OSError, HTTPException):
        return " ".join(error.read(500).decode(errors="replace").split())
    return ""


def _content(request: Request, max_pixels: int) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if request.png is not None:
        data = base64.b64encode(within_budget(request.png, max_pixels)).decode()
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    return [*parts, {"type": "text", "text": plain(request.text)}]


def _sample(choice: dict[str, Any]) -> Sample:
    tokens = ((choice.get("logprobs") or {}).get("content")) or []
    mean = sum(t["logprob"] for t in tokens) / len(tokens) if tokens else 0.0
    return Sample((choice["message"]["content"] or "").strip(), mean, len(tokens))
