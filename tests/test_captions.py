"""What a language model does here: which answers are usable, who answers, rules, replays, what is shown."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from caption_server import CAPTION, pictures
from conftest import moving_mask, noise_video

from videopainter.captions.answers import UnusableAnswer, check_answer, plain
from videopainter.captions.backends import asks_somebody, make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames, shown_regions
from videopainter.captions.questions import INSTRUCTION_KINDS, ask_for_region, ask_for_video
from videopainter.captions.template import kind_of, region, rewritten
from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip
from videopainter.errors import InputError

# ---- what an answer is


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "A red ball."}',
        '```json\n{"answer": "A red ball."}\n```',
        '"A red ball."',
        "Sure, here is the caption: A red ball.",
        "A red\n ball.",
        "<think>A ball, then.</think>\n\nA red ball.",
    ],
)
def test_the_caption_is_found_in_what_models_write(text):
    assert plain(text) == "A red ball."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ('{"answer": ""}', "empty"),
        ('{"caption": "A ball."}', "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I have no eyes.", "refusal"),
        (" ".join(["ball"] * 20), "20 words"),
        ("沙滩上的红色球", "English"),
        ("1234", "English"),
        ("A ball <|im_end|>", "plain text"),
        ('{"answer": null}', "empty"),
        ('{"answer": ["A ball"]}', "empty"),
        ("I apologize, but I see no ball.", "refusal"),
        ("N/A", "refusal"),
        ("There is no outlined region in these pictures.", "refusal"),
        ("- A ball - A dog", "plain text"),
        ("**A ball**", "plain text"),
    ],
)
def test_what_no_caption_is_cannot_be_used(text, why):
    with pytest.raises(UnusableAnswer, match=why):
        check_answer(ask_for_region([], "A beach.", "add a ball"), plain(text))


def test_captions_may_speak_of_people_who_are_sorry():
    check_answer(ask_for_video([]), "A man who says that he is sorry, and cannot move, at a café.")


# ---- back ends by name


def test_nobody_is_asked_by_default():
    assert not any(asks_somebody(name) for name in (None, "", "none", "None"))
    assert asks_somebody("gpt-4o")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpt-4o", "OPENAI_API_KEY"),
        ("replay:", "replay:FILE"),
        ("replay:{f}/gone.json", "gone.json"),
        ("replay:{f}/empty.json", "empty.json"),
        ("replay:{f}/text.json", "text.json"),
        ("replay:{f}/wrong.json", "kind"),
        ("{f}/folder", "folder"),
        ("{f}/language", "vision-language"),
        ("{f}/odd", "vision-language"),
        ("{f}/nowhere", "found none"),
        ("./nowhere", "found none"),
        ("tests/nowhere", "found none"),
    ],
)
def test_who_cannot_answer_is_told_before_anything_is_asked(monkeypatch, tmp_path, name, told):
    pytest.importorskip("openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "wrong.json").write_text('[{"kind": "video"}]')
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(Path(__file__).parents[1])
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/config.json").write_text('{"model_type": ["llava"]}')
    (tmp_path / "language").mkdir()
    (tmp_path / "language/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match=told):
        make_backend(name.format(f=tmp_path))


def test_another_model_in_a_folder_of_that_name_is_another(tmp_path):
    names = []
    for place in "ab":
        folder = tmp_path / place / "final"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "llava"}')
        (folder / "model.safetensors").write_bytes(bytes(8))
        names.append(make_backend(str(folder)).name)
    assert names[0] != names[1]


def test_a_replay_repeats_what_was_recorded(server, captioner, tmp_path):
    server.script = ["A wall.", "A man in a blue coat."]
    notes = [
        captioner.region(pictures(), CAPTION, "paint the wall").note(),
        captioner.rewrite(pictures(), CAPTION, "make the coat blue").note(),
    ]
    (tmp_path / "result.json").write_text(json.dumps({"captions": notes}))
    replay = Captioner(make_backend(f"replay:{tmp_path / 'result.json'}"), tmp_path / "others")
    assert replay.rewrite([], CAPTION, "make the coat blue").text == "A man in a blue coat."
    with pytest.raises(InputError, match=r"result\.json"):
        replay.rewrite([], CAPTION, "make the coat green")
    (tmp_path / "all.json").write_text('[{"kind": "region", "text": "Anything."}]')
    anything = Captioner(make_backend(f"replay:{tmp_path / 'all.json'}"), tmp_path / "others")
    assert anything.region([], "whatever", "whatever").text == "Anything."


# ---- rules


@pytest.mark.parametrize(
    ("instruction", "caption", "patch"),
    [
        ("Change the red coat to a blue jacket.", "A man in a blue jacket walks a dog along a beach.", "a blue jacket"),
        ("replace the dog with an orange cat", "walks an orange cat along a beach", "an orange cat"),
        ("make the sea stormy", "stormy sea is calm", "a stormy sea"),
        ("paint the red coat blue", "A man in a blue coat walks", "a blue coat"),
        ("remove the dog", "The sea is calm.", "the background, as it goes on around it"),
        ("add a kite", "The sea is calm. There is a kite.", "a kite"),
        ("turn the lamp into a tree", "There is a tree.", "a tree"),
        ("let it rain", "Let it rain.", "let it rain"),
        ("remove the dog and put a cat there", "put a cat there", "remove the dog and put a cat there"),
    ],
)
def test_rules_carry_out_an_instruction(instruction, caption, patch):
    assert caption in rewritten(CAPTION, instruction)
    assert region(instruction) == patch


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("Remove the dog", "remove"),
        ("please, remove the dog from the video.", "remove"),
        ("Can you remove the dog?", "remove"),
        ("remove the dog and put a cat there", None),
        ("remove the colour from the dress", None),
        ("remove the man's jacket", None),
        ("add a kite", "add"),
        ("make the coat blue", "exchange"),
    ],
)
def test_only_what_is_taken_away_is_a_removal(instruction, kind):
    assert kind_of(instruction) == kind


def test_rules_do_not_pretend_to_see(tmp_path):
    rules = Captioner(make_backend("template"), tmp_path)
    assert rules.region(pictures(), CAPTION, "remove it").text.startswith("the background")
    with pytest.raises(InputError, match="see nothing"):
        rules.video(pictures())
    for kind in INSTRUCTION_KINDS:
        with pytest.raises(InputError, match="see nothing"):
            rules.instruction(pictures(), CAPTION, kind)
    with pytest.raises(InputError, match="paint"):
        rules.instruction(pictures(), CAPTION, "paint")


# ---- what is shown


def test_frames_with_the_region_are_shown_outlined():
    masks = moving_mask(20)
    masks[:8] = False
    frames = noise_video(20)
    clip = Clip(name="c", frames=ArrayFrames(frames, fps=Fraction(8)), masks=ArrayMasks(masks))
    shown = shown_frames(clip, 3)
    assert len(shown) == 3
    assert all((picture == (255, 0, 0)).all(-1).any() for picture in shown), "the region is seen in each"
    regions = shown_regions(clip, 3)
    assert all(picture.shape[0] <= frames.shape[1] for picture in regions)
    plain_frames = shown_frames(clip, 3, outlined=False)
    assert all(any(np.array_equal(picture, frame) for frame in frames) for picture in plain_frames)


@pytest.mark.parametrize("shown", [shown_frames, shown_regions])
def test_a_hole_that_comes_and_goes_is_found_and_one_of_all_is_outlined(shown):
    masks = np.zeros((200, 32, 48), bool)
    masks[101:104, 10:20, 10:20] = True
    clip = Clip(name="c", frames=ArrayFrames(noise_video(200)), masks=ArrayMasks(masks))
    for hole in (masks, np.ones_like(masks)):
        pictures = shown(clip.with_masks(ArrayMasks(hole)), 3)
        assert len(pictures) == 3
        assert all((picture == (255, 0, 0)).all(-1).any() for picture in pictures)
    assert len(shown(clip.with_masks(ArrayMasks(np.zeros_like(masks))), 3)) == 3
