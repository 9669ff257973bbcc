"""A benchmark's questions and answers as they enter: published ones as they are, others cleaned.

A question or an answer says what it says or is not used: with a word masked it would ask or mean
something else. So a row of a hospital's own JSON of which anything would be masked
(`engine.imaging.reports`) is left out, as is one that cannot be gold.
"""

from __future__ import annotations

from pathlib import Path

from engine.config import Source
from engine.hub.benchmarks import Benchmark, read_vqa_rad
from engine.imaging.reports import harmless


def read_gold(source: Source) -> Benchmark:
    """What the JSON says; raises TriptychError where it cannot be read."""
    return read_vqa_rad(Path(source.path or "."), None if source.public else harmless)
