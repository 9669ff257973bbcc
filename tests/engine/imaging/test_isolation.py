"""A file that is bad harms neither the next one nor this process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.imaging.decode import LENGTHS, MAX_REPLY, Decoder, Decoders
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.render import MAX_BYTES
from tests.engine.imaging.datasets import grey, save


def test_decoders_answer_in_order_and_a_bad_file_stops_none_of_them(tmp_path: Path) -> None:
    paths = []
    for number in range(12):
        path = tmp_path / f"{number}"
        image = np.full((20, 20 + number), 7)
        save(grey(image), path) if number % 3 else path.write_bytes(b"no image")
        paths.append(path)

    def width(decoder: Decoder, path: Path) -> int | str:
        try:
            return decoder.decode(path, "middle").frames[0].pixels.shape[1]
        except ImagingError as error:
            return str(error.reason)

    with Decoders(2) as decoders:
        found = list(decoders.map(width, paths))
    assert found == [20 + n if n % 3 else "not an image" for n in range(12)]


@pytest.mark.parametrize(
    "reply",
    [
        LENGTHS.pack(2**31, 0),
        LENGTHS.pack(2, 2**40) + b"{}",
        LENGTHS.pack(3, 0) + b"nan",
        LENGTHS.pack(4, 0) + b"\xff\xff\xff\xff",
        LENGTHS.pack(14, 0) + b'{"reason":"x"}',
        LENGTHS.pack(13, 1) + b'{"shape":[9]}' + b"x",
    ],
)
def test_a_child_that_talks_nonsense_counts_as_crashed(
    reply: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "child.py"
    ready = LENGTHS.pack(2, 0) + b"{}"
    script.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"out = sys.stdout.buffer\nout.write({ready!r})\nout.flush()\n"
        f"sys.stdin.buffer.readline()\nout.write({reply!r})\nout.flush()\nsys.stdin.read()\n"
    )
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    with Decoder() as decoder:
        with pytest.raises(ImagingError) as caught:
            decoder.decode(tmp_path / "any", "middle")
        assert caught.value.reason is Reason.CRASHED
        assert decoder.pid is None


def test_a_reply_is_no_longer_than_what_one_file_may_give() -> None:
    assert MAX_REPLY >= MAX_BYTES


def test_300_mutants_bombs_and_polyglots_do_no_harm() -> None:
    """In a process of its own: the peak of its children's memory is that of the decoders."""
    words = ["--mutants", "300", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", *words],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
