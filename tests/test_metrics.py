"""Metrics: published outputs, brute force, analytic cases, and that they order what is clearly better and worse."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from videopainter.data.synthetic.scenes import render_clip
from videopainter.metrics.consistency import (
    LIKENESS_SCALE,
    appearance,
    distance,
    inner,
    likeness,
    object_consistency,
    return_consistency,
    visits,
)
from videopainter.metrics.networks.perceptual import clip_haarpsi, haarpsi
from videopainter.metrics.pixels import (
    clip_psnr,
    clip_ssim,
    frame_means,
    mae,
    mse,
    pooled_mean,
    psnr,
    ssim_map,
)
from videopainter.metrics.report.intervals import bootstrap_mean
from videopainter.vision.fillers import BASELINES, nearest_colour

REFERENCE = Path(os.environ.get("VIDEOPAINTER_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))


def ssim(first, second, masks=None):
    """SSIM of each frame."""
    return frame_means(ssim_map(first, second), masks)


def zeroed(frames, masks):
    """The frames with the pixels of `masks` black."""
    return np.where(masks[..., None], np.zeros((), frames.dtype), frames)


METRICS = {"psnr": psnr, "ssim": ssim, "mse": mse, "mae": mae}


def noise(frames=2, height=20, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def shifted(frames, by):
    return np.clip(frames.astype(int) + by, 0, 255).astype(np.uint8)


def box_mask(frames=2, height=20, width=24):
    mask = np.zeros((frames, height, width), bool)
    mask[:, 6:15, 8:19] = True
    return mask


@pytest.fixture(scope="module")
def scene():
    """A clip with an object, the same without it, and the object's footprint."""
    size = {"num_frames": 3, "height": 64, "width": 96}
    clip, empty = render_clip(900000, **size), render_clip(900000, **size, without=1)
    return clip, empty, clip.footprint(1)


# Pixels


@pytest.mark.skipif(not (REFERENCE / "metrics.safetensors").exists(), reason=f"no reference metrics at {REFERENCE}")
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("part", ["whole", "background", "masked_one_side"])
def test_published_values(part, name):
    values = load_file(REFERENCE / "metrics.safetensors")
    original, result, hole = (values[f"frames.{key}"] for key in ("original", "result", "mask"))
    hole = hole > 0
    if part != "whole":
        result = zeroed(result, hole)
    if part == "background":
        original = zeroed(original, hole)
    np.testing.assert_allclose(METRICS[name](original, result), values[f"{part}.{name}"], rtol=0, atol=1e-5)


def test_ssim_map_is_the_formula_pixel_by_pixel():
    first, second = noise(1, 13, 14), noise(1, 13, 14, seed=1)
    second = (first // 2 + second // 2).astype(np.uint8)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(taps, taps) / np.outer(taps, taps).sum()
    padded = [np.pad(f[0] / 255, ((5, 5), (5, 5), (0, 0)), mode="reflect") for f in (first, second)]
    expected = np.zeros((13, 14))
    for y in range(13):
        for x in range(14):
            for channel in range(3):
                a, b = (p[y : y + 11, x : x + 11, channel] for p in padded)
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                cov = (weights * (a - mean_a) * (b - mean_b)).sum()
                light = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
                expected[y, x] += light * (2 * cov + 9e-4) / (var_a + var_b + 9e-4) / 3
    np.testing.assert_allclose(ssim_map(first, second)[0], expected, atol=1e-10)


def test_ssim_of_flat_frames_is_the_luminance_term():
    first, second = (np.full((1, 16, 16, 3), level) for level in (0.25, 0.75))
    np.testing.assert_allclose(ssim(first, second), (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4))


def test_ssim_of_a_negative_is_negative():
    first = noise(1)
    assert ssim(first, 255 - first)[0] < 0


def test_identical_frames():
    frames, mask = noise(), box_mask()
    assert np.isposinf(psnr(frames, frames, mask)).all()
    assert np.isposinf(clip_psnr(frames, frames))
    np.testing.assert_allclose(ssim(frames, frames), 1, atol=1e-12)
    np.testing.assert_allclose(haarpsi(frames, frames), 1, atol=1e-9)
    np.testing.assert_array_equal(mae(frames, frames), 0)


def test_psnr_of_a_known_error_in_the_hole_only():
    first, mask = np.full((2, 20, 24, 3), 0.5), box_mask()
    second = np.repeat(np.where(mask[..., None], 0.6, 0.9), 3, axis=3)
    np.testing.assert_allclose(psnr(first, second, mask), 20.0)
    np.testing.assert_allclose(clip_psnr(first, second, ~mask), -20 * np.log10(0.4))


def test_uint8_and_float_give_the_same():
    first, second = noise(), noise(seed=1)
    for metric in (psnr, ssim, haarpsi):
        np.testing.assert_allclose(metric(first, second), metric(first / 255, second / 255), atol=1e-9)


def test_pooling_counts_pixels_and_frames_count_frames():
    values = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 3.0)])
    mask = np.zeros((2, 4, 4), bool)
    mask[0], mask[1, 0, 0] = True, True
    np.testing.assert_allclose(frame_means(values, mask), [1, 3])
    assert pooled_mean(values, mask) == pytest.approx((16 * 1 + 3) / 17)


def test_a_frame_without_hole_is_nan_and_a_clip_without_hole_an_error():
    first, second, mask = noise(), noise(seed=1), box_mask()
    mask[0] = False
    for metric in (mse, psnr, ssim, haarpsi):
        values = metric(first, second, mask)
        assert np.isnan(values[0]) and np.isfinite(values[1])
        assert np.isfinite(metric(first, second)).all()
    for metric in (clip_psnr, clip_ssim, clip_haarpsi):
        assert metric(first, second, mask) == pytest.approx(metric(first[1:], second[1:], mask[1:]))
        with pytest.raises(ValueError, match="at least one pixel"):
            metric(first, second, np.zeros_like(mask))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (noise(), noise(3), "one shape"),
        (noise().astype(np.int32), noise().astype(np.int32), "int32"),
        (noise().astype(float), noise().astype(float), "0..1"),
        (np.full((1, 8, 8, 3), np.nan), np.zeros((1, 8, 8, 3)), "0..1"),
        (noise()[0], noise()[0], "T, H, W, 3"),
    ],
)
def test_frames_that_do_not_fit(first, second, message):
    with pytest.raises(ValueError, match=message):
        psnr(first, second)


def test_masks_that_do_not_fit():
    with pytest.raises(ValueError, match="masks: expected bool"):
        psnr(noise(), noise(), np.zeros((2, 20, 24), np.uint8))


# HaarPSI


def test_haarpsi_is_the_papers_formula_written_out():
    first, second = noise(1, 16, 18), noise(1, 16, 18, seed=1)
    assert haarpsi(first, second)[0] == pytest.approx(written_out_haarpsi(first[0], second[0]), abs=1e-9)


def written_out_haarpsi(first, second):
    matrix = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

    def same(image, size, sign):
        """sign(row, column) / 2^scale over `size`², zeros outside, starting size / 2 - 1 before the pixel."""
        height, width = image.shape
        padded = np.pad(image, size)
        out = np.zeros_like(image)
        for y in range(height):
            for x in range(width):
                for dy in range(size):
                    for dx in range(size):
                        value = padded[size + y + dy - size // 2 + 1, size + x + dx - size // 2 + 1]
                        out[y, x] += sign(dy, dx) * value
        return np.abs(out)

    images = []
    for image in (first, second):
        yiq = image.astype(float) @ matrix.T
        images.append(yiq.reshape(8, 2, 9, 2, 3).mean(axis=(1, 3)))

    def alike(a, b):
        return (2 * a * b + 30) / (a * a + b * b + 30)

    similarities, weights = [], []
    for turned in (False, True):
        bands = []
        for size in (2, 4, 8):

            def sign(dy, dx, size=size, turned=turned):
                return (1 if (dx if turned else dy) < size // 2 else -1) / size

            bands.append([same(image[..., 0], size, sign) for image in images])
        similarities.append((alike(*bands[0]) + alike(*bands[1])) / 2)
        weights.append(np.maximum(*bands[2]))
    colours = [[same(image[..., k], 2, lambda dy, dx: 0.25) for image in images] for k in (1, 2)]
    similarities.append((alike(*colours[0]) + alike(*colours[1])) / 2)
    weights.append((weights[0] + weights[1]) / 2)
    logistic = [1 / (1 + np.exp(-4.2 * s)) for s in similarities]
    mean = sum((s * w).sum() for s, w in zip(logistic, weights)) / sum(w.sum() for w in weights)
    return (np.log(mean / (1 - mean)) / 4.2) ** 2


def test_haarpsi_orders_damage_and_is_symmetric(scene):
    frames = scene[0].frames
    draws = np.random.default_rng(0).normal(size=frames.shape)
    values = [haarpsi(frames, shifted(frames, (draws * sigma).round())).mean() for sigma in (4, 12, 36)]
    assert 1 > values[0] > values[1] > values[2] > 0
    worse = shifted(frames, (draws * 12).round())
    np.testing.assert_allclose(haarpsi(frames, worse), haarpsi(worse, frames))


def test_haarpsi_in_a_hole_sees_only_what_is_near_it(scene):
    clip, empty, footprint = scene
    far = np.zeros_like(footprint)
    far[:, :, :16] = True
    far &= ~np.stack([cv2.dilate(m.astype(np.uint8), np.ones((31, 31))) > 0 for m in footprint])
    assert far.any()
    assert clip_haarpsi(clip.frames, empty.frames, far) == pytest.approx(1)
    assert clip_haarpsi(clip.frames, empty.frames, footprint) < clip_haarpsi(clip.frames, empty.frames) - 0.1


def test_haarpsi_of_flat_frames():
    grey = np.full((1, 16, 16, 3), 0.5)
    assert haarpsi(grey, grey)[0] == pytest.approx(1)
    assert haarpsi(grey, grey * [1, 0.5, 1], np.ones((1, 16, 16), bool))[0] < 0.9


# Classical fillers


@pytest.mark.parametrize("name", BASELINES)
def test_fillers_change_the_hole_only_and_remove_the_object(name, scene):
    clip, empty, footprint = scene
    before = clip.frames.copy()
    result = BASELINES[name](clip.frames, footprint)
    np.testing.assert_array_equal(clip.frames, before)
    np.testing.assert_array_equal(result[~footprint], clip.frames[~footprint])
    assert clip_psnr(result, empty.frames, footprint) > clip_psnr(clip.frames, empty.frames, footprint) + 3
    np.testing.assert_array_equal(BASELINES[name](clip.frames, np.zeros_like(footprint)), clip.frames)


def test_nearest_colour_is_exact():
    rng = np.random.default_rng(1)
    frames = noise(3, 17, 23)
    masks = rng.random((3, 17, 23)) < np.array([0.3, 0.9, 0.98])[:, None, None]
    masks[0, 2:12, 5:20] = True
    result = nearest_colour(frames, masks)
    for frame, mask, filled in zip(frames, masks, result, strict=True):
        known = np.argwhere(~mask)
        for place in np.argwhere(mask):
            squares = ((known - place) ** 2).sum(axis=1)
            colours = {tuple(frame[tuple(pixel)]) for pixel in known[squares == squares.min()]}
            assert tuple(filled[tuple(place)]) in colours


def test_fillers_need_something_to_start_from():
    mask = np.zeros((2, 20, 24), bool)
    mask[1] = True
    for fill in BASELINES.values():
        with pytest.raises(ValueError, match="frame 1"):
            fill(noise(), mask)


# Consistency of returning objects


def test_an_appearance_does_not_depend_on_place_or_order():
    frames, mask = noise(1, 30, 30), np.zeros((1, 30, 30), bool)
    mask[:, 8:18, 8:18] = True
    moved, moved_mask = (np.roll(array, (5, -3), axis=(1, 2)) for array in (frames, mask))
    turned, turned_mask = (np.rot90(array, axes=(1, 2)) for array in (frames, mask))
    original = appearance(frames, mask)
    assert likeness(original, original) == 1
    assert likeness(original, appearance(moved, moved_mask)) == pytest.approx(1, abs=1e-5)
    assert likeness(original, appearance(np.ascontiguousarray(turned), turned_mask)) == pytest.approx(1, abs=1e-5)


def test_distance_of_two_flat_colours_is_their_delta_e():
    mask = np.ones((1, 8, 8), bool)
    colours = [(0.2, 0.4, 0.6), (0.5, 0.4, 0.3)]
    flat = [np.broadcast_to(np.array(colour, np.float32), (1, 8, 8, 3)) for colour in colours]
    lab = [cv2.cvtColor(np.float32([[colour]]), cv2.COLOR_RGB2LAB)[0, 0] for colour in colours]
    delta_e = float(np.linalg.norm(lab[0] - lab[1]))
    first, second = (appearance(frames, mask) for frames in flat)
    assert distance(first, second) == pytest.approx(delta_e, rel=1e-4)
    assert likeness(first, second) == pytest.approx(np.exp(-delta_e / LIKENESS_SCALE), rel=1e-3)


def test_contrast_counts_where_colours_are_the_same():
    """Fine and coarse stripes of the same two greys."""
    rows = np.arange(32)
    fine, coarse = ((rows // width % 2 * 0.4 + 0.3)[None, :, None, None] for width in (2, 8))
    mask = np.ones((1, 32, 32), bool)
    first, second = (appearance(np.broadcast_to(f, (1, 32, 32, 3)), mask) for f in (fine, coarse))
    assert likeness(first, second) < 0.7


def test_visits():
    masks = np.zeros((20, 4, 4), bool)
    masks[1:6] = True
    masks[3] = False  # hidden for a moment
    masks[5, 1:] = False  # half out of the picture
    masks[12:18] = True
    assert [stay.tolist() for stay in visits(masks)] == [[1, 2, 4], [12, 13, 14, 15, 16, 17]]
    assert visits(masks[:1]) == []


def test_true_returning_objects_score_high_and_others_low():
    clips = [render_clip(seed, num_frames=61, height=48, width=72, returning=True) for seed in (900001, 900004)]
    seen = [inner(clip.masks == clip.returning) for clip in clips]
    for clip, mask in zip(clips, seen, strict=True):
        assert len(visits(mask)) == 2
        assert return_consistency(clip.frames, mask) > 0.5
    before, after = visits(seen[0])[0], visits(seen[1])[-1]
    swapped = likeness(
        appearance(clips[0].frames[before], seen[0][before]), appearance(clips[1].frames[after], seen[1][after])
    )
    assert swapped < 0.3


def test_an_object_must_come_back():
    with pytest.raises(ValueError, match="leaves and comes back"):
        return_consistency(noise(), box_mask())
    with pytest.raises(ValueError, match="object"):
        appearance(noise(), np.zeros((2, 20, 24), bool))


# Intervals


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap_mean(rng.normal(1.0, 2.0, 40), resamples=400, seed=trial)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_bootstrap_is_reproducible_and_says_whether_zero_is_in():
    values = np.array([1.0, 2.0, 3.0])
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values).excludes_zero
    assert not bootstrap_mean(np.array([-2.0, 2.0, 0.5])).excludes_zero
    for bad in ([1.0], [1.0, np.inf]):
        with pytest.raises(ValueError, match="finite"):
            bootstrap_mean(np.array(bad))


def colour_clip(first: tuple[int, int, int], later: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grey scene, in which an object of colour `first` is seen, leaves, and comes back with colour `later`."""
    scene = np.full((14, 16, 16, 3), 90, np.uint8)
    frames, masks = scene.copy(), np.zeros((14, 16, 16), bool)
    masks[:4, 4:12, 4:12] = masks[10:, 6:14, 2:10] = True
    frames[:4][masks[:4]], frames[10:][masks[10:]] = first, later
    return frames, masks, scene


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        ((200, 30, 30), (200, 30, 30), 1.0),  # the same object
        ((200, 30, 30), (30, 60, 200), 0.0),  # another one
        ((200, 30, 30), (90, 90, 90), 0.0),  # gone
        ((90, 90, 90), (90, 90, 90), 0.0),  # never there: consistent, but no object
        ((95, 92, 90), (95, 92, 90), 0.0),  # hardly there
    ],
)
def test_object_consistency_asks_for_an_object(first, later, expected):
    assert object_consistency(*colour_clip(first, later)) == pytest.approx(expected)


def test_object_consistency_of_half_an_object_is_a_half():
    frames, masks, scene = colour_clip((200, 30, 30), (200, 30, 30))
    frames[10:, 6:10] = scene[10:, 6:10]
    assert object_consistency(frames, masks, scene) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="comes back"):
        object_consistency(frames[:6], masks[:6], scene[:6])
