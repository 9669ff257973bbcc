"""Every file that pydicom brings is rendered or refused for its reason, as highdicom shows it."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import pixel_array

from engine.imaging.decode import Decoder, Decoders
from engine.imaging.errors import ImagingError
from engine.imaging.reader import read_dicom
from engine.imaging.render import render
from tests.engine.imaging.corpus import (
    REFUSED,
    WHEEL,
    WITH_EXTRA,
    corpus,
    expected_reason,
)
from tests.engine.imaging.datasets import REAL


def outcome(decoder: Decoder, path: Path, rule: str = "middle") -> str | None:
    """Why a file was refused, None where it was rendered."""
    try:
        frames = decoder.decode(path, rule).frames
    except ImagingError as error:
        return str(error)
    assert frames
    assert all(f.pixels.dtype == np.uint8 for f in frames)
    return None


def test_every_file_of_the_corpus_is_rendered_or_refused_for_its_true_reason() -> None:
    paths = corpus()
    with Decoders(2) as decoders:
        found = dict(zip(paths, decoders.map(outcome, paths)))
    wrong = {p.name: (r, expected_reason(p)) for p, r in found.items() if r != expected_reason(p)}
    assert wrong == {}
    stale = {end for end in REFUSED if not any(fnmatch(p.as_posix(), f"*/{end}") for p in paths)}
    assert stale == set() or not REAL.is_dir()
    assert sum(reason is None for reason in found.values()) >= (100 if REAL.is_dir() else 90)


def test_encodings_of_one_picture_look_the_same(decoder: Decoder) -> None:
    plain = decoder.decode(WHEEL / "test_files/SC_rgb_rle.dcm", "all").frames[0].pixels
    paths = [p for p in corpus() if p.name.startswith("SC_rgb_") and expected_reason(p) is None]
    for path in paths:
        pixels = decoder.decode(path, "all").frames[0].pixels
        if pixels.shape == plain.shape:
            lossless = any(word in path.name for word in ("rle", "16bit", "32bit", "_2frame"))
            assert np.abs(pixels.astype(int) - plain).mean() <= (0.51 if lossless else 4), path.name


# highdicom, frame by frame. `hd` is what its get_frame gives with the modality and VOI transforms
# and presentation LUT over 0..255, ours the rendered frame; each reason is checked, not believed.


def same(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """Equal but for rounding: ours is the nearest of 256 levels."""
    return hd.shape == ours.shape and bool((np.abs(hd - ours) <= 0.5 + 1e-6).all())


def no_window(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """The file has no window: highdicom gives modality values, ours go through our window."""
    centre, width = choices["window"]
    step = 1 if choices["voi_function"] == "LINEAR" else 0
    shown = np.clip(((hd - (centre - step / 2)) / (width - step) + 0.5) * 255, 0, 255)
    return choices["window_source"] != "file" and same(shown, ours, ds, choices)


def deep_colour(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom keeps colours of 16 or 32 bits, ours have 8."""
    return same(hd * 255 / (2.0**ds.BitsStored - 1), ours, ds, choices)


def deep_palette(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom keeps a palette's 16-bit entries, ours are their upper 8 bits."""
    return bool((hd // 256 == ours).all())


def supplemental(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom leaves a supplemental palette out; ours colours the stored values it maps."""
    coloured = pixel_array(ds, index=choices["frame"]) >= ds[0x00281101].value[1]
    plain = (ours == ours[..., :1]).all(axis=2)
    greys = same(hd[~coloured], ours[~coloured][:, 0], ds, choices)
    return greys and bool(plain[~coloured].all() and not plain[coloured].all())


def fused_window(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom applies LINEAR's half and whole step (C.11.2.1.2.1) in stored values, before the
    rescale slope; the standard has them in the modality LUT's output."""
    slope, intercept = float(ds.RescaleSlope), float(ds.RescaleIntercept)
    (centre, width), stored = choices["window"], pixel_array(ds, index=0)

    def shown(values: np.ndarray, centre: float, width: float) -> np.ndarray:
        grey = np.clip(((values - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)
        return 255 - grey if choices["inverted"] else grey

    fused = shown(stored, (centre - intercept) / slope, width / slope)
    standard = shown(stored * slope + intercept, centre, width)
    return bool(np.allclose(hd, fused)) and same(standard, ours, ds, choices)


DIFFERENCES = {
    "MR2_J2K?.dcm": fused_window,
    "6154": fused_window,
    "6247": fused_window,
    "6278": fused_window,
    "JLSL_08_07_0_1F.dcm": no_window,
    "JLSL_16_15_1_1F.dcm": no_window,
    "emri_small.dcm": no_window,
    "emri_small_jpeg_ls_lossless.dcm": no_window,
    "CT_small.dcm": no_window,
    "JPEG2000.dcm": no_window,
    "JPEGLSNearLossless_16.dcm": no_window,
    "SC_rgb*16bit*.dcm": deep_colour,
    "SC_rgb*32bit*.dcm": deep_colour,
    "OBXXXX1A*.dcm": deep_palette,
    "examples_palette.dcm": deep_palette,
    "eCT_Supplemental.dcm": supplemental,
}


BIG_ENDIAN = "only valid for datasets with little endian"


# What highdicom does not open and we render: its words.
NOT_OPENED = {
    "*expb*": BIG_ENDIAN,
    "*_big*": BIG_ENDIAN,
    "ExplVR_BigEnd.dcm": BIG_ENDIAN,
    "color-px.dcm": "No IOD found",
    "JLS?_RGB_*.dcm": "'DICM' prefix is missing",
    "gdcm-US-ALOKA-16.dcm": "Segmented LUTs are not implemented",
    "SC_rgb_small_odd.dcm": "ReferencedSOPInstanceUID",
}


def by_name(table: dict[str, Any], path: Path, default: Any) -> Any:
    return next((value for end, value in table.items() if fnmatch(path.name, end)), default)


@pytest.mark.filterwarnings("ignore")
def test_every_difference_from_highdicom_is_explained() -> None:
    hd = pytest.importorskip("highdicom")
    unexplained, compared = [], 0
    for path in corpus():
        if expected_reason(path) is not None or path.name in WITH_EXTRA:
            continue
        ds = read_dicom(path.read_bytes())
        try:
            image = hd.imread(path)
            frames = [
                image.get_frame(
                    number + 1,
                    apply_real_world_transform=False,
                    apply_voi_transform=None,
                    voi_output_range=(0, 255),
                    apply_icc_profile=False,
                )
                for number in range(int(ds.get("NumberOfFrames", 1)))
            ]
        except Exception as error:
            if by_name(NOT_OPENED, path, "-") not in str(error):
                unexplained.append(f"{path.name}: highdicom: {error}")
            continue
        holds = by_name(DIFFERENCES, path, same)
        for number, theirs in enumerate(frames):
            ours, choices = render(ds, number)
            compared += 1
            if not holds(np.asarray(theirs, float), ours, ds, choices):
                unexplained.append(f"{path.name} frame {number}: not {holds.__name__}")
    assert not unexplained, "\n".join(unexplained)
    assert compared >= (120 if REAL.is_dir() else 115)
