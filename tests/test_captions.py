"""What a language model does here: a real server of the protocol, a real tiny vision-language model, rules, replays."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from caption_server import serving
from conftest import moving_mask, noise_video
from PIL import Image
from test_first_frame import save_stable_diffusion

from videopainter.captions import endpoint
from videopainter.captions.answers import UnusableAnswer, check_answer, plain
from videopainter.captions.backends import asks_somebody, make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames, shown_regions
from videopainter.captions.questions import INSTRUCTION_KINDS, Question, ask_for_region, ask_for_video
from videopainter.captions.template import kind_of, region, rewritten
from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.running import run_door
from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip
from videopainter.data.video.reader import VideoWriter
from videopainter.errors import InputError

KEY = "sk-secret-0123456789"
CAPTION = "A man in a red coat walks a dog along a beach. The sea is calm."


@pytest.fixture
def server(monkeypatch):
    """A server, its address and a key in the environment, and no waiting between tries."""
    openai = pytest.importorskip("openai")
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.02)
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


@pytest.fixture
def captioner(server, tmp_path):
    made = Captioner(make_backend("some-model"), tmp_path / "answers")
    yield made
    made.close()


def pictures(count=2, side=40) -> list[np.ndarray]:
    return [np.full((side, side + 10, 3), 60 * i + 40, np.uint8) for i in range(count)]


def files_with(text: str, folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


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


# ---- a server


def test_a_server_is_asked_in_its_protocol(server, captioner):
    server.script = ['{"answer": "A blue star on sand."}']
    answer = captioner.region(pictures(), "A beach with a star.", "change the ball to a blue star")
    assert answer.text == "A blue star on sand."
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["key"] == f"Bearer {KEY}"
    assert request["model"] == "some-model"
    assert request["response_format"]["json_schema"]["strict"] is True
    *images, text = request["messages"][1]["content"]
    assert "change the ball to a blue star" in text["text"]
    assert "A beach with a star." in text["text"]
    sent = [Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2]))) for image in images]
    assert [image.size for image in sent] == [(50, 40), (50, 40)]
    assert abs(np.asarray(sent[1]).astype(int) - 100).max() <= 2
    assert answer.note() == {
        "kind": "region",
        "facts": {"caption": "A beach with a star.", "instruction": "change the ball to a blue star"},
        "text": "A blue star on sand.",
        "model": f"some-model at {server.url}",
        "cached": False,
        "wording": 1,
    }


def test_an_answer_is_asked_for_once(server, captioner, tmp_path):
    first = captioner.video(pictures())
    again = Captioner(make_backend("some-model"), tmp_path / "answers").video(pictures())
    assert (first.cached, again.cached, again.text) == (False, True, first.text)
    assert len(server.requests) == 1
    captioner.video(pictures(3))
    Captioner(make_backend("another-model"), tmp_path / "answers").video(pictures())
    assert len(server.requests) == 3, "other pictures and other models are other questions"


def test_a_broken_memory_is_asked_anew(server, captioner, tmp_path):
    captioner.video(pictures())
    (file,) = (tmp_path / "answers").rglob("*.json")
    for content in ("{", "[]", '{"text": 3}', '{"text": ""}'):
        file.write_text(content)
        assert captioner.video(pictures()).text == "A grey wall."
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "trouble",
    [
        ("status", 429, "slow down", ("Retry-After", "0.01")),
        ("status", 500, "oops"),
        ("status", 503, "later"),
        ("cut",),
    ],
)
def test_what_passes_is_waited_for(server, captioner, trouble):
    server.script = [trouble, trouble, "A calm sea."]
    assert captioner.video(pictures()).text == "A calm sea."
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "trouble", ["I'm sorry, I cannot help.", "", ("refuses", "I will not."), ("raw", '{"choices": []}'), "红色的球"]
)
def test_an_unusable_answer_is_said_to_be_so(server, captioner, trouble):
    server.script = [trouble, "A calm sea."]
    assert captioner.video(pictures()).text == "A calm sea."
    assert "cannot be used" in json.dumps(server.requests[1]["messages"])


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (("status", 401, f"Incorrect API key provided: {KEY}"), "401"),
        (("status", 404, "no such model"), "no such model"),
        (("status", 500, "oops"), "500"),
        (("cut",), "no connection"),
        ("I'm sorry, I cannot help.", "refusal"),
        (("raw", "<html>garbage</html>"), "video"),
        (("raw", "[]"), "video"),
    ],
)
def test_what_stays_is_told_in_one_line_without_the_key(server, captioner, tmp_path, trouble, told, caplog):
    server.otherwise = trouble
    with pytest.raises(InputError) as raised:
        captioner.video(pictures())
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value) + caplog.text
    assert not list(tmp_path.rglob("*.json")), "what is no answer is not remembered"


def test_a_slow_server_is_left(server, captioner, monkeypatch):
    monkeypatch.setattr(endpoint, "_SECONDS", 0.1)
    monkeypatch.setattr(endpoint, "_RETRIES", 1)
    server.otherwise = ("slow", 1.0, "A calm sea.")
    with pytest.raises(InputError, match="none within"):
        captioner.video(pictures())


def test_nobody_there_is_told(monkeypatch, server, tmp_path):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:word@127.0.0.1:9/v1?token=hidden")
    with pytest.raises(InputError, match="no connection") as raised:
        Captioner(make_backend("some-model"), tmp_path).video(pictures())
    assert "word" not in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_a_server_without_structured_output_is_asked_plainly(server, captioner):
    server.script = [("status", 400, "response_format is not supported"), "A calm sea.", "A wall."]
    assert captioner.video(pictures()).text == "A calm sea."
    captioner.video(pictures(1))
    assert ["response_format" in request for request in server.requests] == [True, False, False]


def test_pictures_that_are_too_large_are_sent_smaller(server, captioner):
    def choosy(body):
        url = body["messages"][1]["content"][0]["image_url"]["url"]
        width, _ = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size
        return "A calm sea." if width < 300 else ("status", 413, "request too large")

    server.otherwise = choosy
    assert captioner.video(pictures(side=1000)).text == "A calm sea."
    server.otherwise = ("status", 413, "request too large")
    with pytest.raises(InputError, match="413"):
        captioner.video(pictures(1, side=1000))


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


@pytest.mark.parametrize(
    "address", ["my-server:8000", "user:sk-secret@127.0.0.1/v1", "http://localhost:abc/v1", "http://[::1/v1", "http://"]
)
def test_an_address_that_is_none_is_told_and_not_repeated(monkeypatch, address):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(InputError, match="OPENAI_BASE_URL") as raised:
        make_backend("some-model")
    assert address not in str(raised.value)


def test_what_the_client_cannot_start_with_is_told(monkeypatch, server, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        make_backend("some-model")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    with pytest.raises(InputError, match="cannot start"):
        Captioner(make_backend("some-model"), tmp_path).video(pictures())


def test_processes_that_ask_the_same_are_answered_once(server, tmp_path):
    """Otherwise the results of one sample's seeds would be made from different captions."""
    server.otherwise = lambda body: (time.sleep(0.3), f"Wall number {len(server.requests)}.")[1]
    asking = [Captioner(make_backend("some-model"), tmp_path / "answers") for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda captioner: captioner.video(pictures()).text, asking))
    assert len(server.requests) == 1
    assert len(set(answers)) == 1


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


# ---- a model here


def save_tiny_qwen(folder: Path) -> None:
    """A Qwen2.5-VL of two layers that reads and writes bytes, fitted to name two colours."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    marks = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=marks
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    end, pad, _, vision_start, vision_end, image, video = (
        int(tokenizer.convert_tokens_to_ids(mark)) for mark in ("<|im_end|>", "<|endoftext|>", *marks)
    )
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": end, "pad_token_id": pad,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
            "window_size": 56, "fullatt_block_indexes": [0],
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=vision_start, vision_end_token_id=vision_end,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 56).save_pretrained(folder)


def picture_of(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((56, 56, 3), colour, np.uint8)


def test_a_vision_language_model_of_transformers_sees_and_answers(tmp_path):
    """Fitted through the back end's own inputs to two pictures, it names both: pictures and text reach it."""
    import torch

    save_tiny_qwen(tmp_path / "qwen")
    backend = make_backend(str(tmp_path / "qwen"))
    wanted = {"A red wall.": (200, 30, 30), "A blue sea.": (30, 30, 200)}
    questions = {
        text: Question(
            kind="region", facts={}, text="What?", system="Look.", most_words=8, pictures=[picture_of(colour)]
        )
        for text, colour in wanted.items()
    }
    backend.ask(questions["A red wall."], None)
    model, tokenizer = backend._model, backend._processor.tokenizer
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        for text, question in questions.items():
            inputs = backend._inputs(f"{question.system}\n\n{question.text}", question.pictures)
            answer = tokenizer(f"{text}<|im_end|>", return_tensors="pt").input_ids
            length = inputs["input_ids"].shape[1]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                zeros = torch.zeros_like(answer)
                inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], zeros], 1)
            labels = inputs["input_ids"].clone()
            labels[:, :length] = -100
            model(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    captioner = Captioner(backend, tmp_path / "answers")
    for text, question in questions.items():
        assert captioner.answer(question).text == text
    captioner.close()
    assert backend._model is None


# ---- in a run


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`infer/inpaint.py` on a small clip with a first-frame filler that reads prompts: exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_stable_diffusion(tmp_path, inpainting=True)
    for name, frames in (("clip", noise_video(5)), ("mask", 255 * np.repeat(moving_mask(5)[..., None], 3, -1))):
        with VideoWriter(tmp_path / f"{name}.mkv", fps=8, lossless=True) as writer:
            writer.write(frames.astype(np.uint8))
    flags = "--video clip.mkv --mask mask.mkv --prompt waves --img_inpainting_model pipe --output_path out/result.mkv"
    quick = "--num_inference_steps 1 --inpainting_frames 5 --height 32 --width 48"

    def run(*more: str) -> tuple[object, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_door(lambda: inpaint(read_options([*flags.split(), *quick.split(), *more])))
        return ended.value.code, capsys.readouterr().err

    return run


def test_a_run_has_its_image_prompt_written_once(server, run, tmp_path):
    server.script = ['{"answer": "Foam on a wave."}']
    code, told = run("--llm_model", "some-model")
    assert code == 0, told
    record = json.loads((tmp_path / "out/result.json").read_text())
    assert record["image_inpainting_prompt"] == "Foam on a wave."
    assert record["video_inpainting_prompt"] == "waves"
    assert [note["text"] for note in record["captions"]] == ["Foam on a wave."]
    assert "waves" in json.dumps(server.requests[0]["messages"])
    code, told = run("--llm_model", "some-model")
    assert (code, len(server.requests)) == (0, 1)
    assert "finished already" in told
    code, told = run("--llm_model", "replay:out/result.json")
    assert code == 2, "a result of these answers would replace them"
    shutil.copy(tmp_path / "out/result.json", tmp_path / "answers.json")
    code, told = run("--llm_model", "replay:answers.json")
    assert (code, len(server.requests)) == (0, 1)
    assert "finished already" in told, "who wrote the prompt does not change a pixel"
    assert not files_with(KEY, tmp_path)
    assert KEY not in told


def test_a_run_without_an_answer_makes_nothing(server, run, tmp_path):
    server.otherwise = ("status", 401, f"no such key: {KEY}")
    code, told = run("--llm_model", "some-model")
    assert code == 2
    assert told.count("\n") == 1
    assert "401" in told
    assert not (tmp_path / "out").exists() or not [p for p in (tmp_path / "out").iterdir() if p.name[0] != "."]
    assert not files_with(KEY, tmp_path)
    assert KEY not in told


def test_nobody_is_asked_for_what_nobody_reads(server, run):
    code, told = run("--llm_model", "some-model", "--image_prompt", "a rock")
    assert code == 0, told
    code, told = run("--llm_model", "some-model", "--img_inpainting_model", "opencv", "--overwrite")
    assert code == 0, told
    assert not server.requests
