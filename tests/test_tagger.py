"""Words to look for that nobody typed: which answers are names of things, and the way from one to masks."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_text_prompts import grounding_dino  # noqa: F401 (a fixture)

from videopainter.captions.answers import UnusableAnswer, check_answer, plain, things_of
from videopainter.captions.pictures import evenly_shown
from videopainter.captions.questions import ask_for_things
from videopainter.cli.preparation.build_vpdata import build_vpdata
from videopainter.data.clip import ArrayFrames
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError


@pytest.mark.parametrize(
    ("text", "things"),
    [
        ("dog, red car", ["dog", "red car"]),
        ('{"answer": "A dog, the red car."}', ["dog", "red car"]),
        ('{"answer": ["dog", "red car"]}', ["dog", "red car"]),
        ('["dog", "red car"]', ["dog", "red car"]),
        ("Here are the things:\n1. Dog\n2. Red car", ["dog", "red car"]),
        ("- dog\n- red car\n", ["dog", "red car"]),
        ("Two dogs; dog, DOG and grass", ["dogs", "grass"]),
        ("dog, cat, cow, fox", ["dog", "cat", "cow"]),
        ("glass, glasses, bus", ["glass", "glasses", "bus"]),
        ("traffic light, man's hat", ["traffic light", "man's hat"]),
        ("Nothing.", []),
        ("none", []),
    ],
)
def test_names_are_found_in_what_models_write(text, things):
    question = ask_for_things([], 3)
    told = plain(text, listed=True)
    check_answer(question, told)
    assert things_of(told, 3) == things


@pytest.mark.parametrize(
    "text",
    ["", "I see a dog in a park", "dog, a man who walks his dog", "dog, 42", "I'm sorry, I can't.", "<dog>", "cat.dog"],
)
def test_what_names_no_things_is_asked_for_again(text):
    with pytest.raises(UnusableAnswer):
        check_answer(ask_for_things([], 6), plain(text, listed=True))


def test_a_few_frames_are_shown():
    frames = ArrayFrames(np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3))
    assert [int(picture[0, 0, 0]) for picture in evenly_shown(frames)] == [1, 3, 5, 7]
    assert len(evenly_shown(ArrayFrames(np.zeros((2, 8, 8, 3), np.uint8)))) == 2


def write_square(file: Path) -> None:
    """A light square that moves over a pattern; wide, as the detector looks at pictures 800 pixels high if it may."""
    wide = np.random.default_rng(0).integers(20, 120, (20, 40, 3), dtype=np.uint8)
    wide = cv2.resize(wide, (300, 32), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([wide[:, k : k + 256] for k in range(12)])
    for k, frame in enumerate(frames):
        frame[8:24, 10 + 3 * k : 40 + 3 * k] = 230
    with VideoWriter(file, fps=8, threads=1) as writer:
        writer.write(frames)


def test_things_that_a_model_names_are_found_and_followed(grounding_dino, tmp_path):  # noqa: F811
    """The detector's random weights find no square, but what they find goes the whole way, with its word."""
    pytest.importorskip("scenedetect", reason="finds scenes; make setup EXTRAS=data")
    (tmp_path / "raw").mkdir()
    write_square(tmp_path / "raw" / "v.mp4")
    answers, work = tmp_path / "answers.json", tmp_path / "out" / "work"
    lax = {"min_presence": 0, "min_area": 0, "max_area": 1, "max_area_change": 1, "max_unsure": 1, "min_sharpness": 0}
    lax |= {"clip_seconds": 2, "min_clip_seconds": 1, "objects_per_clip": 1, "processes": 1, "until": "objects"}
    given = {"videos": tmp_path / "raw", "output_dir": tmp_path / "out", **lax, "text_model": grounding_dino}
    given |= {"tagger": "llm", "llm_model": f"replay:{answers}"}
    flags = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    for told, done in (("1. Light square\n2. Light squares\n", None), ("a square", {"split": 1, "cut": 1, "track": 0})):
        answers.write_text(json.dumps([{"kind": "things", "text": told}]))
        assert build_vpdata(flags) == 0
        found = {report["stage"]: report for report in json.loads((work / "stages.json").read_text())}
        assert done is None or {name: found[name]["done_before"] for name in done} == done
        assert found["tag"]["out"] == found["rules"]["out"] == 1
        (record,) = (json.loads(file.read_text()) for file in (work / "objects").rglob("*.json"))
        assert record["rows"][0]["word"] == ("light square" if done is None else "square")
    answers.write_text(json.dumps([{"kind": "things", "text": "nothing"}]))
    assert build_vpdata(flags) == 0
    assert "tag,v-000,no object,none is named" in (work / "dropped.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tagger", "llm"], "--tagger llm: expected an --llm_model that sees pictures"),
        (["--tagger", "llm", "--words", "dog"], "--words: expected none with --tagger llm"),
        (["--tagger", "llm", "--llm_model", "replay:nowhere.json"], "nowhere.json"),
    ],
)
def test_mistakes_are_told_first(grounding_dino, tmp_path, flags, message):  # noqa: F811
    pytest.importorskip("scenedetect", reason="finds scenes; make setup EXTRAS=data")
    fixed = ["--videos", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--text_model", str(grounding_dino)]
    with pytest.raises(InputError, match=message):
        build_vpdata([*fixed, *flags])
    assert not (tmp_path / "out").exists()
