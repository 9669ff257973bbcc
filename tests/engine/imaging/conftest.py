"""Shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.imaging.decode import Decoder


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder
