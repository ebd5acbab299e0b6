"""Masks from boxes, clicks and strokes: on scenes whose masks are known exactly."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from videopainter.cli.segment import segment
from videopainter.data.clip import ArrayFrames
from videopainter.data.masks.opening import open_masks
from videopainter.data.synthetic.scenes import render_clip
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.segmentation.builtin import BuiltinSegmenter
from videopainter.segmentation.prompts import (
    BoxPrompt,
    ObjectOptions,
    PointPrompt,
    StrokePrompt,
    TrackedObject,
    parse_objects,
    parse_range,
)
from videopainter.segmentation.segmenter import FrameView
from videopainter.segmentation.session import Session
from videopainter.segmentation.tracker import solving

LENGTH = 8


def overlap(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def box_of(mask, frame=0):
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = (int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return BoxPrompt(frame=frame, x0=x0, y0=y0, x1=x1, y1=y1)


@pytest.fixture(scope="module")
def scene():
    clip = render_clip(102, num_frames=LENGTH, height=96, width=160)
    largest = np.bincount(clip.masks[0].ravel())[1:].argmax() + 1
    return clip.frames, clip.masks == largest


@pytest.fixture(scope="module")
def video(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "scene.mkv"
    with VideoWriter(path, fps=Fraction(8), lossless=True) as writer:
        writer.write(scene[0])
    return path


def session_of(folder, scene, prompt):
    session = Session.open(folder, "scene", ArrayFrames(scene[0]))
    session.put(TrackedObject(id=1, prompts=(prompt,)))
    return session


def test_a_frame_is_looked_around_once_and_that_of_another_video_anew(scene, monkeypatch):
    looked, look_around = [], solving.look_around
    monkeypatch.setattr(solving, "look_around", lambda *how: looked.append(how) or look_around(*how))
    y, x = np.argwhere(scene[1][0]).mean(0)
    click = [PointPrompt(frame=0, x=float(x), y=float(y))]
    segmenter, others = BuiltinSegmenter(), 255 - scene[0]
    views = [FrameView(read=frames.__getitem__, number=0, length=LENGTH) for frames in (scene[0], others)]
    solved = [segmenter.solve(view, click) for view in views]
    assert len(looked) == 2
    choices = [segmenter.choices(view, click) for view in views]
    assert len(looked) == 2 and len(choices[0]) > 1
    for view, mask, chosen in zip(views, solved, choices, strict=True):
        anew = BuiltinSegmenter()
        np.testing.assert_array_equal(anew.choices(view, click), chosen)
        np.testing.assert_array_equal(anew.solve(view, click), mask)
    assert overlap(segmenter.choices(views[0], [replace(click[0], x=5.0, y=5.0)])[0], choices[0][0]) < 0.5


def test_a_box_is_tracked_both_ways(scene, tmp_path):
    frames, truth = scene
    session = session_of(tmp_path / "s", scene, box_of(truth[4], frame=4))
    assert session.track(1)
    masks = session.masks().read(0, LENGTH)
    tracked = [overlap(mask, true) for mask, true in zip(masks, truth, strict=True)]
    assert min(tracked) > 0.9 > min(overlap(truth[4], true) for true in truth), "a mask kept still is worse"


def test_a_stopped_session_goes_on_to_the_same_masks(scene, tmp_path):
    whole = session_of(tmp_path / "whole", scene, box_of(scene[1][0]))
    whole.track(1)
    stopped = session_of(tmp_path / "stopped", scene, box_of(scene[1][0]))
    assert not stopped.track(1, progress=lambda done, total, frame: done < 4)
    again = Session.open(tmp_path / "stopped", "scene", ArrayFrames(scene[0]))
    assert set(again.store(1).records) == {0, 1, 2, 3}
    made = []
    assert again.track(1, progress=lambda done, total, frame: made.append(frame))
    np.testing.assert_array_equal(again.masks().read(0, LENGTH), whole.masks().read(0, LENGTH))
    made.clear()
    again.track(1, progress=lambda done, total, frame: made.append(frame))
    assert not made


def test_checkpoints_change_nothing(scene, tmp_path, monkeypatch):
    plain = session_of(tmp_path / "plain", scene, box_of(scene[1][0]))
    plain.track(1)
    monkeypatch.setattr("videopainter.segmentation.session._CHECKPOINT_EVERY", 3)
    stopped = session_of(tmp_path / "stopped", scene, box_of(scene[1][0]))
    stopped.track(1, progress=lambda done, total, frame: done < 5)
    made = []
    stopped.track(1, progress=lambda done, total, frame: made.append(frame))
    assert made[0] == 3, "goes on from the checkpoint after frame 2"
    np.testing.assert_array_equal(stopped.masks().read(0, LENGTH), plain.masks().read(0, LENGTH))


class CountedFrames(ArrayFrames):
    """How many frames were asked for at once, at most."""

    most = 0

    def read(self, start, stop):
        self.most = max(self.most, stop - start)
        return super().read(start, stop)


def test_memory_does_not_hang_on_the_length(scene, tmp_path):
    frames = CountedFrames(np.concatenate([scene[0], scene[0][::-1]] * 2))
    session = Session.open(tmp_path / "s", "scene", frames)
    session.put(TrackedObject(id=1, prompts=(box_of(scene[1][0], frame=20),)))
    follower = session.segmenter.follower()
    session.segmenter.follower = lambda: follower
    sizes = []

    def held(done, total, frame):
        sizes.append(sum(array.nbytes for array in follower.state().values()))

    session.track(1, progress=held)
    assert len(sizes) == 32 and frames.most <= 16
    assert max(sizes[22:]) <= 1.05 * max(sizes[12:22]), "no more after more frames"


def test_a_correction_solves_its_frame_and_keeps_what_is_nearer_to_the_first(scene, tmp_path):
    session = session_of(tmp_path / "s", scene, box_of(scene[1][0]))
    session.track(1)
    before = session.masks().read(0, LENGTH)
    rows, columns = np.nonzero(before[6])
    x, y = int(np.median(columns)), int(np.median(rows))
    session.add(1, StrokePrompt(frame=6, places=((x - 4, y), (x + 4, y)), positive=False))
    session.track(1)
    after = session.masks().read(0, LENGTH)
    assert before[6][y, x - 3 : x + 4].all() and not after[6][y, x - 3 : x + 4].any()
    np.testing.assert_array_equal(before[:4], after[:4])


def test_clicks_offer_masks_of_different_sizes(scene, tmp_path):
    rows, columns = np.nonzero(scene[1][0])
    point = PointPrompt(frame=0, x=float(np.median(columns)), y=float(np.median(rows)))
    session = session_of(tmp_path / "s", scene, point)
    choices = session.choices(1)
    assert 1 <= len(choices) <= 3
    assert max(overlap(choice, scene[1][0]) for choice in choices) > 0.8
    assert all(overlap(a, b) < 0.8 for k, a in enumerate(choices) for b in choices[:k])


def test_the_door_writes_masks_that_inpainting_reads(scene, video, tmp_path, capsys):
    box = box_of(scene[1][2])
    flags = ["--video", str(video), "--range", "2:7", "--quiet", "--output"]
    where = [f"--box={box.x0},{box.y0},{box.x1},{box.y1}", "--object", "9: box 0,80,160,96,all"]
    frames = ArrayFrames(scene[0][2:7])
    kept = None
    for name in ("m.npz", "m.mkv", "folder"):
        assert segment([*flags, str(tmp_path / name), "--session", str(tmp_path / "session"), *where]) == 0
        if name == "m.npz":
            masks = open_masks(tmp_path / name, frames=frames, mask_id=1).read(0, 5)
            assert overlap(masks, scene[1][2:7]) > 0.75
            kept = masks | open_masks(tmp_path / name, frames=frames, mask_id=9).read(0, 5)
            assert kept[:, 80:].all()
        elif name == "folder":
            np.testing.assert_array_equal(open_masks(tmp_path / name, frames=frames).read(0, 5), kept)
        else:
            assert (open_masks(tmp_path / name, frames=frames).read(0, 5) == kept).mean() > 0.99
    assert "5 frames, 2 object(s)" in capsys.readouterr().out
    assert len(open_video(video)) == LENGTH


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--box=200,10,300,50"], "expected a box inside a picture of 160x96"),
        (["--box=50,10,20,50"], "expected X0 < X1"),
        (["--point=300,5"], "expected points inside"),
        (["--point=30"], "expected X,Y"),
        (["--point=3,4,99"], "expected frames within 0:8, got 99"),
        (["--negative_point=3,4"], "got exclusions alone"),
        (["--box=1,1,50,50", "--range", "3:99"], "--range: expected START < STOP within 0:8"),
        (["--text", "a car"], "download_weights.py grounding-dino"),
        (["--box=1,1,50,50", "--segmenter", "sam2"], "download_weights.py sam2"),
        (["--box=1,1,50,50", "--segmenter", "sam3"], "download_weights.py sam3"),
        (["--box=1,1,50,50", "--segmenter", "no/such/folder"], "expected a folder, a hub id or one of builtin"),
        (["--box=1,1,50,50", "--segmenter", "none.pt"], "no such file"),
        (["--object", "0: box 1,1,9,9"], "ID of 1 to 254"),
        (["--object", "2: blob 1,1"], "expected one of box, point"),
        ([], "what is to be masked?"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_nothing_written(flags, said, video, tmp_path):
    with pytest.raises(InputError, match=r".") as error:
        segment(["--video", str(video), "--output", str(tmp_path / "m.npz"), *flags])
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_click_on_nothing_is_told_and_leaves_nothing(tmp_path):
    with VideoWriter(tmp_path / "grey.mkv", fps=Fraction(8), lossless=True) as writer:
        writer.write(np.full((6, 96, 160, 3), 128, np.uint8))
    flags = ["--video", str(tmp_path / "grey.mkv"), "--output", str(tmp_path / "m.npz"), "--quiet"]
    with pytest.raises(InputError, match="frame 0: expected an object at the prompts, found nothing there"):
        segment([*flags, "--point", "80,40"])
    with pytest.raises(InputError, match="found nothing there"):
        segment([*flags, "--box", "10,10,90,60", "--object", "2: point 80,40,3"])
    assert [file.name for file in tmp_path.iterdir()] == ["grey.mkv"]


def test_a_session_of_another_video_is_refused(scene, tmp_path):
    session_of(tmp_path / "s", scene, box_of(scene[1][0]))
    with pytest.raises(InputError, match="another's"):
        Session.open(tmp_path / "s", "other", ArrayFrames(scene[0][::-1]))
    changed = scene[0].copy()
    changed[1:] = 0
    with pytest.raises(InputError, match="another's: expected pictures"):
        Session.open(tmp_path / "s", "same beginning", ArrayFrames(changed))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "session.json").write_text('{"facts": [], "objects": []}')
    with pytest.raises(InputError, match="expected a session, got something that cannot be read"):
        Session.open(tmp_path / "broken", "scene", ArrayFrames(scene[0]))
    with pytest.raises(InputError, match="expected one of 1, got 3"):
        Session.open(tmp_path / "s", "scene", ArrayFrames(scene[0])).track(3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(InputError, match="new or empty folder"):
        Session.open(tmp_path / "full", "scene", ArrayFrames(scene[0]))


def test_flags_are_parsed_in_one_place():
    options = ObjectOptions(point=["3,4 5,6,7"], stroke=["1,2-3,4,5"], object=["2: box 1,2,3,4; point 2,3"])
    first, second = parse_objects(options, first_frame=2)
    assert first.prompts == (
        PointPrompt(frame=2, x=3, y=4),
        PointPrompt(frame=7, x=5, y=6),
        StrokePrompt(frame=5, places=((1, 2), (3, 4))),
    )
    assert second.id == 2 and second.frames == [2]
    assert [parse_range(text, 9, "v").stop for text in (None, "2:", ":4", "1:3")] == [9, 9, 4, 3]
