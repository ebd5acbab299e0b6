"""Synthetic clips: reproducible, with exact masks, and captions that name what is seen."""

import numpy as np
import pytest

from videopainter.data.errors import InputError
from videopainter.data.synthetic import render_clip, sample_scene
from videopainter.data.synthetic_objects import COLOURS, SHAPES
from videopainter.data.synthetic_scenery import GROUNDS

SIZE = {"num_frames": 5, "height": 32, "width": 48}
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


@pytest.mark.parametrize("change", [{"num_frames": 0}, {"height": -1}, {"without": 9}, {"without": 0}])
def test_mistakes_are_told_in_one_line(change):
    with pytest.raises(InputError) as error:
        render_clip(0, **{**SIZE, **change})
    assert "\n" not in str(error.value)
