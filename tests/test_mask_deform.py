"""Deformed masks: what each kind does, one choice per clip, the same for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import moving_mask

from videopainter.data.training.mask_deform import MaskOptions, deform_masks, training_masks
from videopainter.data.training.mask_shapes import ObjectBox, draw_shape, draw_strokes, first_box, jittered
from videopainter.errors import InputError

KINDS = ("brush", "rect", "ellipse", "circle", "random_brush")


def only(kind: str, **changes) -> MaskOptions:
    shares: dict[str, Any] = {f"p_{name}": float(name == kind) for name in KINDS}
    return MaskOptions(**{"mask_transform_prob": 1.0, **shares, **changes})


def deformed(kind: str, masks: np.ndarray, seed: int = 0, **changes) -> np.ndarray:
    return deform_masks(masks, np.random.default_rng(seed), only(kind, **changes))


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_nothing_else(kind: str) -> None:
    masks = moving_mask(9, 96, 128)
    before = masks.copy()
    results = [deformed(kind, masks, seed) for seed in range(12)]
    for seed, result in enumerate(results):
        assert result.shape == masks.shape and result.dtype == np.bool_ and result.any()
        np.testing.assert_array_equal(deformed(kind, masks, seed), result)
    assert len({result.tobytes() for result in results}) > 2
    np.testing.assert_array_equal(masks, before)


@pytest.mark.parametrize("kind", ["rect", "ellipse", "circle", "random_brush"])
def test_shapes_stay_in_their_place(kind: str) -> None:
    result = deformed(kind, moving_mask(9, 96, 128))
    assert (result == result[0]).all()


def test_shapes_lie_around_the_first_hole() -> None:
    masks = np.zeros((4, 60, 80), bool)
    masks[1, 20:30, 30:50] = True
    masks[3, 50:, 70:] = True
    exact: dict[str, Any] = {"margin_ratio": 0.0, "shape_scale_min": 1.0, "shape_scale_max": 1.0}
    np.testing.assert_array_equal(deformed("rect", masks, **exact)[2], masks[1])
    ellipse = deformed("ellipse", masks, **exact)[0]
    assert not (ellipse & ~masks[1]).any()
    assert ellipse.sum() == pytest.approx(np.pi / 4 * 200, rel=0.05)
    circle = deformed("circle", masks, **exact)[0]
    assert circle.sum() == pytest.approx(np.pi * 100, rel=0.05)
    rows, columns = np.nonzero(circle)
    assert (rows.mean(), columns.mean()) == (24.5, 39.5)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (15, 35, 30, 50)
    doubled = deformed("rect", masks, **{**exact, "shape_scale_min": 2.0, "shape_scale_max": 2.0})[0]
    assert first_box(doubled[None]) == (20, 15, 60, 35)
    jitter = jittered(ObjectBox(30, 20, 50, 30), np.random.default_rng(0), 0.1)
    assert jitter != (30, 20, 50, 30)
    assert (np.abs(np.subtract(jitter, (30, 20, 50, 30))) <= (2, 1, 2, 1)).all()


def test_a_shape_may_reach_beyond_the_frame() -> None:
    assert draw_shape("rect", ObjectBox(0, 0, 8, 8), 9.0, 8, 12).all()
    assert draw_shape("circle", ObjectBox(7, 3, 8, 4), 1.0, 8, 12).sum() == 1


def test_the_brush_changes_outlines_by_a_kernel_that_grows_with_the_frame() -> None:
    grown = []
    for height in (96, 480):
        masks = np.zeros((2, height, 160), bool)
        masks[:, height // 4 : height // 2, 60:100] = True
        results = [deformed("brush", masks, seed) for seed in range(40)]
        sizes = [int(result.any(axis=(0, 1)).sum()) - 40 for result in results]
        grown.append(max(sizes))
        assert min(sizes) == 0, "closing leaves a rectangle as it is"
    # Dilation by k adds k - 1 columns.
    assert 3 <= grown[0] <= 7 and 16 <= grown[1] <= 32


def test_the_brush_opens_and_closes() -> None:
    masks = np.zeros((1, 480, 480), bool)
    masks[:, 100:300, 100:300] = True
    masks[:, 200:203, 200:203] = False  # a hole in it, and a speck beside it
    masks[:, 400:403, 400:403] = True
    seen = {(bool(r[0, 201, 201]), bool(r[0, 401, 401])) for r in (deformed("brush", masks, s) for s in range(40))}
    assert seen == {(True, True), (False, False), (True, False)}


def test_masks_that_would_vanish_stay() -> None:
    masks = np.zeros((3, 480, 480), bool)
    masks[:, 10:12, 10:12] = True
    assert all(deformed("brush", masks, seed).any() for seed in range(20))
    empty = np.zeros((3, 32, 48), bool)
    assert not any(deformed(kind, empty).any() for kind in KINDS)


def test_strokes_are_neither_nothing_nor_all() -> None:
    for size in ((64, 96), (480, 720), (16, 16)):
        shares = [draw_strokes(*size, np.random.default_rng(seed)).mean() for seed in range(20)]
        assert min(shares) > 0 and max(shares) < 0.9
        assert max(shares) > 0.05


def test_probabilities() -> None:
    masks = moving_mask(3, 48, 64)
    options = MaskOptions(mask_transform_prob=0.3)
    changed = 0
    for seed in range(300):
        changed += not np.array_equal(deform_masks(masks, np.random.default_rng(seed), options), masks)
    # A brush may leave a small box as it is.
    assert 0.15 * 300 < changed < 0.36 * 300
    never = MaskOptions(mask_transform_prob=0.0)
    assert all(deform_masks(masks, np.random.default_rng(seed), never) is masks for seed in range(9))


def test_background_comes_before_and_the_first_frame_after_deforming() -> None:
    masks = moving_mask(5, 48, 64)
    options = MaskOptions(mask_transform_prob=0.0, mask_background=True, first_frame_gt=True)
    result = training_masks(masks, np.random.default_rng(0), options)
    np.testing.assert_array_equal(result[1:], ~masks[1:])
    assert not result[0].any() and masks[0].any()
    still = training_masks(masks, np.random.default_rng(0), only("circle", first_frame_gt=True))
    assert not still[0].any() and still[1:].any(axis=(1, 2)).all()
    assert training_masks(masks[:1], np.random.default_rng(0), only("circle", first_frame_gt=True)).any()


def test_options_that_cannot_be() -> None:
    cases: tuple[dict[str, Any], ...] = (
        {"mask_transform_prob": 1.2},
        {"p_rect": -0.1},
        {f"p_{kind}": 0.0 for kind in KINDS},
        {"margin_ratio": 0.5},
        {"shape_scale_min": 0.0},
        {"shape_scale_max": 0.5},
    )
    for wrong in cases:
        with pytest.raises(InputError):
            MaskOptions(**wrong)
