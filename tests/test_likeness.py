"""How alike two pictures are, by hand."""

import numpy as np
import pytest

from ldm.helpers.likeness import psnr, structure


def test_psnr_by_hand():
    black, one = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10, 3), np.uint8)
    one[0, 0] = 255  # of 100 pixels: a hundredth of the largest error
    assert psnr(black, one) == pytest.approx(20)
    assert psnr(one, black) == pytest.approx(20)
    assert psnr(black, ~black) == pytest.approx(0)
    assert psnr(one, one) == float("inf")


def square(top: int, left: int, colour: tuple[int, int, int], ground=(0, 0, 0)) -> np.ndarray:
    """A square of 32 pixels in a picture of 128."""
    picture = np.zeros((128, 128, 3), np.uint8) + np.array(ground, np.uint8)
    picture[top : top + 32, left : left + 32] = colour
    return picture


def test_structure_depends_on_places_and_not_on_colours():
    source = square(16, 16, (255, 0, 0))
    # not quite 1: grey levels are whole numbers, and edges of one strength are all there is
    assert structure(source, square(16, 16, (0, 0, 200), ground=(250, 240, 0))) > 0.99
    assert structure(source, square(80, 80, (255, 0, 0))) < 0.1
    assert structure(source, square(24, 24, (255, 0, 0))) < structure(source, square(20, 20, (255, 0, 0))) < 1
    assert structure(source, source) == pytest.approx(1)


def test_structure_by_hand():
    """Two steps between columns, at 32 x 32, each felt by the two columns beside it: of 32 columns with edges at two,
    none shared, the correlation is -(1/16)^2 / (1/16 - 1/16^2) = -1/15; one shared of the two: (1/32 - 1/256) /
    (1/16 - 1/256) = 7/15."""
    step = lambda at: np.repeat(np.arange(32) >= at, 3).reshape(1, 32, 3).repeat(32, axis=0).astype(np.uint8) * 200
    assert structure(step(8), step(20)) == pytest.approx(-1 / 15)
    assert structure(step(8), step(9)) == pytest.approx(7 / 15)


def test_a_picture_without_edges_correlates_with_nothing():
    flat = np.full((64, 64, 3), 9, np.uint8)
    assert structure(flat, square(16, 16, (255, 0, 0))[:64, :64]) == 0
    assert structure(flat, flat) == 0
