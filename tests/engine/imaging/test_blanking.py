"""A region put out: nothing of it is left, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

from engine.imaging.blanking import FEATHER, blanked
from generators.phantoms import draw, to_display

SIDE = 96


def scene(colour: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A slope of grey with a bright square in it, and the square's mask."""
    slope = np.add.outer(np.arange(SIDE), np.zeros(SIDE)) + 60
    mask = np.zeros((SIDE, SIDE), bool)
    mask[40:60, 30:50] = True
    slope[mask] = 250
    pixels = slope.astype(np.uint8)
    return (np.stack([pixels, pixels // 2, pixels // 3], -1) if colour else pixels), mask


@pytest.mark.parametrize("colour", [False, True])
def test_the_region_takes_the_grey_of_its_surroundings(colour: bool) -> None:
    pixels, mask = scene(colour)
    out = blanked(pixels, mask).reshape(SIDE, SIDE, -1)[..., 0].astype(int)
    slope = np.arange(SIDE) + 60
    assert np.abs(out[mask] - np.broadcast_to(slope[:, None], out.shape)[mask]).max() <= 8
    assert out.shape == (SIDE, SIDE)


def test_nothing_of_the_region_shows_through() -> None:
    """Two images that differ in the region alone are the same afterwards."""
    pixels, mask = scene()
    other = pixels.copy()
    other[mask] = np.random.default_rng(0).integers(0, 255, mask.sum())
    assert (blanked(pixels, mask) == blanked(other, mask)).all()


def test_what_is_further_off_is_as_it_was() -> None:
    pixels, mask = scene()
    far = np.ones_like(mask)
    far[36:64, 26:54] = False
    assert (blanked(pixels, mask) == pixels)[far].all()
    assert (blanked(pixels, np.zeros_like(mask)) == pixels).all()


def test_the_edge_is_feathered() -> None:
    pixels, mask = scene()
    out = blanked(pixels, mask, 4 * FEATHER).astype(int)
    assert np.abs(np.diff(out[50])).max() < 40 < np.abs(np.diff(pixels[50].astype(int))).max()


def test_a_finding_is_gone() -> None:
    """What made it stand out from its surroundings is gone, in grey and in colour."""
    for kind, finding in (("ultrasound", "cyst"), ("CT", "hemorrhage"), ("dermoscopy", "nevus")):
        phantom = draw(kind, 2, 128, 0.0, finding)
        shown = to_display(phantom).reshape(128, 128, -1).astype(float).mean(-1)
        out = blanked(to_display(phantom), phantom.mask).reshape(128, 128, -1).mean(-1)
        healthy = to_display(draw(kind, 2, 128, 0.0, "none")).reshape(128, 128, -1).mean(-1)
        before, after = (abs((image - healthy)[phantom.mask].mean()) for image in (shown, out))
        assert after < 0.2 * before


def test_a_mask_of_another_image_is_refused() -> None:
    pixels, mask = scene()
    with pytest.raises(ValueError, match="is not of an image of"):
        blanked(pixels, mask[:-1])
    with pytest.raises(ValueError, match="leaves nothing"):
        blanked(pixels, np.ones_like(mask))
