"""Contamination: a kept row is of no benchmark that the configuration names, by text or by picture.

By picture: the same pixels, or a near copy, mirrored and turned too (`engine.imaging.duplicates`).
Whatever is asked of a benchmark's picture is out. By text, from `words` words on, since shorter
questions ("Is there a fracture?") are anybody's: the same spelling, the same wording
(`generators.filters.wording`), or texts whose sets of four letters in a row have a Jaccard
similarity of at least `similarity`. Candidates for that come from MinHash (Broder 1997) by
locality-sensitive hashing, and are then counted exactly, so that a match is one, and one at the
bound is missed in about one of a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import PIL.Image

from engine.answers.spelling import normalise_question
from engine.imaging.duplicates import (
    MIN_CORRELATION,
    correlation,
    joined,
    near_pairs,
    signature,
    stacked,
)
from engine.pixels import pixels_id
from engine.reasons import CONTAMINATED
from engine.sets.published import Published
from generators.filters.wording import wording

LETTERS = 4
HASHES = 128
SLACK = 0.8  # of the similarity: from there on candidates are looked for


@dataclass(frozen=True, slots=True)
class Match:
    """What a row is the same as: a benchmark's question or picture, and how far, in [0, 1]."""

    benchmark: str
    what: str
    similarity: float

    @property
    def reason(self) -> str:
        return f"{CONTAMINATED}: {self.benchmark}, {self.what}, similarity {self.similarity:.2f}"


def shingles(text: str) -> frozenset[str]:
    """Every LETTERS characters in a row of a question's one spelling."""
    spelt = f" {normalise_question(text)} "
    return frozenset(spelt[n : n + LETTERS] for n in range(max(len(spelt) - LETTERS + 1, 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """The share in [0, 1] of all their members that both sets have; 0 of two empty ones."""
    return len(one & other) / max(len(one | other), 1)


@dataclass
class Questions:
    """The questions of all benchmarks, of `words` words or more."""

    similarity: float
    words: int
    _spelt: dict[str, tuple[str, str]] = field(default_factory=dict)
    _worded: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    _parts: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from datasketch import MinHashLSH

        least = max(SLACK * self.similarity, 0.1)
        self._index = MinHashLSH(threshold=least, num_perm=HASHES, weights=(0.2, 0.8))

    def add(self, published: Published) -> None:
        for asked in published.questions:
            spelt = normalise_question(asked.question)
            if len(spelt.split()) < self.words or spelt in self._spelt:
                continue
            self._spelt[spelt] = published.name, asked.id
            self._worded.setdefault(wording(asked.question), self._spelt[spelt])
            self._parts[spelt] = shingles(asked.question)
            self._index.insert(spelt, _sketch(self._parts[spelt]))

    def match(self, question: str) -> Match | None:
        """The benchmark's question that a question is, None where it is none."""
        spelt = normalise_question(question)
        if len(spelt.split()) < self.words:
            return None
        if found := self._spelt.get(spelt):
            return Match(found[0], f"question {found[1]}", 1.0)
        parts = shingles(question)
        near = {one: jaccard(parts, self._parts[one]) for one in self._index.query(_sketch(parts))}
        best = min(near, key=lambda one: (-near[one], one), default=None)
        if best is not None and near[best] >= self.similarity:
            name, own = self._spelt[best]
            return Match(name, f"question {own}", near[best])
        if found := self._worded.get(wording(question)):
            return Match(found[0], f"question {found[1]} in other words", 1.0)
        return None


def _sketch(parts: frozenset[str]) -> object:
    from datasketch import MinHash

    sketch = MinHash(num_perm=HASHES)
    sketch.update_batch([part.encode() for part in sorted(parts)])
    return sketch


@dataclass
class Pictures:
    """The pictures of all benchmarks, by name, with what they are compared by."""

    names: list[tuple[str, str]] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    signatures: np.ndarray = field(default_factory=lambda: stacked([]))
    unread: int = 0

    def add(self, published: Published) -> None:
        """A benchmark's pictures; what cannot be read is counted."""
        asked: dict[str, str] = {}
        for question in published.questions:
            asked.setdefault(question.image, question.id)
        found: list[bytes] = []
        for name, data in published.pictures():
            try:
                with PIL.Image.open(BytesIO(data)) as opened:
                    picture = opened.convert("L" if opened.mode in ("L", "1") else "RGB")
                looked_at = signature(picture)
            except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
                self.unread += 1
                continue
            of = f" of question {asked[name]}" if name in asked else ""
            self.ids.setdefault(pixels_id(np.asarray(picture)), len(self.names))
            self.names.append((published.name, f"image {name}{of}"))
            found.append(looked_at)
        self.signatures = np.concatenate([self.signatures, stacked(found)])

    def matches(self, ids: list[str], signatures: np.ndarray) -> dict[str, Match]:
        """Which images are a benchmark's, by id.

        `signatures` are those of the images, then of the benchmarks' pictures:
        (len(ids) + len(self.names), SIGNATURE_BYTES), and may be a memory map.
        """
        roots = joined((str(one), str(other)) for one, other in near_pairs(signatures))
        theirs: dict[str, list[int]] = {}
        for number in range(len(self.names)):
            place = len(ids) + number
            theirs.setdefault(roots.get(str(place), str(place)), []).append(number)
        found = {}
        for place, image_id in enumerate(ids):
            if image_id in self.ids:
                found[image_id] = Match(*self.names[self.ids[image_id]], 1.0)
            elif near := theirs.get(roots.get(str(place), "")):
                one = np.repeat(np.asarray(signatures[place])[None], len(near), axis=0)
                close = correlation(one, self.signatures[near])
                best = int(np.argmax(close))
                if close[best] >= MIN_CORRELATION:
                    found[image_id] = Match(*self.names[near[best]], float(close[best]))
        return found
