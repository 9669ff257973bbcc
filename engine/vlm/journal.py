"""What a shard's requests were answered, and in how many tokens, on disk as the answers come.

A worker that dies leaves its journal behind, and who takes the shard up again asks only for what is
not in it: of an endpoint each request, of other backends each call, since in another batch sums
are ordered otherwise. A journal is a scratch file of a stage: the commit takes it away.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engine.records import content_id
from engine.vlm.protocol import VLM, Request, Sample, Sampling
from engine.vlm.streams import stream_seed

TOLD = "prompt"  # the first key of a line that is about tokens


class Journal:
    """Lines of JSON in a file: an answer, by its request's key, or the tokens that a reply told.

    Each line is written whole at once; a last line that a crash cut short is taken away. For
    threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, list[Sample]] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._read()

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with self.path.open("r+b") as out:
                out.truncate(len(whole))
        for line in map(json.loads, whole.splitlines()):
            if "key" in line:
                self._answers[line["key"]] = [Sample(*sample) for sample in line["samples"]]

    def answers(self, keys: Sequence[str]) -> dict[int, list[Sample]]:
        """What was answered to requests of these keys, by place; of the others nothing."""
        found = self._answers
        return {place: found[key] for place, key in enumerate(keys) if key in found}

    def keep(self, key: str, samples: Sequence[Sample]) -> None:
        """An answer to a request."""
        told = [[one.text, one.logprob, one.tokens, one.problem] for one in samples]
        self._write({"key": key, "samples": told})

    def spend(self, prompt: int | None, completion: int | None) -> None:
        """The tokens of a reply, or of some at once; None where they are not told."""
        self._write({TOLD: prompt, "completion": completion})

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        with self._lock, self.path.open("ab", buffering=0) as out:
            out.write(data)


def key_of(request: Request, place: int, sampling: Sampling) -> str:
    """What tells a request, in its place of a call, from all others that a model is asked."""
    shown = hashlib.sha256(request.png).hexdigest() if request.png is not None else None
    how = (sampling.n, sampling.temperature, sampling.max_tokens)
    return content_id(
        request.text, shown, request.form, *how, stream_seed(request, place, sampling)
    )


class Journaled:
    """A backend that writes into a journal what it spends; `keeps` where it keeps answers too."""

    journal: Journal | None = None
    keeps = False

    def into(self, journal: Journal) -> Self:
        """The same model, with a journal."""
        view = copy(self)
        view.journal = journal
        return view

    def spent(self, prompt: int | None, completion: int | None) -> None:
        """Tokens, for the journal where there is one."""
        if self.journal is not None:
            self.journal.spend(prompt, completion)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A VLM of which whole calls are kept."""

    vlm: VLM
    journal: Journal

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        keys = [key_of(request, place, sampling) for place, request in enumerate(requests)]
        known = self.journal.answers(keys)
        if len(known) == len(keys):
            return [known[place] for place in range(len(keys))]
        found = self.vlm.generate(requests, sampling)
        for key, samples in zip(keys, found):
            self.journal.keep(key, samples)
        return found


def journaled(vlm: VLM, path: Path | None) -> VLM:
    """The model as it is asked for one shard, whose journal is at `path`; None: without."""
    if path is None:
        return vlm
    journal = Journal(path)
    view: VLM = vlm.into(journal) if isinstance(vlm, Journaled) else vlm
    return view if isinstance(vlm, Journaled) and vlm.keeps else _Kept(view, journal)


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of prompts and of completions; `untold` replies did not say theirs."""

    prompt: int = 0
    completion: int = 0
    untold: int = 0


def spent_in(folder: Path) -> Spent:
    """What all journals of a folder say, those of workers that died among them."""
    prompt = completion = untold = 0
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                if line.startswith(f'{{"{TOLD}"'.encode()) and line.endswith(b"\n"):
                    told = json.loads(line)
                    prompt += told["prompt"] or 0
                    completion += told["completion"] or 0
                    untold += None in told.values()
    return Spent(prompt, completion, untold)
