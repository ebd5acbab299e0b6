"""Clips with copied pixels: what is kept, resumed, painted, and told; the doors to it."""

import json
import tracemalloc

import cv2
import numpy as np
import pytest
from test_propagation import HEIGHT, HOLE, WIDTH, holes, panning

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip
from videopainter.data.images import write_image
from videopainter.data.panels import side_by_side
from videopainter.data.video.reader import VideoWriter, open_video
from videopainter.errors import InputError
from videopainter.propagation import seam
from videopainter.propagation.propagator import Filled
from videopainter.propagation.seam import Copies, SpreadMasks, one_latent, propagated
from videopainter.propagation.settings import PropagationSettings
from videopainter.runs.options import OutputOptions
from videopainter.runs.propagation import removal_defaults
from videopainter.runs.results.writers import BesideWriter

SETTINGS = PropagationSettings(reach=12)
LENGTH = 13


def clip(length: int = LENGTH) -> Clip:
    frames, masks = panning(5.0, length), holes(length)
    hidden = np.where(masks[..., None], np.uint8(255), frames)
    return Clip(name="pan", frames=ArrayFrames(hidden), masks=ArrayMasks(masks))


def everything(source) -> np.ndarray:
    return source.read(0, len(source))


def test_copied_pixels_are_in_the_frames_and_no_longer_in_the_masks(tmp_path):
    truth, given = panning(5.0), clip()
    result = propagated(given, tmp_path / "w", SETTINGS)
    frames, rest = everything(result.frames), everything(result.masks)
    holes_ = everything(given.masks)
    assert rest.sum() < 0.1 * holes_.sum() and not (rest & ~holes_).any()
    np.testing.assert_array_equal(frames[~holes_], truth[~holes_])
    copied = holes_ & ~rest
    assert (frames[rest] < 250).all()  # white in the input
    assert np.sqrt(((frames[copied].astype(float) - truth[copied]) ** 2).mean()) < 4
    np.testing.assert_array_equal(result.frames.read(5, 11), frames[5:11])
    np.testing.assert_array_equal(result.masks.read(5, 11), rest[5:11])
    facts = Copies(tmp_path / "w").facts()
    assert facts["hole_pixels"] == holes_.sum()
    assert facts["copied_pixels"] + facts["closed_pixels"] == copied.sum()
    assert 0 < facts["expected_error"] < 10


def test_it_goes_on_where_it_was_and_other_settings_begin_anew(tmp_path):
    whole = everything(propagated(clip(), tmp_path / "a", SETTINGS).frames)
    folder = tmp_path / "b"

    class Killed(Exception):
        pass

    def kill(done: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        propagated(clip(), folder, SETTINGS, on_frames=kill)
    (first,) = folder.glob("*.npz")
    before = first.stat().st_mtime_ns
    np.testing.assert_array_equal(everything(propagated(clip(), folder, SETTINGS).frames), whole)
    assert first.stat().st_mtime_ns == before
    propagated(clip(), folder, PropagationSettings(reach=10))
    assert first.stat().st_mtime_ns != before


def test_only_so_many_frames(tmp_path):
    result = propagated(clip(), tmp_path / "w", SETTINGS, most=1)
    assert result.masks.read(0, 1).sum() < holes()[0].sum()
    np.testing.assert_array_equal(result.masks.read(1, LENGTH), holes()[1:])
    np.testing.assert_array_equal(result.frames.read(1, LENGTH), clip().frames.read(1, LENGTH))


def test_specks_of_the_rest_are_closed_and_larger_parts_stay():
    hole = np.zeros((480, 720), bool)
    hole[100:200, 100:200] = True
    known = hole.copy()
    known[120:124, 120:124] = False  # 16 pixels
    known[150:180, 150:180] = False  # 900
    frame = np.full((480, 720, 3), 90, np.uint8)
    frame[hole & ~known] = 255
    result = seam._without_specks(
        Filled(frame=frame, known=known, error=np.zeros(hole.shape, np.float32)), hole, SETTINGS
    )
    assert result.known[120:124, 120:124].all() and not result.known[150:180, 150:180].any()
    assert (np.abs(result.frame[120:124, 120:124].astype(int) - 90) <= 1).all()
    np.testing.assert_array_equal(result.frame[150:180, 150:180], frame[150:180, 150:180])


def test_a_models_hole_is_united_over_a_latent_and_grown_within_the_hole():
    rest = np.zeros((10, 20, 30), bool)
    rest[6, 8, 12] = True
    within = np.zeros_like(rest)
    within[:, 5:12, 10:20] = True
    seen = SpreadMasks(ArrayMasks(rest), ArrayMasks(within), one_latent, 3)
    expected = np.zeros_like(rest)
    expected[5:9, 5:12, 10:16] = True
    np.testing.assert_array_equal(everything(seen), expected)
    np.testing.assert_array_equal(seen.read(7, 9), expected[7:9])
    assert [one_latent(t, 6) for t in range(6)] == [(0, 1), *[(1, 5)] * 4, (5, 6)]


def test_a_fifth_panel_shows_what_was_copied():
    frames, masks = np.full((1, 4, 6, 3), 100, np.uint8), np.zeros((1, 4, 6), bool)
    masks[0, :2] = True
    rest = masks.copy()
    rest[0, 0] = False
    row = side_by_side(frames, masks, frames, rest=rest)
    assert row.shape == (1, 4, 30, 3)
    green, magenta, plain = row[0, 0, 24], row[0, 1, 24], row[0, 3, 24]
    assert green[1] > green[0] and magenta[0] > magenta[1] and (plain == 100).all()


def test_a_comparison_wider_than_an_encoder_takes_is_shrunk(tmp_path):
    frames, masks = np.full((2, 18, 3840, 3), 90, np.uint8), np.zeros((2, 18, 3840), bool)
    masks[:, 4:12, :1920] = True
    given = Clip(name="4K", frames=ArrayFrames(frames), masks=ArrayMasks(masks))
    with BesideWriter(tmp_path / "result.mp4", given, OutputOptions(save_comparison=True), ArrayMasks(masks)) as beside:
        beside.write(frames)
    (file,) = tmp_path.iterdir()
    shown = open_video(file)
    assert (len(shown), shown.width, shown.height) == (2, 8192, 8)
    row = shown.read(1, 2)[0, 3].astype(int)
    assert row[500].max() > 80 and row[1638 + 400].max() < 30, "the hole of the second panel is black"


@pytest.fixture
def files(tmp_path):
    given = clip()
    with VideoWriter(tmp_path / "v.mp4", fps=8, crf=1) as writer:
        writer.write(everything(given.frames))
    write_image(tmp_path / "m.png", holes()[0].astype(np.uint8)[..., None].repeat(3, -1) * 255)
    return tmp_path


def remove(folder, *more: str) -> int:
    words = ["--remove", "--video", str(folder / "v.mp4"), "--mask", str(folder / "m.png"), "--lossless", "--quiet"]
    return inpaint(read_options([*words, "--output_path", str(folder / "r.mkv"), *more]))


def test_remove_needs_no_prompt_and_no_model(files, monkeypatch):
    assert remove(files, "--save_comparison", "--contact_sheet") == 0
    record = json.loads((files / "r.json").read_text())
    assert record["weights"] == {} and record["options"]["propagation"]["propagate"] == "only"
    assert record["propagation"]["copied_share"] > 0.8
    result, truth = everything(open_video(files / "r.mkv")), panning(5.0)
    inside = np.abs(result[6].astype(float) - truth[6])[HOLE]
    assert inside.mean() < 8  # white in the input
    assert open_video(files / "r_comparison.mp4").width == 5 * WIDTH
    assert not (files / "r.mkv.partial").exists()
    monkeypatch.setattr("videopainter.runs.propagation.propagated", None)
    assert remove(files) == 0  # finished already


def test_a_comparison_asked_for_later_has_all_panels(files):
    assert remove(files, "--save_comparison", "--contact_sheet") == 0
    made = files / "r_comparison.mp4", files / "r_contact_sheet.png"
    wanted = [file.read_bytes() for file in made]
    for file in made:
        file.unlink()
    before = sorted(file.name for file in files.iterdir())
    assert remove(files, "--save_comparison", "--contact_sheet") == 0
    assert [file.read_bytes() for file in made] == wanted
    assert sorted(file.name for file in files.iterdir()) == sorted([*before, made[0].name, made[1].name])


def peak_bytes(folder, length: int) -> int:
    """Of copying in a clip whose frames are drawn when they are read."""

    class Drawn(ArrayFrames):
        def __len__(self) -> int:
            return length

        def read(self, start: int, stop: int) -> np.ndarray:
            return np.stack([np.roll(self.frames[0], -3 * t, axis=1) for t in range(start, stop)])

    class Still(ArrayMasks):
        def __len__(self) -> int:
            return length

        def read(self, start: int, stop: int) -> np.ndarray:
            return self.masks * (np.arange(start, stop) % 8 == 0)[:, None, None]

    hole = np.zeros((1, 48, 72), bool)
    hole[0, 20:26, 30:36] = True
    given = Clip(name="drawn", frames=Drawn(panning(1.0, 1)[:, :48, :72]), masks=Still(hole))
    tracemalloc.start()
    try:
        propagated(given, folder, PropagationSettings(reach=4, most_sources=2, surroundings=8, flow="ultrafast"))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_length(tmp_path):
    short, long = (peak_bytes(tmp_path / str(length), length) for length in (50, 110))
    frame = 48 * 72 * 4
    assert short > 40 * frame  # the reach and what tells of motion, to both sides
    assert long < 1.1 * short


def test_a_killed_removal_goes_on_to_the_same_file(files, monkeypatch):
    assert remove(files) == 0
    wanted = (files / "r.mkv").read_bytes()
    (files / "r.mkv").unlink(), (files / "r.json").unlink()
    monkeypatch.setattr(seam, "_without_specks", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        remove(files)
    monkeypatch.undo()
    assert remove(files) == 0
    assert (files / "r.mkv").read_bytes() == wanted


def test_what_the_object_affects_goes_too(files):
    shadow = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shadow[80:90, 10:40] = 255
    write_image(files / "shadow.png", shadow)
    assert remove(files, "--affected", str(files / "shadow.png")) == 0
    hole = json.loads((files / "r.json").read_text())["propagation"]["hole_pixels"]
    assert hole > LENGTH * (36 * 30 + 10 * 30)
    read = ["--remove", "--inpainting_mask_meta", "x.csv", "--inpainting_sample_id", "0"]
    with pytest.raises(InputError, match="--affected: expected --video with it"):
        inpaint(read_options([*read, "--affected", str(files / "shadow.png"), "--output_path", str(files)]))


def test_a_shadow_is_proposed(files, capfd):
    """A box moves over the wall, with a shadow below that no mask covers; far away another thing changes."""
    frames, boxes, shadows = panning(1.0), [], []
    for t, frame in enumerate(frames):
        left = 20 + 8 * t
        box, shadow = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(2))
        box[30:50, left : left + 18], shadow[50:60, left : left + 18] = True, True
        frame[box] = (220, 200, 20)
        frame[shadow] = frame[shadow] * 0.5
        frame[4:12, 4 * t : 4 * t + 12] = 255
        boxes.append(box), shadows.append(shadow)
    with VideoWriter(files / "walk.mp4", fps=8, crf=1) as writer:
        writer.write(frames)
    for t, box in enumerate(boxes):
        write_image(files / f"boxes/{t:02d}.png", box[..., None].repeat(3, -1) * np.uint8(255))
    words = ["--remove", "--video", str(files / "walk.mp4"), "--mask", str(files / "boxes"), "--dilate_size", "0"]
    words += ["--propose_affected", str(files / "shadow.mp4"), "--quiet", "--output_path", str(files / "none.mp4")]
    assert inpaint(read_options(words)) == 0
    assert "--affected" in capfd.readouterr().err
    proposed, real = everything(open_video(files / "shadow.mp4"))[..., 0] > 127, np.stack(shadows)
    real[:, :52] = False  # the mask, grown, has that
    seen = slice(2, -2)
    assert (proposed & real)[seen].sum() > 0.8 * real[seen].sum()
    beside = np.stack(
        [cv2.dilate(s.view(np.uint8), np.ones((11, 11), np.uint8)) == 0 for s in np.stack(shadows) | np.stack(boxes)]
    )
    assert (proposed & beside)[seen].sum() < 0.05 * real[seen].sum()
    assert not proposed[:, :14].any() and not (files / "none.mp4").exists()
    with pytest.raises(InputError, match="is there already"):
        inpaint(read_options(words))
    assert not (files / "shadow.mp4.partial").exists()


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        (("--propose_affected", "v.mp4", "--overwrite"), "--propose_affected"),
        (("--affected", "r.mkv"), "--output_path"),
        (("--llm_model", "replay:r.json"), "--output_path"),
        (("--video", "r.json"), "--output_path"),
    ],
)
def test_no_input_is_replaced(flags, flag, files, monkeypatch):
    monkeypatch.chdir(files)
    (files / "r.json").write_text("[]")
    (files / "r.mkv").write_bytes((files / "v.mp4").read_bytes())
    before = {file.name: file.read_bytes() for file in files.iterdir()}
    with pytest.raises(InputError, match=f"{flag}: expected another (file|name)"):
        remove(files, "--overwrite", *flags)
    assert {file.name: file.read_bytes() for file in files.iterdir()} == before


def test_a_proposal_begins_anew_and_leaves_an_unfinished_result_alone(tmp_path, monkeypatch):
    """The proposal of another video was killed in the same place."""
    for name, side in (("large", 96), ("small", 64)):
        picture = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
        with VideoWriter(tmp_path / f"{name}.mkv", fps=8, lossless=True) as writer:
            writer.write(np.stack([picture] * 3))
        hole = np.zeros((side, side), np.uint8)
        hole[20:30, 20:30] = 255
        write_image(tmp_path / f"{name}.png", hole)

    def propose(name):
        words = ["--remove", "--video", str(tmp_path / f"{name}.mkv"), "--mask", str(tmp_path / f"{name}.png")]
        words += ["--quiet", "--output_path", str(tmp_path / "none.mp4")]
        return inpaint(read_options([*words, "--propose_affected", str(tmp_path / "p.mp4")]))

    window = tmp_path / "p.mp4.partial/windows/0.safetensors"
    window.parent.mkdir(parents=True)
    window.touch()
    with monkeypatch.context() as killed:
        killed.setattr("videopainter.runs.propagation._write", lambda *_: 1 / 0)
        killed.setattr("videopainter.runs.propagation.remove_folder", lambda _: None)
        with pytest.raises(ZeroDivisionError):
            propose("large")
    assert propose("small") == 0 and len(open_video(tmp_path / "p.mp4")) == 3
    assert [path.name for path in window.parents[1].iterdir()] == ["windows"] and window.exists()


def test_flags_of_ones_own_win_over_the_preset(tmp_path):
    own = ["--match_edges", "false", "--feather", "0", "--propagate", "off", "--prompt", "x"]
    for more, wanted in (
        ([], (True, 3, "only", removal_defaults({"remove": True})["prompt"])),
        (["--model_path", str(tmp_path)], (True, 3, "all", removal_defaults({"remove": True})["prompt"])),
        (own, (False, 0, "off", "x")),
    ):
        options = read_options(["--remove", *more])
        sampling, propagation = options.sampling, options.propagation
        got = (sampling.match_edges, sampling.feather, propagation.propagate, options.prompts.prompt)
        assert got == wanted
