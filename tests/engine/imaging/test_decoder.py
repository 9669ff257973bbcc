"""The child that decodes: real files, bombs, deaths, bounds of time and memory, bad frames."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from engine.errors import TriptychError
from engine.imaging.child import MAX_BAD
from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.ingest import frame_of, list_files
from tests.engine.imaging.datasets import KEY, REAL, grey, ingest, pixels_of, ramp, save


def test_every_real_file_is_rendered_or_refused_with_a_typed_reason(decoder: Decoder) -> None:
    if not REAL.is_dir():
        pytest.skip("the real DICOM files are not here")
    rendered, reasons = 0, set()
    for path in list_files(REAL):
        try:
            frames = decoder.decode(path, "middle", KEY).frames
        except ImagingError as error:
            reasons.add(error.reason)
            continue
        assert all(f.pixels.dtype == np.uint8 and f.pixels.std() > 0 for f in frames), path.name
        rendered += len(frames)
    assert rendered >= 28
    assert reasons <= {Reason.NOT_AN_IMAGE, Reason.UNREADABLE, Reason.DECODING_FAILED}


def test_lossless_encodings_of_one_image_give_the_same_pixels(decoder: Decoder) -> None:
    pairs = [
        ("693_J2KR.dcm", "693_UNCR.dcm"),
        ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"),
    ]
    if not REAL.is_dir():
        pytest.skip("the real DICOM files are not here")
    for one, other in pairs:
        first, second = (
            decoder.decode(REAL / name, "middle").frames[0].pixels for name in (one, other)
        )
        assert (first == second).all()


def test_frame_rules_pick_frames(decoder: Decoder, tmp_path: Path) -> None:
    path = save(grey(np.stack([ramp() + i for i in range(5)])), tmp_path / "five")
    for rule, expected in (("middle", [2]), ("every:2", [0, 2, 4]), ("all", [0, 1, 2, 3, 4])):
        assert [f.frame for f in decoder.decode(path, rule).frames] == expected
    with pytest.raises(TriptychError, match="every:n"):
        decoder.decode(path, "every:0")


def deflated(plain_size: int, path: Path) -> Path:
    """A deflated DICOM file whose dataset inflates to `plain_size` bytes of one private value."""
    save(grey(ramp()), path)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    meta_end = 132 + 12 + int.from_bytes(whole[140:144], "little")
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
    chunk, bomb = bytes(1 << 20), bytearray()
    for _ in range(plain_size >> 20):
        bomb += deflater.compress(chunk)
    path.write_bytes(whole[:meta_end] + bytes(bomb) + deflater.flush())
    return path


def test_a_deflate_bomb_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    images, refusals = ingest(decoder, deflated(600 << 20, tmp_path / "bomb"))
    assert not images
    assert [r.reason for r in refusals] == ["too large: inflates to more than 512 MiB"]


def test_a_deflated_file_of_fair_size_is_read(decoder: Decoder, tmp_path: Path) -> None:
    ds = grey(ramp())
    plain = decoder.decode(save(ds, tmp_path / "plain"), "middle").frames[0].pixels
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert (
        decoder.decode(save(ds, tmp_path / "deflated"), "middle").frames[0].pixels == plain
    ).all()


def test_a_decoder_killed_in_mid_file_refuses_it_and_reads_the_next(tmp_path: Path) -> None:
    good = save(grey(ramp()), tmp_path / "good")
    with Decoder() as decoder:
        decoder.decode(good, "middle")
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)  # so that the child hangs in mid-file
        timer = threading.Timer(0.3, os.kill, (decoder.pid, signal.SIGKILL))
        timer.start()
        images, refusals = ingest(decoder, good)
        timer.join()
        assert (images, [r.reason for r in refusals]) == ([], ["decoder crashed"])
        assert ingest(decoder, good)[0]


def test_a_file_that_takes_too_long_is_a_timeout(tmp_path: Path) -> None:
    good = save(grey(ramp()), tmp_path / "good")
    with Decoder(timeout_s=2) as decoder:
        decoder.decode(good, "middle")
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)
        with pytest.raises(ImagingError) as caught:
            decoder.decode(good, "middle")
    assert caught.value.reason is Reason.TIMEOUT


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = save(grey(np.zeros((7000, 7000), np.uint16)), tmp_path / "large")
    with Decoder(memory=450 << 20) as decoder, pytest.raises(ImagingError) as caught:
        decoder.decode(path, "middle")
    assert caught.value.reason is Reason.OUT_OF_MEMORY


def test_a_corrupt_file_is_a_refusal(decoder: Decoder, tmp_path: Path) -> None:
    good = save(grey(ramp()), tmp_path / "good").read_bytes()
    contents = {"cut": good[:-4000], "noise": os.urandom(5000), "empty": b"",
                "header": good[:200], "png": b"\x89PNG\r\n\x1a\n" + os.urandom(99)}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        images, refusals = ingest(decoder, tmp_path / name)
        assert not images, name
        assert [r.frame for r in refusals] == [-1], name


def compressed(frames: int, bad: set[int]) -> Dataset:
    """An RLE object of which some frames are cut off."""
    ds = grey(ramp())
    ds.compress(RLELossless)
    (whole,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.NumberOfFrames = frames
    ds.PixelData = encapsulate([whole[:80] if i in bad else whole for i in range(frames)])
    return ds


def test_a_bad_frame_is_refused_and_the_others_go_through(decoder: Decoder, tmp_path: Path) -> None:
    path = save(compressed(5, {0, 3}), tmp_path / "five")
    images, refusals = ingest(decoder, path, frames="all")
    assert [frame_of(i) for i in images] == [1, 2, 4]
    assert [(r.frame, r.status) for r in refusals] == [(0, "refused"), (3, "refused")]
    assert {r.reason for r in refusals} == {"decoding failed"}
    images, refusals = ingest(decoder, path, frames="every:2")
    assert ([frame_of(i) for i in images], [r.frame for r in refusals]) == ([2, 4], [0])


def test_a_file_cut_off_gives_the_frames_that_are_whole(decoder: Decoder, tmp_path: Path) -> None:
    ds = grey(np.stack([ramp() + i for i in range(4)]))
    ds.PixelData = ds.PixelData[:20_000]  # two frames and a half
    images, refusals = ingest(decoder, save(ds, tmp_path / "cut"), frames="all")
    assert [frame_of(i) for i in images] == [0, 1]
    cut = "unreadable file: fewer pixels than the header says"
    assert [(r.frame, r.reason) for r in refusals] == [(2, cut), (3, cut)]


@pytest.mark.parametrize("frames", [3, MAX_BAD + 3])
def test_a_file_without_a_good_frame_or_with_too_many_bad_ones_is_one_refusal(
    frames: int, decoder: Decoder, tmp_path: Path
) -> None:
    bad = set(range(3)) if frames == 3 else set(range(1, frames))
    path = save(compressed(frames, bad), tmp_path / "bad")
    images, refusals = ingest(decoder, path, frames="all")
    assert images == []
    assert [(r.frame, r.reason) for r in refusals] == [(-1, "decoding failed")]


def with_nan(kind: str, path: Path) -> Path:
    """A picture of float values with a corner that is not finite."""
    values = ramp().astype(np.float32)
    values[:8, :8], values[0, 0] = np.nan, np.inf
    if kind == "TIFF":
        PIL.Image.fromarray(values).save(path, "TIFF")
    elif kind == "NIfTI":
        nibabel = pytest.importorskip("nibabel")
        volume = values[::-1, ::-1].T[..., None]  # as a slice is seen
        path.write_bytes(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes())
    else:
        ds = grey(ramp(), BitsAllocated=32)
        for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(ds, keyword)
        ds.FloatPixelData = values.astype("<f4").tobytes()
        save(ds, path)
    return path


@pytest.mark.parametrize("kind", ["DICOM", "TIFF", "NIfTI"])
def test_values_that_are_not_finite_are_black_flagged_and_used_where_asked_for(
    kind: str, decoder: Decoder, tmp_path: Path
) -> None:
    path = with_nan(kind, tmp_path / "nan")
    images, refusals = ingest(decoder, path)
    assert images == []
    assert [(r.frame, r.status, r.reason) for r in refusals] == [
        (0, "flagged", "degenerate: values that are not finite")
    ]
    (image,) = ingest(decoder, path, include=frozenset({"nan"}), public=True)[0]
    assert json.loads(image.rendering)["not_finite"] == 64
    shown, finite = pixels_of(image), np.ones((64, 64), bool)
    finite[:8, :8] = False
    assert not shown[~finite].any()
    low, high = np.percentile(ramp()[finite], (0.5, 99.5))  # the corner does not move the window
    expected = np.clip((ramp() - low) / (high - low), 0, 1) * 255
    assert np.abs(shown - expected)[finite].max() <= 0.5 + 1e-6


def test_a_picture_without_a_finite_value_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(tmp_path / "x", "TIFF")
    _, refusals = ingest(decoder, tmp_path / "x", include=frozenset({"nan"}))
    assert [(r.status, r.reason) for r in refusals] == [("refused", "values that are not finite")]
