"""Another window than the file's own: the same renderer, within the range of what is shown."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom import Dataset

from engine.imaging import decode
from engine.imaging.decode import Decoder, Replies
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader
from engine.imaging.render import grey_frame, render
from engine.pixels import to_png
from tests.engine.imaging.datasets import grey, ramp, save


def levels(dataset: Dataset, frame: int = 0) -> Any:
    return grey_frame(dataset, FrameHeader(dataset), frame)


CASES: dict[str, dict[str, Any]] = {
    "a window": {"WindowCenter": 2000, "WindowWidth": 1000},
    "a sigmoid": {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
    "none": {},
    "rescale": {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 0, "WindowWidth": 9},
    "inverted": {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 9, "WindowWidth": 99},
    "padding": {"PixelPaddingValue": 5, "WindowCenter": 2000, "WindowWidth": 4000},
}


@pytest.mark.parametrize("case", CASES)
def test_its_own_window_gives_the_picture_that_was_ingested(case: str) -> None:
    dataset = grey(ramp(), **CASES[case])
    found = levels(dataset)
    pixels, choices = render(dataset)
    assert np.array_equal(found.pixels, pixels)
    assert found.scale.inverted == choices["inverted"]
    assert np.array_equal(found.windowed(*found.window)[found.index], pixels)


@pytest.mark.parametrize("case", CASES)
def test_another_window_is_what_a_file_that_gives_it_looks_like(case: str) -> None:
    found = levels(grey(ramp(), **CASES[case]))
    low, high = found.scale.limits
    window = ((low + high) / 3, (high - low) / 4)
    given = CASES[case] | {"WindowCenter": window[0], "WindowWidth": window[1]}
    if found.function == "LINEAR_EXACT":
        given["VOILUTFunction"] = "LINEAR_EXACT"
    dataset = grey(ramp(), **given)
    drawn, expected = found.windowed(*window)[found.index].astype(int), render(dataset)[0]
    assert np.abs(drawn - expected).max() <= 1  # a decimal string has 16 characters


def test_a_window_stays_within_what_is_shown() -> None:
    found = levels(grey(ramp(), PixelPaddingValue=4095, RescaleSlope=1, RescaleIntercept=-1000))
    assert found.scale.limits == (-1000.0, 3094.0)  # without padding
    assert found.bounded(-5000, 1e9) == (-1000.0, 4094.0)
    assert found.bounded(9999, -3) == (3094.0, 1.0)
    assert np.array_equal(found.windowed(1e9, 1e9), found.windowed(3094, 4094))
    assert found.windowed(0, 100)[-1] == 0  # padding is black in any
    narrow = levels(grey(np.full((32, 32), 7)))
    assert narrow.bounded(0, 0) == (7.0, 1.0)


def test_the_levels_cross_a_process_as_they_are(tmp_path: Path) -> None:
    stored = np.stack([ramp(), ramp() * 3 % 5000])
    path = save(grey(stored, WindowCenter=900, WindowWidth=800), tmp_path / "a.dcm")
    with Decoder() as decoder:
        (rendered,) = decoder.decode(path, "middle").frames
        found = decoder.grey(path, rendered.frame)
        assert np.array_equal(found.pixels, rendered.pixels)
        assert found.window == (900.0, 800.0)
        assert found.function == "LINEAR"
        assert found.index.shape == (64, 64)
        for frame in (2, -1):
            with pytest.raises(ImagingError, match="no such frame"):
                decoder.grey(path, frame)


def test_every_grey_frame_of_pydicoms_files_is_the_one_that_is_ingested() -> None:
    found = 0
    with Decoder() as decoder:
        for path in sorted(Path(pydicom.data.__file__).parent.rglob("*.dcm")):
            with suppress(ImagingError):
                (rendered,) = decoder.decode(path, "middle").frames
                same = decoder.grey(path, rendered.frame).pixels
                assert np.array_equal(same, rendered.pixels), path
                found += 1
    assert found >= 20


def test_what_has_no_window_says_why(tmp_path: Path) -> None:
    colour = grey(ramp(), SamplesPerPixel=3, PhotometricInterpretation="RGB", BitsAllocated=8,
                  BitsStored=8, HighBit=7, PlanarConfiguration=0)  # fmt: skip
    colour.PixelData = bytes(64 * 64 * 3)
    wide = grey(np.arange(300 * 300).reshape(300, 300))
    wide.BitsAllocated = wide.BitsStored = 32
    wide.HighBit = 31
    wide.PixelData = np.arange(300 * 300, dtype="<u4").tobytes()
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 2
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 40, 40
    cut = grey(ramp(), SequenceOfUltrasoundRegions=[region])
    png = tmp_path / "a.png"
    png.write_bytes(to_png(np.zeros((32, 32), np.uint8)))
    whys = {"colour": "colours", "wide": "65,536", "cut": "regions"}
    with Decoder() as decoder:
        for name, dataset in {"colour": colour, "wide": wide, "cut": cut}.items():
            with pytest.raises(ImagingError, match=whys[name]):
                decoder.grey(save(dataset, tmp_path / f"{name}.dcm"), 0)
        with pytest.raises(ImagingError, match="only DICOM"):
            decoder.grey(png, 0)
        with pytest.raises(ImagingError):
            decoder.grey(tmp_path / "none.dcm", 0)


WELL = {"shape": [2, 2], "levels": 2, "inverted": False, "window": [1, 2], "function": "LINEAR"}
DATA = struct.pack("<4H2d", 0, 1, 1, 0, 5.0, 9.0) + bytes((0, 0, 0, 255))


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ({}, DATA),
        (WELL | {"shape": [2, 3]}, DATA),
        (WELL | {"shape": [0, 0]}, DATA),
        (WELL | {"levels": 1}, DATA),
        (WELL | {"levels": 1 << 40}, DATA),
        (WELL | {"window": [1]}, DATA),
        (WELL | {"window": ["x", 1]}, DATA),
        (WELL | {"function": "OTHER"}, DATA),
        (WELL, DATA + b"x"),
        (WELL, struct.pack("<4H", 0, 1, 2, 0) + DATA[8:]),
    ],
)
def test_a_reply_that_is_no_frame_counts_as_a_crash(
    message: dict[str, Any], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(*_: Any) -> tuple[dict[str, Any], np.ndarray]:
        return message, np.frombuffer(data, np.uint8)

    monkeypatch.setattr(Replies, "receive", receive)
    with pytest.raises(ImagingError) as caught:
        decode._grey(Replies.__new__(Replies), 0.0)
    assert caught.value.reason is Reason.CRASHED
    monkeypatch.setattr(Replies, "receive", lambda *_: (WELL, np.frombuffer(DATA, np.uint8)))
    found = decode._grey(Replies.__new__(Replies), 0.0)
    assert found.pixels.tolist() == [[0, 255], [255, 0]]
    assert found.window == (1.0, 2.0)
