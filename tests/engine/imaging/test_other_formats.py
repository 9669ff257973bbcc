"""Volumes and TIFF pages are pictures too, known by their content."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydicom import dcmread

from engine.imaging import nifti
from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError
from engine.imaging.picture import open_picture, pages, render_picture
from engine.imaging.reader import file_format, read_dicom
from engine.imaging.render import render
from tests.engine.imaging.datasets import grey, ramp, save


def volume(affine: np.ndarray, voxels: np.ndarray) -> bytes:
    nibabel = pytest.importorskip("nibabel")
    return bytes(nibabel.Nifti1Image(voxels, affine).to_bytes())


def turned(voxels: np.ndarray, axes: str) -> bytes:
    """RAS voxels as they are stored in another orientation, and the affine that says so."""
    nibabel = pytest.importorskip("nibabel")
    to = nibabel.orientations.axcodes2ornt(axes)
    affine = nibabel.orientations.inv_ornt_aff(to, voxels.shape)
    return volume(affine, nibabel.apply_orientation(voxels, to))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PSR", "SAL", "ILP"])
def test_a_volume_is_shown_right_on_the_left_and_anterior_on_top(axes: str) -> None:
    voxels = np.zeros((6, 8, 4), np.int16)
    voxels[5, 7, 3] = 1000  # the most right, anterior and superior voxel
    voxels[0, 0, 0] = 500
    found = nifti.read_nifti(turned(voxels, axes))
    assert found.slices == 4
    top, bottom = (nifti.render_slice(found, i)[0] for i in (3, 0))
    assert top.shape == (8, 6)
    assert np.argwhere(top == top.max()).tolist() == [[0, 0]]
    assert np.argwhere(bottom == bottom.max()).tolist() == [[7, 5]]


def test_volumes_go_through_the_decoder_by_the_frame_rule(decoder: Decoder, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = volume(np.eye(4), rng.integers(0, 900, (20, 30, 7, 2), np.int16))
    (tmp_path / "one.nii").write_bytes(data)
    (tmp_path / "two").write_bytes(gzip.compress(data))
    for rule, expected in (("middle", [3]), ("every:3", [0, 3, 6]), ("all", list(range(7)))):
        plain, packed = (decoder.decode(tmp_path / n, rule).frames for n in ("one.nii", "two"))
        assert [f.frame for f in plain] == expected
        assert all((a.pixels == b.pixels).all() for a, b in zip(plain, packed))
    assert plain[0].rendering["window_source"].startswith("percentiles")
    assert len({tuple(f.rendering["window"]) for f in plain}) == 1


def test_a_volume_is_scaled_and_refused_where_nothing_is_finite() -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.arange(27, dtype=np.float32).reshape(3, 3, 3), np.eye(4))
    image.header["cal_max"] = 26
    found = nifti.read_nifti(image.to_bytes())
    shown = nifti.render_slice(found, 0)[0]
    assert shown[-1, -1] == 0
    assert shown[0, 0] == round(24 / 26 * 255)
    broken = volume(np.eye(4), np.full((3, 3, 3), np.nan, np.float32))
    with pytest.raises(ImagingError, match="not finite"):
        nifti.render_slice(nifti.read_nifti(broken), 0)


def test_without_nibabel_the_refusal_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImagingError, match=r"pip install 'triptych\[nifti\]'"):
        nifti.read_nifti(bytes(352))


def tiff(*images: PIL.Image.Image, **more: Any) -> bytes:
    out = io.BytesIO()
    first, *rest = images
    first.save(out, "TIFF", save_all=True, append_images=rest, **more)
    return out.getvalue()


def test_pages_of_a_tiff_are_frames_and_thumbnails_are_not() -> None:
    page = PIL.Image.fromarray(ramp().astype(np.uint8))
    plain = open_picture(tiff(page, page, page), "TIFF")
    assert pages(plain) == [0, 1, 2]
    out = io.BytesIO()
    with PIL.TiffImagePlugin.AppendingTiffWriter(out, True) as writer:
        for kind in (0, 1, 0, 9):
            page.save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    assert pages(open_picture(out.getvalue(), "TIFF")) == [0, 2]


def test_a_deep_tiff_where_white_is_zero_is_turned() -> None:
    deep = PIL.Image.fromarray((ramp() * 10).astype(np.uint16))
    black = render_picture(open_picture(tiff(deep), "TIFF"), 0)[0]
    white = render_picture(open_picture(tiff(deep, tiffinfo={262: 0}), "TIFF"), 0)[0]
    assert (np.abs(white.astype(int) - (255 - black.astype(int))) <= 1).all()


def test_a_format_is_known_by_content_whatever_the_name(tmp_path: Path) -> None:
    out = io.BytesIO()
    PIL.Image.fromarray(ramp().astype(np.uint8)).save(out, "PNG")
    assert file_format(out.getvalue()) == "PNG"
    dicom = save(grey(ramp()), tmp_path / "photo.png").read_bytes()
    assert file_format(dicom) == "DICOM"
    assert file_format(b"II*\0".ljust(128, b"\0") + dicom[128:]) == "DICOM"
    bare = dcmread(tmp_path / "photo.png")
    bare.file_meta.clear()
    plain = io.BytesIO()
    bare.save_as(plain, implicit_vr=True, little_endian=True)
    assert file_format(plain.getvalue()) == "DICOM"
    assert (render(read_dicom(plain.getvalue()))[0] == render(grey(ramp()))[0]).all()
    for other in (b"", b"text", gzip.compress(b"text"), b"%PDF-1.7"):
        with pytest.raises(ImagingError, match="not an image"):
            file_format(other)
