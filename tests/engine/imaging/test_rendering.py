"""Stored values become shown ones: windows, tables, padding; what is no image is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from engine.imaging.errors import ImagingError
from engine.imaging.render import render
from tests.engine.imaging.datasets import CANARY, grey, ramp


def test_a_linear_window_maps_its_analytic_range_not_the_images() -> None:
    ds = grey(ramp(), Modality="CT", RescaleIntercept="-1024", RescaleSlope="1",
              WindowCenter="40", WindowWidth="400")  # fmt: skip
    pixels, choices = render(ds)
    hu = ramp() - 1024
    assert pixels[hu <= -160].max() == 0
    assert pixels[hu >= 239].min() == 255
    assert pixels[hu == 39] == 127  # round((39 - 39.5) / 399 + 0.5) * 255
    assert choices["window"] == [40, 400]
    assert choices["window_source"] == "file"
    narrow = grey(np.full((32, 32), 1064), Modality="CT", RescaleIntercept="-1024",
                  RescaleSlope="1", WindowCenter="40", WindowWidth="400")  # fmt: skip
    assert set(render(narrow)[0].ravel()) == {128}  # min-max would have made it black or white


def test_linear_exact_and_sigmoid_follow_their_formulas() -> None:
    window = {"WindowCenter": "2000", "WindowWidth": "1000"}
    exact = render(grey(ramp(), VOILUTFunction="LINEAR_EXACT", **window))[0]
    assert (exact == np.round(np.clip((ramp() - 2000) / 1000 + 0.5, 0, 1) * 255)).all()
    sigmoid, choices = render(grey(ramp(), VOILUTFunction="SIGMOID", **window))
    assert (sigmoid == np.round(255 / (1 + np.exp(-4 * (ramp() - 2000) / 1000)))).all()
    assert choices["voi_function"] == "SIGMOID"


def test_monochrome1_is_inverted_after_the_window() -> None:
    window = {"WindowCenter": "1000", "WindowWidth": "500"}
    plain = render(grey(ramp(), **window))[0]
    inverted, choices = render(grey(ramp(), PhotometricInterpretation="MONOCHROME1", **window))
    assert (np.abs(inverted.astype(int) - (255 - plain.astype(int))) <= 1).all()
    assert choices["inverted"]


def test_presentation_lut_shape_inverse_does_not_invert_twice() -> None:
    one = grey(ramp(), PhotometricInterpretation="MONOCHROME1")
    both = grey(ramp(), PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert (render(one)[0] == render(both)[0]).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_move_the_window(photometric: str) -> None:
    stored = ramp() + 1000
    padded = stored.copy()
    padded[:8] = 60000
    ds = grey(padded, PhotometricInterpretation=photometric, PixelPaddingValue=60000)
    pixels, choices = render(ds)
    assert (pixels[:8] == 0).all()
    assert choices["padding"]
    assert (pixels[8:] == render(grey(stored[8:], PhotometricInterpretation=photometric))[0]).all()


def test_each_frame_has_its_own_window() -> None:
    ds = grey(np.stack([ramp(), ramp()]))
    items = []
    for centre in ("500", "3000"):
        voi, frame = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, "1000"
        frame.FrameVOILUTSequence = [voi]
        items.append(frame)
    ds.PerFrameFunctionalGroupsSequence = items
    rescale, shared = Dataset(), Dataset()
    rescale.RescaleIntercept, rescale.RescaleSlope = "0", "2"
    shared.PixelValueTransformationSequence = [rescale]
    ds.SharedFunctionalGroupsSequence = [shared]
    for frame_index, centre in enumerate((500, 3000)):
        pixels, choices = render(ds, frame_index)
        assert choices["window"] == [centre, 1000]
        expected = np.clip(((ramp() * 2 - (centre - 0.5)) / 999 + 0.5) * 255, 0, 255)
        assert (pixels == np.round(expected)).all()


@pytest.mark.parametrize("width", ["0", "-5", "0.5"])
def test_an_invalid_window_falls_back_and_says_so(width: str) -> None:
    _, choices = render(grey(ramp(), WindowCenter="40", WindowWidth=width))
    assert choices["fallback"] == ["invalid window"]
    assert choices["window_source"].startswith("percentiles")


@pytest.mark.parametrize(
    ("centres", "widths"), [(["40", "300"], ["400"]), (["40"], ["400", "80"]), (["40"] * 3, "400")]
)
def test_a_centre_or_width_without_its_partner_is_said(centres: object, widths: object) -> None:
    _, choices = render(grey(ramp(), WindowCenter=centres, WindowWidth=widths))
    assert choices["window"] == [40, 400]
    assert choices["fallback"] == ["invalid window"]


def test_a_voi_lut_is_scaled_by_the_bits_it_declares() -> None:
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4, 100, 12])
    lut.add_new("LUTData", "US", [0, 1000, 2000, 4095])
    pixels, choices = render(grey(np.tile([0, 100, 101, 102, 103, 999], (32, 1)),
                                  VOILUTSequence=[lut]))  # fmt: skip
    assert list(pixels[0]) == [0, 0, 62, 125, 255, 255]
    assert choices["voi_function"] == "LUT"


def test_a_ct_without_a_window_takes_the_preset_of_its_body_part() -> None:
    ct = {"Modality": "CT", "RescaleIntercept": "-1024", "RescaleSlope": "1"}
    assert render(grey(ramp(), BodyPartExamined="HEAD", **ct))[1]["window"] == [40, 80]
    assert render(grey(ramp(), BodyPartExamined=CANARY, **ct))[1]["window"] == [40, 400]


def test_dose_and_segmentation_are_not_images() -> None:
    for sop_class in ("1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.66.4"):
        with pytest.raises(ImagingError, match="not an image"):
            render(grey(ramp(), SOPClassUID=sop_class))


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    with pytest.raises(ImagingError, match="too large"):
        render(grey(ramp(), Rows=65535, Columns=65535))
