"""A server of the protocol that misbehaves: asked, remembered, waited for, told of; the key is in no message."""

from __future__ import annotations

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from caption_server import KEY, files_with, pictures
from PIL import Image

from videopainter.captions import endpoint
from videopainter.captions.answers import NobodyAnswers, verdict_of
from videopainter.captions.backends import make_backend
from videopainter.captions.captioner import Captioner
from videopainter.errors import InputError


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
        "model": f"some-model at {server.url.removesuffix('/v1')}",
        "key": answer.key,
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


def test_what_a_result_says_is_taken_for_the_same_pictures_alone(server, captioner, tmp_path):
    note = captioner.video(pictures()).note()
    (tmp_path / "result.json").write_text(json.dumps({"captions": [note]}))
    there = Captioner(make_backend("some-model"), tmp_path / "others")
    there.recall(tmp_path / "result.mp4")
    assert there.video(pictures()).cached
    server.otherwise = "Another sea."
    assert there.video(pictures(3)).text == "Another sea."
    assert len(server.requests) == 2
    # A note of before keys were kept does not say of which pictures it is.
    (tmp_path / "result.json").write_text(json.dumps({"captions": [{k: v for k, v in note.items() if k != "key"}]}))
    there.recall(tmp_path / "result.mp4")
    assert there.video(pictures()).text == "Another sea."


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


def test_whom_nobody_can_reach_is_asked_once(server, captioner):
    server.otherwise = ("status", 401, "no such key")
    for count in (1, 2):
        with pytest.raises(NobodyAnswers, match="401"):
            captioner.video(pictures(count))
    assert len(server.requests) == 1
    server.otherwise = ("status", 400, "not such pictures")
    another = Captioner(make_backend("another-model"))
    for count in (1, 2):
        with pytest.raises(InputError, match="400") as raised:
            another.video(pictures(count))
        assert not isinstance(raised.value, NobodyAnswers), "others may be answered"
    assert len(server.requests) == 3


def test_a_verdict_is_yes_or_no_and_why(server, captioner):
    server.script = ["I think so.", '{"answer": "No: the ball is still there."}', "yes"]
    answer = captioner.verdict(pictures(2), pictures(2, side=41), "remove the ball")
    assert verdict_of(answer.text) == (False, "the ball is still there.")
    assert "neither yes nor no" in json.dumps(server.requests[1]["messages"])
    assert sum(part["type"] == "image_url" for part in server.requests[0]["messages"][1]["content"]) == 4
    assert verdict_of(captioner.verdict(pictures(2), pictures(2), "remove it").text) == (True, "")


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


def test_a_key_in_the_path_of_an_address_is_in_no_note_and_no_message(monkeypatch, server, tmp_path):
    secret, host = "sk-of-the-path", server.url.removesuffix("/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{host}/{secret}/v1")
    captioner = Captioner(make_backend("some-model"), tmp_path / "answers")
    note = captioner.video(pictures()).note()
    assert server.requests[0]["path"] == f"/{secret}/v1/chat/completions"
    server.otherwise = ("status", 404, f"no such page: /{secret}/v1/chat/completions")
    with pytest.raises(NobodyAnswers, match="404") as raised:
        captioner.video(pictures(1))
    assert host in str(raised.value)
    assert secret not in str(raised.value) + json.dumps(note)
    assert not files_with(secret, tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{host}/another/v1")
    names = {note["model"], make_backend("some-model").name}
    assert len(names) == 2
    assert all(name.startswith(f"some-model at {host}") for name in names)


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
