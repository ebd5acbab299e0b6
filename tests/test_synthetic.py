"""Synthetic clips: reproducible, with exact masks, and captions that name what is seen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videopainter.data.synthetic.objects import BOLD_COLOURS, BOLD_SHAPES, COLOURS, SHAPES, lowest_point, pose_at
from videopainter.data.synthetic.scenery import GROUNDS
from videopainter.data.synthetic.scenes import render_clip, sample_scene
from videopainter.data.video.reader import open_video
from videopainter.errors import InputError

SIZE: dict[str, Any] = {"num_frames": 5, "height": 32, "width": 48}
SEEDS = range(12)


def test_a_seed_gives_the_same_clip_and_another_seed_another():
    first, again, other = (render_clip(seed, **SIZE) for seed in (3, 3, 4))
    assert first.caption == again.caption
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.footprints, again.footprints)
    assert (first.frames != other.frames).any()


def test_shapes_and_types():
    clip = render_clip(0, **SIZE)
    count = len(sample_scene(0).objects)
    assert clip.frames.shape == (5, 32, 48, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.masks.shape == (5, 32, 48)
    assert clip.footprints.shape == (count, 5, 32, 48)
    assert clip.footprints.dtype == np.bool_
    assert clip.masks.max() <= count


@pytest.mark.parametrize("seed", SEEDS)
def test_without_an_object_nothing_changes_outside_its_footprint(seed):
    clip = render_clip(seed, **SIZE)
    for object_id in range(1, len(clip.object_captions) + 1):
        empty = render_clip(seed, **SIZE, without=object_id)
        outside = ~clip.footprint(object_id)
        np.testing.assert_array_equal(clip.frames[outside], empty.frames[outside])
        assert not empty.footprint(object_id).any()
        assert not (empty.masks == object_id).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_lie_in_footprints_and_objects_can_be_seen(seed):
    clip = render_clip(seed, **SIZE)
    for object_id in range(1, len(clip.object_captions) + 1):
        assert clip.footprint(object_id)[clip.masks == object_id].all()
    first = clip.masks == len(clip.object_captions)  # the nearest: nothing hides it
    empty = render_clip(seed, **SIZE, without=len(clip.object_captions))
    if first.any():  # it may have left the picture
        assert np.abs(clip.frames.astype(int) - empty.frames)[first].mean() > 5


def test_objects_move():
    moved = 0
    for seed in SEEDS:
        clip = render_clip(seed, num_frames=9, height=32, width=48)
        moved += (clip.masks[0] != clip.masks[-1]).any()
    assert moved >= 10


@pytest.mark.parametrize("seed", range(100, 140))
def test_captions_are_long_and_name_colours_shapes_and_ground(seed):
    clip = render_clip(seed, num_frames=1, height=16, width=24)
    scene = sample_scene(seed)
    for caption in (clip.caption, clip.background_caption):
        assert len(caption) > 50
        assert any(ground in caption for ground in GROUNDS)
    for item in scene.objects:
        assert item.colour in COLOURS
        assert item.shape in SHAPES
        assert item.colour in clip.caption.lower()
        assert item.shape in clip.caption
    removed = render_clip(seed, num_frames=1, height=16, width=24, without=1).caption
    assert len(removed) > 50
    assert clip.object_captions[0] not in removed


def test_the_same_scene_at_another_size():
    small = render_clip(5, num_frames=3, height=32, width=48)
    large = render_clip(5, num_frames=3, height=64, width=96)
    shrunk = large.frames.reshape(3, 32, 2, 48, 2, 3).mean(axis=(2, 4))
    assert small.caption == large.caption
    assert np.abs(shrunk - small.frames).mean() < 8


# Of two frames of a plain scene, those of 3 x 4 parts, RGB.
PLAIN_COLOURS = np.array(
    [
        [
            [[177, 207, 235], [128, 160, 182], [133, 160, 181], [198, 214, 228]],
            [[185, 171, 124], [181, 160, 124], [179, 91, 73], [159, 124, 92]],
            [[226, 198, 136], [212, 176, 137], [206, 179, 124], [213, 186, 128]],
        ],
        [
            [[159, 190, 215], [106, 136, 149], [154, 168, 187], [196, 208, 215]],
            [[198, 173, 133], [198, 179, 128], [173, 81, 65], [179, 151, 109]],
            [[215, 182, 132], [226, 199, 139], [210, 184, 127], [217, 189, 130]],
        ],
    ]
)


def test_scenes_stay_what_they_were():
    """The tiny checkpoint and the demo are made of them."""
    frames = open_video(Path(__file__).parents[1] / "data" / "demo" / "video.mp4").read(0, 57)
    clip = render_clip(817093, num_frames=57, height=240, width=360, pan=2.5, rich=True, bold=True)
    assert np.abs(clip.frames.astype(int) - frames).mean() < 2
    plain = render_clip(800403, num_frames=41, height=128, width=192).frames[[0, 40], :126]
    colours = plain.reshape(2, 3, 42, 4, 48, 3).mean((2, 4))
    assert np.abs(colours - PLAIN_COLOURS).max() < 2


@pytest.mark.parametrize(("num_frames", "pan"), [(41, 1.0), (97, 4.0)])
@pytest.mark.parametrize("seed", range(6))
def test_an_object_leaves_and_comes_back(seed, num_frames, pan):
    size: dict[str, Any] = {"num_frames": num_frames, "height": 24, "width": 36}
    clip = render_clip(seed, **size, pan=pan, returning=True)
    assert clip.returning is not None
    seen = np.array([mask.any() for mask in clip.footprint(clip.returning)])
    away = np.flatnonzero(~seen)
    assert away.size >= 17
    gap = np.split(away, np.flatnonzero(np.diff(away) > 1) + 1)[0]
    assert len(gap) >= 17
    assert seen[: gap[0]].all()
    assert gap[0] >= 5
    assert seen[gap[-1] + 1 : gap[-1] + 6].all()
    assert "comes back" in clip.object_captions[clip.returning - 1]
    outside = ~clip.footprint(clip.returning)
    empty = render_clip(seed, **size, pan=pan, returning=True, without=clip.returning)
    np.testing.assert_array_equal(clip.frames[outside], empty.frames[outside])


def test_only_the_returning_object_differs_from_the_usual_scene():
    usual, returning = sample_scene(8), sample_scene(8, returning_within=97)
    assert usual.scenery == returning.scenery
    assert sum(a != b for a, b in zip(usual.objects, returning.objects, strict=True)) == 1
    assert render_clip(8, **SIZE).returning is None


def test_the_camera_can_be_still_or_fast():
    size: dict[str, Any] = {"num_frames": 9, "height": 48, "width": 72}
    moved = {}
    for pan in (0, 1, 4):
        clip = render_clip(1, **size, pan=pan)
        background = ~clip.footprints.any(axis=(0, 1))
        moved[pan] = np.abs(clip.frames[-1].astype(int) - clip.frames[0])[background].mean()
    assert moved[0] == 0
    assert 0 < moved[1] < moved[4]


@pytest.mark.parametrize("seed", range(3))
def test_rich_scenes_have_finer_textures_and_exact_footprints(seed):
    size: dict[str, Any] = {"num_frames": 2, "height": 96, "width": 144}
    plain, rich = render_clip(seed, **size), render_clip(seed, **size, rich=True)
    fine = [np.abs(np.diff(clip.frames.astype(int), axis=2)).mean() for clip in (plain, rich)]
    assert fine[1] > 1.1 * fine[0]
    assert plain.caption == rich.caption
    outside = ~rich.footprint(1)
    empty = render_clip(seed, **size, rich=True, without=1)
    np.testing.assert_array_equal(rich.frames[outside], empty.frames[outside])


@pytest.mark.parametrize(
    ("shape", "angle", "below"),
    [("ball", 0.7, 1), ("box", 0, 0.85), ("diamond", 0, 1), ("diamond", np.pi / 2, 0.8), ("ring", 2, 0.98)],
)
def test_lowest_points_of_shapes(shape, angle, below):
    assert lowest_point(shape, angle) == pytest.approx(below, abs=0.03)


def test_settled_objects_stand_on_the_ground():
    scene = sample_scene(2, rich=True)
    for item in (replace(item, motion="stands") for item in scene.objects):
        pose = pose_at(item, 0)
        assert pose.y + item.radius * lowest_point(item.shape, pose.angle) == pytest.approx(item.y)


def test_a_scene_can_be_laid_out_for_a_narrow_picture():
    size: dict[str, Any] = {"num_frames": 1, "height": 48, "width": 36}
    shares = [
        np.mean([render_clip(seed, **size, aspect=aspect).footprints.any() for seed in range(20)])
        for aspect in (1.5, 0.8)
    ]
    assert shares[1] > shares[0]
    assert shares[1] > 0.9


def test_a_clip_too_short_to_return_in_is_refused():
    with pytest.raises(InputError, match="at least 41 frames"):
        render_clip(0, num_frames=40, height=32, width=48, returning=True)


@pytest.mark.parametrize("change", [{"num_frames": 0}, {"height": -1}, {"without": 9}, {"without": 0}])
def test_mistakes_are_told_in_one_line(change):
    with pytest.raises(InputError) as error:
        render_clip(0, **{**SIZE, **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(200, 216))
def test_bold_scenes_have_few_large_upright_objects_and_short_captions(seed):
    size: dict[str, Any] = {"num_frames": 9, "height": 48, "width": 72, "bold": True}
    clip, scene = render_clip(seed, **size), sample_scene(seed, bold=True)
    assert 1 <= len(scene.objects) <= 2
    for item, words in zip(scene.objects, clip.object_captions, strict=True):
        assert item.shape in BOLD_SHAPES
        assert item.colour in BOLD_COLOURS
        assert item.pattern == "plain"
        assert item.radius >= 0.17
        steps = [(pose_at(item, t).x, pose_at(item, t).y, pose_at(item, t).angle) for t in range(17)]
        assert np.abs(np.diff(steps, axis=0)[:, :2]).max() < 0.03
        assert item.motion == "rolls" or np.abs(np.array(steps)[:, 2]).max() < 0.31
        assert words in clip.caption or words[1:] in clip.caption
    for item in sample_scene(seed, bold=True, returning_within=57).objects:
        assert item.motion == "rolls" or max(abs(pose_at(item, t).angle) for t in range(57)) < 0.31
    empty = render_clip(seed, **size, without=1)
    assert len(empty.caption) > 50
    assert len(clip.caption.split()) <= 30
    assert "camera" not in clip.caption
    np.testing.assert_array_equal(clip.frames[~clip.footprint(1)], empty.frames[~clip.footprint(1)])
