"""Projects of the app: uploads, what is said about objects and answered at once, uploaded masks, the hole."""

import os
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from videopainter.app.jobs import JobStatus
from videopainter.app.masking import MaskShape
from videopainter.app.options import AppOptions
from videopainter.app.projects import Projects
from videopainter.app.ui.frames import answer_picture
from videopainter.app.ui.views import first_frame_pictures
from videopainter.data.images import write_image
from videopainter.data.synthetic.scenes import render_clip
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError

LENGTH, HEIGHT, WIDTH = 8, 96, 160


def overlap(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def write_video(path, frames):
    with VideoWriter(path, fps=Fraction(8)) as writer:
        writer.write(frames)
    return path


@pytest.fixture(scope="module")
def scene():
    clip = render_clip(102, num_frames=LENGTH, height=HEIGHT, width=WIDTH)
    largest = np.bincount(clip.masks[0].ravel())[1:].argmax() + 1
    return clip.frames, clip.masks == largest


@pytest.fixture(scope="module")
def video(scene, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "scene.mp4", scene[0])


@pytest.fixture
def projects(tmp_path):
    return Projects(tmp_path / "app", AppOptions(max_frames=40, max_side=512))


@pytest.fixture
def project(projects, video):
    project = projects.new()
    project.set_video(video, "my scene.mp4")
    return project


def test_a_box_is_answered_for_its_frame_at_once_and_nothing_tracked(project, scene):
    project.shape(MaskShape(grow=0))
    mask = project.box(1, 3, *box_of(scene[1][3]))
    assert overlap(mask, scene[1][3]) > 0.9
    (thing,) = project.objects
    assert (thing.id, thing.tracked, thing.unsure) == (1, 0, [])
    assert [state.state for state in project.timeline()] == ["none"] * LENGTH
    assert not project.hole(5).any(), "nothing is known of another frame"
    project.session.track(1)
    assert project.objects[0].tracked == LENGTH
    assert overlap(project.hole(5), scene[1][5]) > 0.9
    assert {state.state for state in project.timeline()} <= {"sure", "unsure"}


def test_a_correction_is_answered_and_its_surroundings_are_to_be_tracked_again(project, scene):
    project.box(1, 0, *box_of(scene[1][0]))
    project.session.track(1)
    before = project.hole(6)
    x, y = (int(v) for v in np.argwhere(before).mean(0)[::-1])
    project.stroke(1, 6, [(x - 6, y), (x + 6, y)], positive=False)
    assert not project.hole(6)[y, x] and before[y, x]
    assert project.objects[0].tracked == 4, "frames nearer to the correction than to the first prompt"
    project.undo(1)
    assert project.objects[0].tracked == LENGTH
    np.testing.assert_array_equal(project.hole(6), before)
    project.undo(1)
    assert not project.objects


def test_what_points_at_nothing_leaves_everything_as_it_was(project, scene):
    project.box(1, 0, *box_of(scene[1][0]))
    for wrong in (
        lambda: project.point(1, 0, 400, 10),
        lambda: project.point(1, LENGTH, 4, 4),
        lambda: project.point(1, 5, 4, 4, positive=False),
        lambda: project.point(0, 0, 4, 4),
        lambda: project.box(1, 0, 5, 5, 5, 5),
        lambda: project.stroke(1, 0, []),
        lambda: project.point(1, 0, float("nan"), 4),
        lambda: project.words(2, 0, "a ball"),
        lambda: project.paint(2, 0, np.zeros((HEIGHT, WIDTH), bool)),
    ):
        with pytest.raises(InputError) as error:
            wrong()
        assert "\n" not in str(error.value) and str(project.folder) not in str(error.value)
        (thing,) = project.objects
        assert len(thing.prompts) == 1


def test_all_is_there_again_when_a_project_is_opened_anew(project, projects, scene):
    project.box(1, 0, *box_of(scene[1][0]))
    project.rename(1, "")
    assert project.objects[0].name == "Object 1"
    project.rename(1, " <b>ball</b>\n")
    assert project.objects[0].name == "<b>ball</b>"
    project.shape(MaskShape(grow=4, shape="box"))
    project.set_range(0, 6)
    again = Projects(projects.root, projects.options).open(project.id)
    assert again.video == project.video and again.video.name == "my scene.mp4"
    assert again.objects == project.objects and again.mask_shape == project.mask_shape
    assert (again.range.start, again.range.stop) == (0, 6)
    np.testing.assert_array_equal(again.hole(0), project.hole(0))
    assert project.preview(0, 80).shape == (48, 80, 3)


def test_the_hole_is_shaped_as_a_run_shapes_it(project, scene):
    project.paint(1, 0, scene[1][0])
    exact = project.hole(0) if project.shape(MaskShape(grow=0)) is None else None
    assert overlap(exact, scene[1][0]) > 0.95
    project.shape(MaskShape(grow=0, shape="box"))
    x0, y0, x1, y1 = box_of(exact)
    box = project.hole(0)
    assert box.sum() == (x1 - x0) * (y1 - y0)
    project.shape(MaskShape(grow=0, shape="box", invert=True))
    np.testing.assert_array_equal(project.hole(0), ~box)
    project.shape(MaskShape(grow=5))
    assert project.hole(0).sum() > exact.sum()
    with pytest.raises(InputError, match="grow: expected"):
        MaskShape(grow=-1)


def test_another_video_forgets_masks_the_same_one_does_not(project, scene, tmp_path, video):
    project.box(1, 0, *box_of(scene[1][0]))
    project.set_video(video, "again.mp4")
    assert len(project.objects) == 1
    project.set_video(write_video(tmp_path / "other.mkv", scene[0][:5, ::-1]))
    assert not project.objects and project.video.frames == 5 and project.range.stop == 5


def test_work_and_the_video_that_it_is_of_are_known(project, scene, tmp_path, video):
    other = write_video(tmp_path / "other.mp4", scene[0][:4])
    assert project.is_of(video) and not project.is_of(other) and not project.has_work
    project.box(1, 0, *box_of(scene[1][0]))
    assert project.has_work


@pytest.mark.parametrize("frame", [float("inf"), float("nan"), "x", [1], {}, 10**30, -1, LENGTH])
def test_a_picture_of_no_frame_is_answered_in_a_line(frame, project, projects):
    for view in ("mask", "original", "result"):
        answer = answer_picture(projects, {"project": project.id, "frame": frame, "view": view})
        if frame != {}:  # none is said: the first
            assert list(answer) == ["error"] and answer["error"] and "\n" not in answer["error"]


def test_a_page_with_another_video_than_the_projects_is_told(project, projects, scene, tmp_path):
    asked = {"project": project.id, "frame": 0, "token": project.video_file.name}
    assert "src" in answer_picture(projects, asked) and "src" in answer_picture(projects, asked | {"token": None})
    project.set_video(write_video(tmp_path / "other.mp4", scene[0][:4]))
    assert "reload" in answer_picture(projects, asked)["error"]


def test_an_uploaded_mask_counts_in_place_of_objects(project, scene, tmp_path):
    project.shape(MaskShape(grow=0))
    write_image(tmp_path / "mask.png", scene[1][0].astype(np.uint8) * 255)
    project.set_mask(tmp_path / "mask.png", "../../mask.png")
    np.testing.assert_array_equal(project.hole(5), scene[1][0])
    assert {state.state for state in project.timeline()} == {"sure"}
    np.savez(tmp_path / "ids.npz", scene[1].astype(np.uint8))
    project.set_mask(tmp_path / "ids.npz")
    np.testing.assert_array_equal(project.hole(5), scene[1][5])
    project.set_range(2, 5)
    np.savez(tmp_path / "part.npz", scene[1][2:5].astype(np.uint8))
    project.set_mask(tmp_path / "part.npz")
    np.testing.assert_array_equal(project.hole(4), scene[1][4])
    with pytest.raises(InputError, match="masks: expected 4"):
        project.set_range(1, 5)
    wrong = {"size.png": np.full((90, 90), 255, np.uint8), "empty.png": np.zeros((HEIGHT, WIDTH), np.uint8)}
    for name, pixels in wrong.items():
        write_image(tmp_path / name, pixels)
        with pytest.raises(InputError, match=r"frames' shape|empty mask"):
            project.set_mask(tmp_path / name)
    np.testing.assert_array_equal(project.hole(4), scene[1][4], "the mask before is kept")
    project.set_mask(None)
    assert not project.hole(4).any()


def still(frames, height, width):
    """Noise that does not move, with a square on it that does."""
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(60, 120, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    out = np.repeat(noise[None], frames, axis=0)
    for t in range(frames):
        x = width // 8 + (t * width // 200) % (width // 2)
        out[t, height // 4 : height // 2, x : x + width // 4] = (230, 60, 40)
    return out


def test_portrait_long_large_and_single_pictures(tmp_path):
    projects = Projects(tmp_path / "app", AppOptions())
    sizes = {"portrait": (5, 96, 56), "long": (200, 48, 64), "large": (1, 2160, 3840)}
    for name, (frames, height, width) in sizes.items():
        project = projects.new()
        project.set_video(write_video(tmp_path / f"{name}.mp4", still(frames, height, width)))
        seen = project.video
        assert (seen.frames, seen.height, seen.width) == (frames, height, width)
        assert project.preview(frames - 1, width // 2).shape[:2] == (height // 2, width // 2)
        x = width // 8 + width // 10
        mask = project.box(1, 0, width // 8 - 4, height // 4 - 4, width // 8 + width // 4 + 4, height // 2 + 4)
        assert mask.shape == (height, width) and mask[height * 3 // 8, x] and not mask[4, 4]
        assert max(project.work_frames.height, project.work_frames.width) <= 1920
    image = projects.new()
    write_image(tmp_path / "one.png", still(1, 64, 96)[0])
    assert image.set_video(tmp_path / "one.png").frames == 1
    assert image.box(1, 0, 10, 14, 40, 36).any()
    image.session.track(1)
    image.check_masks()


def test_two_browsers_on_one_project_lose_nothing_that_either_said(project, scene):
    project.paint(1, 0, scene[1][0])
    y, x = np.argwhere(scene[1][0])[0]

    def say(positive):
        for k in range(4):
            project.stroke(1, 0, [(x + k, y), (x + k + 1, y)], positive)

    threads = [threading.Thread(target=say, args=(positive,)) for positive in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(project.objects[0].prompts) == 9


def bad_uploads(folder, scene):
    text = folder / "text.mp4"
    text.write_text("no video at all\n" * 40)
    empty = folder / "empty.mp4"
    empty.write_bytes(b"")
    playlist = folder / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    concat = folder / "concat.mp4"
    concat.write_text(f"ffconcat version 1.0\nfile '{folder / 'long.mp4'}'\n")
    long = write_video(folder / "long.mp4", np.repeat(scene[0], 6, axis=0))
    wide = write_video(folder / "wide.mkv", np.zeros((1, 16, 600, 3), np.uint8))
    cut = folder / "cut.mp4"
    cut.write_bytes(long.read_bytes()[:3000])
    huge = folder / "huge.png"
    write_image(huge, np.zeros((10_000, 10_000), np.uint8))
    return {
        text: "no video",
        empty: "an empty file",
        playlist: "no video",
        concat: "no video",
        long: "at most 40 frames, got 48",
        wide: "at most 512 pixels, got 600x16",
        cut: "cut off",
        huge: "got ",
        folder / "none.mp4": "expected a file, got none",
    }


def test_bad_uploads_are_told_in_a_line_and_leave_nothing(projects, scene, tmp_path):
    project = projects.new()
    for path, said in bad_uploads(tmp_path, scene).items():
        with pytest.raises(InputError, match=said) as error:
            project.set_video(path, f"../../{path.name}")
        assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value), path.name
        assert path.name in str(error.value)
        assert project.video is None and not list(project.folder.iterdir())
    with pytest.raises(InputError, match="expected one to be uploaded first"):
        project.point(1, 0, 1, 1)


def test_pictures_are_named_by_the_app_and_masks_checked_alike(project, scene, tmp_path):
    write_image(tmp_path / "own.png", scene[0][0])
    name = project.add_picture(tmp_path / "own.png", "../../own.png")
    np.testing.assert_array_equal(np.asarray(Image.open(project.picture(name))), scene[0][0])
    (tmp_path / "text.png").write_text("no picture")
    write_image(tmp_path / "tall.png", np.zeros((200, 20, 3), np.uint8))
    for path in ("text.png", "tall.png", "none.png", "x.mp4"):
        with pytest.raises(InputError, match=r"picture: expected|image: expected|video: expected"):
            project.add_picture(tmp_path / path)
    for wrong in ("..", "../own", f"{name}.png", "", "a/b", "/etc/passwd", "x" * 99):
        with pytest.raises(InputError, match="name of a picture"):
            project.picture(wrong)
    assert [one["key"] for one in first_frame_pictures(project, [], name)["items"]] == [name]
    gone = JobStatus(id="1", project=project.id, kind="first_frames", answer={"names": ["gone", name]})
    assert [one["key"] for one in first_frame_pictures(project, [gone], "")["items"]] == [name, name]
    for path in ("text.png", "none.png"):
        with pytest.raises(InputError, match="expected"):
            project.set_mask(tmp_path / path)
    (tmp_path / "text.npz").write_bytes(b"no zip")
    np.save(tmp_path / "huge.npy", np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (3, 900, 10), (0, 0, 0)))
    for path, said in (("text.npz", "mask"), ("huge.npy", "at most 512 pixels")):
        with pytest.raises(InputError, match=said):
            project.set_mask(tmp_path / path)


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a" * 23, "A" * 24, "a" * 24, "/etc/passwd", "a" * 23 + "/", "a" * 24 + "\n", None, 7]
)
def test_ids_that_this_app_did_not_give_are_refused(name, projects):
    with pytest.raises(InputError, match="project: expected"):
        projects.open(name)


def test_projects_do_not_see_each_other_and_idle_ones_go(projects, video, scene):
    one, other = projects.new(), projects.new()
    one.set_video(video)
    assert one.id != other.id and other.video is None
    other.set_video(video)
    name = one.keep_picture(scene[0][0], "own_1")
    for wrong in (name, f"../../{one.id}/pictures/{name}"):
        with pytest.raises(InputError, match="name of a picture of this project"):
            other.picture(wrong)
    assert one.picture(name).is_relative_to(one.folder) and not other.objects
    assert projects.open(one.id) is one
    assert set(projects.clean(1000)) == set()
    assert set(projects.clean(-1)) == {one.id, other.id}
    with pytest.raises(InputError, match="gone or never was"):
        projects.open(one.id)


def test_a_browser_has_its_own_projects_on_its_shelf_and_no_others(projects, video, scene, tmp_path):
    one, other, bare = projects.new(), projects.new(), projects.new()
    one.set_video(video, "one.mp4")
    other.set_video(write_video(tmp_path / "other.mp4", scene[0][:4]), "other.mp4")
    browser = projects.shelf.put("", one.id)
    assert projects.shelf.put(browser, bare.id) == browser == projects.shelf.put(browser, one.id)
    stranger = projects.shelf.put("not an id", other.id)
    assert stranger not in (browser, "not an id")
    os.utime(one.folder, (0, 0))
    (card,) = projects.cards(browser)
    assert (card.id, card.name, card.frames, card.results) == (one.id, "one.mp4", LENGTH, 0)
    assert Image.open(card.cover).size == (WIDTH, HEIGHT) and one.folder.stat().st_mtime == 0, "to look is no use"
    assert [one.id for one in projects.cards(stranger)] == [other.id]
    for wrong in ("", "a" * 24, f"../projects/{one.id}/project", None, 7):
        assert projects.cards(wrong) == []
        with pytest.raises(InputError, match="not there any more"):
            projects.own(wrong, one.id)
    with pytest.raises(InputError, match="not there any more"):
        projects.own(stranger, one.id)
    assert projects.own(browser, one.id) is one
    projects.remove(one.id)
    assert not one.folder.exists() and projects.cards(browser) == [] and other.video is not None
    with pytest.raises(InputError, match="gone or never was"):
        projects.remove(one.id)
    projects.clean(-1)
    assert not list((projects.root / "browsers").iterdir())


def test_a_forgotten_object_does_not_come_back_as_the_next_one(project, scene):
    project.shape(MaskShape(grow=0))
    project.box(1, 0, *box_of(scene[1][0]))
    project.session.track(1)
    assert project.hole(6).any()
    project.forget(1)
    project.box(1, 0, *box_of(scene[1][0]))
    assert not project.hole(6).any(), "nothing was tracked of this one"


def test_a_small_picture_of_the_video_before_is_not_kept_for_the_next(project, scene, tmp_path):
    other = write_video(tmp_path / "other.mkv", 255 - scene[0])
    work, taken = project.work_frames, threading.Event()
    read, begun = work.read, threading.Event()

    def slow(start, stop):
        pixels = read(start, stop)
        begun.set()
        assert taken.wait(20)
        return pixels

    work.read = slow
    shows = threading.Thread(target=project.frame, args=(3, WIDTH))
    shows.start()
    assert begun.wait(20)
    project.set_video(other)
    taken.set()
    shows.join()
    shown = project.frame(3, WIDTH).astype(int)
    assert np.abs(shown - (255 - scene[0][3])).mean() < 20


def test_values_of_another_kind_are_told_in_a_line_and_change_nothing(project, scene):
    project.box(1, 0, *box_of(scene[1][0]))
    wrong = {
        "range: expected a whole number": lambda: project.set_range(1.2, 1.9),
        "frame: expected a whole number": lambda: project.point(1, 0.5, 30, 20),
        "frame: expected a whole number, got nan": lambda: project.frame(float("nan")),
        "object: expected a whole number, got '1'": lambda: project.point("1", 0, 30, 20),
        "object: expected a whole number, got 1.5": lambda: project.point(1.5, 0, 30, 20),
        "object: expected a whole number, got \\[1": lambda: project.undo([1]),
        "place: expected a number, got 'x'": lambda: project.point(1, 0, "x", 20),
        "place: expected a number, got 1000": lambda: project.point(1, 0, 10**400, 20),
        "box: expected a number, got None": lambda: project.box(1, 0, None, 2, 3, 4),
        "stroke: expected places of two numbers": lambda: project.stroke(1, 0, [[1]]),
        "stroke: expected 1 to 4000 places": lambda: project.stroke(1, 0, 7),
        "words: expected a text, got 7": lambda: project.words(1, 0, 7),
        "grow: expected a whole number, got 'x'": lambda: project.shape(MaskShape(grow="x")),
        "invert: expected true or false": lambda: project.shape(MaskShape(invert=1)),
    }
    for said, call in wrong.items():
        with pytest.raises(InputError, match=said) as error:
            call()
        assert "\n" not in str(error.value)
    assert [len(thing.prompts) for thing in project.objects] == [1]
    project.set_range(1.0, 4.0)
    assert (project.range.start, project.range.stop) == (1, 4)


def test_every_id_of_an_array_is_the_hole_and_pictures_are_called_so(project, scene, tmp_path):
    ids = np.where(scene[1], 7, 0).astype(np.int16)
    ids[:, :4, :6] = 2
    ids[:, -2:] = -1
    np.savez(tmp_path / "ids.npz", ids)
    project.shape(MaskShape(grow=0))
    project.set_mask(tmp_path / "ids.npz")
    np.testing.assert_array_equal(project.hole(5), ids[5] > 0)
    np.save(tmp_path / "ids.npy", ids)
    project.set_mask(tmp_path / "ids.npy", mask_id=2)
    assert project.hole(5).sum() == 24
    write_image(tmp_path / "wide.png", np.zeros((50, 600, 3), np.uint8))
    with pytest.raises(InputError, match=r"^picture: expected sides of at most 512 pixels, got 600x50, in wide\.png$"):
        project.add_picture(tmp_path / "wide.png")
