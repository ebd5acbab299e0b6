"""Window arithmetic: every frame covered, starts on the VAE's grid, blend weights that add up to one."""

import numpy as np
import pytest

from videopainter.models.backbones.grid import FINEST
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.windows import blend_weights, plan_windows

LENGTHS = [1, 2, 4, 5, 6, 48, 49, 50, 53, 85, 86, 137, 200, 490]
SHAPES = [(49, 0), (49, 1), (49, 13), (49, 45), (9, 0), (9, 5), (5, 0)]


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize(("size", "overlap"), SHAPES)
def test_windows_cover_every_frame(total, size, overlap):
    plan = plan_windows(total, size, overlap)
    assert plan.num_frames == total <= plan.padded_frames < total + 4
    covered = np.zeros(plan.num_latents, dtype=int)
    for window in plan.windows:
        assert window.start % 4 == 0
        assert window.num_frames == min(size, plan.padded_frames)
        covered[window.latent_start : window.latent_stop] += 1
    assert covered.min() >= 1
    assert plan.windows[-1].stop == plan.padded_frames
    for before, after in zip(plan.windows, plan.windows[1:]):
        shared = before.stop - after.start
        assert shared >= max(overlap, 1)
        assert after.start > before.start


def test_the_releases_overlap_of_zero_is_one_shared_frame():
    starts = [window.start for window in plan_windows(145, 49, 0).windows]
    assert starts == [0, 48, 96]
    assert plan_windows(145, 49, 1) == plan_windows(145, 49, 0)


def test_last_window_moves_back():
    assert [(w.start, w.stop) for w in plan_windows(60, 49, 13).windows] == [(0, 49), (12, 61)]


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize(("size", "overlap"), SHAPES)
@pytest.mark.parametrize("mode", ["linear", "average"])
def test_blend_weights_add_up_to_one(total, size, overlap, mode):
    plan = plan_windows(total, size, overlap)
    total_weight = np.zeros(plan.num_latents)
    for window, weight in zip(plan.windows, blend_weights(plan, mode), strict=True):
        assert len(weight) == FINEST.latent_frames(window.num_frames)
        assert weight.min() >= 0
        total_weight[window.latent_start : window.latent_stop] += weight
    np.testing.assert_allclose(total_weight, 1, atol=1e-12)


def test_linear_ramp():
    first, second = blend_weights(plan_windows(85, 49, 13), "linear")
    np.testing.assert_allclose(second[:4], [0, 1 / 4, 2 / 4, 3 / 4])
    np.testing.assert_allclose(first[-4:], [1, 3 / 4, 2 / 4, 1 / 4])
    assert (second[4:] == 1).all()


def test_nothing_to_cover():
    with pytest.raises(ValueError, match="at least one frame"):
        plan_windows(0)
    with pytest.raises(ValueError, match="5 or more"):
        plan_windows(10, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 50}, "4k\\+1"),
        ({"num_frames": 0}, "4k\\+1"),
        ({"overlap_frames": 4}, "0 or 4k\\+1"),
        ({"overlap_frames": -3}, "0 or 4k\\+1"),
        ({"overlap_frames": 49}, "less than"),
        ({"num_frames": 5, "overlap_frames": 9}, "less than"),
        ({"height": 100, "width": 160}, "multiple of 16"),
        ({"height": 96}, "both"),
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.5}, "strength"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"blend": "cut"}, "linear or average"),
        ({"id_resample": "on"}, "auto"),
        ({"feather": -1}, "feather"),
    ],
)
def test_settings_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message) as error:
        InpaintSettings(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 720), (480, 720)), ((540, 960), (448, 784)), ((1920, 1080), (784, 448)), ((7, 4000), (32, 14048))],
)
def test_working_size_keeps_area_and_aspect(size, expected):
    assert FINEST.working_size(*size, area=480 * 720) == expected
