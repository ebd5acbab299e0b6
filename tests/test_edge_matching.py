"""Membranes against what they must be, and holes that are fitted to their surroundings."""

import numpy as np
import pytest

from videopainter.pipelines.settings import InpaintSettings
from videopainter.vision.edge_matching import match_edges
from videopainter.vision.membrane import membrane

HEIGHT, WIDTH = 70, 101


def scene() -> np.ndarray:
    """A smooth picture with some texture, not near black or white: uint8 (H, W, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    shades = 110 + 30 * np.sin(x / 9) + 20 * np.cos(y / 7)
    return np.stack([shades, shades + 10, shades - 20], axis=-1).astype(np.uint8)


def hole(kind: str) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if kind == "inside":
        mask[20:50, 30:80] = True
    elif kind == "corner":
        mask[:30, :40] = True
    elif kind == "two":
        mask[10:20, 10:20] = mask[40:60, 50:90] = True
    elif kind == "nearly all":
        mask[:, 1:] = True
    return mask


@pytest.mark.parametrize("kind", ["inside", "corner", "two", "nearly all"])
def test_a_constant_shift_is_undone(kind):
    original, mask = scene(), hole(kind)
    painted = original + np.uint8(25)
    matched = match_edges(painted, original, mask)
    assert np.abs(matched[mask].astype(int) - original[mask]).max() <= 1
    np.testing.assert_array_equal(matched[~mask], painted[~mask])


def test_a_shift_that_changes_across_the_hole_is_nearly_undone():
    original, mask = scene(), hole("inside")
    shift = np.linspace(-20, 20, WIDTH)[None, :, None]
    painted = (original + shift).astype(np.uint8)
    before, after = (
        np.abs(image[mask].astype(int) - original[mask]) for image in (painted, match_edges(painted, original, mask))
    )
    assert after.mean() < 0.25 * before.mean()


@pytest.mark.parametrize("mask", [hole("none"), np.ones((HEIGHT, WIDTH), bool)], ids=["no hole", "all hole"])
def test_without_an_edge_nothing_changes(mask):
    painted = scene()[::-1]
    np.testing.assert_array_equal(match_edges(painted, scene(), mask), painted)


def test_a_membrane_keeps_what_is_known_and_stays_between():
    rng = np.random.default_rng(0)
    values, known = rng.normal(size=(33, 47, 3)).astype(np.float32), rng.random((33, 47)) < 0.05
    field = membrane(values, known)
    np.testing.assert_allclose(field[known], values[known], atol=1e-5)
    assert field.min() >= values[known].min() - 1e-5 and field.max() <= values[known].max() + 1e-5
    np.testing.assert_array_equal(membrane(values, np.ones_like(known)), values)
    one = np.zeros_like(known)
    one[3, 4] = True
    np.testing.assert_allclose(membrane(values, one), np.broadcast_to(values[3, 4], values.shape), atol=1e-5)


def test_it_needs_a_pasted_background():
    for off in ({"replace_gt": False}, {"paste_background": False}):
        with pytest.raises(ValueError, match="match_edges"):
            InpaintSettings(match_edges=True, **off)
