"""A model behind any server that speaks OpenAI's chat protocol, through the official client.

Key and address come from the environment only (`OPENAI_API_KEY`, `OPENAI_BASE_URL`), and are never written or told.
The client itself waits and asks again after time-outs, cut connections, 429 (for as long as the server says) and 5xx.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from videopainter.captions.answers import NobodyAnswers, UnusableAnswer
from videopainter.captions.questions import Question
from videopainter.errors import InputError, one_line
from videopainter.files import sha256_text

_HOME = "https://api.openai.com/v1"
_RETRIES = 5
_SECONDS = 120.0
# No such key, model or quota (the client has waited for that already): whatever is asked.
_FOR_ALL = (401, 402, 403, 404, 429)
_FEWEST_PIXELS = 128  # of the longer side: smaller pictures say nothing
_SHORTEST_SECRET = 8  # characters: `v1` and `openai` are none
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "caption",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    },
}


def check_endpoint(model: str) -> None:
    """InputError where the client, the key or the address is missing or no address."""
    if importlib.util.find_spec("openai") is None:
        raise InputError(f"--llm_model {model}: expected the package openai, got none: make setup EXTRAS=edit")
    url, key = _base_url(), os.environ.get("OPENAI_API_KEY") or ""
    if not _is_address(url):  # which may hold a secret, and is not repeated
        raise InputError(
            f"OPENAI_BASE_URL: expected http(s)://HOST[:PORT]/v1 for --llm_model {model}, got another form"
        )
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"OPENAI_API_KEY: expected printable ASCII for --llm_model {model}, got other characters")
    if not key and url == _HOME:
        raise InputError(
            f"--llm_model {model}: expected a key in OPENAI_API_KEY, got none; or OPENAI_BASE_URL of a server of your "
            "own, a folder with a vision-language model, template, or none"
        )


class EndpointBackend:
    """Asks a server. It is told which answers cannot be used, and gets smaller pictures where they were too large."""

    def __init__(self, model: str) -> None:
        url = _base_url()
        # What is remembered and recorded: who answered. A path may be a secret, and also what tells models of one host
        # apart: it is there as a digest.
        self.name = model if url == _HOME else f"{model} at {_address(url)}{_told_apart(url)}"
        self._model, self._url = model, url
        self._key = os.environ.get("OPENAI_API_KEY") or ""
        self._client: Any = None
        self._structured = True
        self._shrink = 1

    def ask(self, question: Question, complaint: str | None) -> str:
        import openai

        self._shrink = 1
        while True:
            try:
                return self._send(question, complaint)
            except openai.APIStatusError as error:
                if not self._can_do_without(question, error):
                    kind = NobodyAnswers if error.status_code in _FOR_ALL else InputError
                    raise self._failure(error, f"{error.status_code}", kind) from None
            except openai.APIResponseValidationError:
                raise UnusableAnswer("the server's answer is not in the protocol") from None
            except openai.APITimeoutError as error:
                raise self._failure(error, f"none within {_SECONDS:.0f} s, {_RETRIES + 1} times") from None
            except openai.APIConnectionError as error:
                raise self._failure(error, "no connection") from None
            except openai.OpenAIError as error:
                raise self._failure(error, type(error).__name__) from None
            except json.JSONDecodeError:  # says it is JSON, and is not
                raise UnusableAnswer("the server's answer is not in the protocol") from None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _send(self, question: Question, complaint: str | None) -> str:
        options = {"response_format": _SCHEMA} if self._structured else {}
        completion = self._connected().chat.completions.create(
            model=self._model, messages=self._messages(question, complaint), **options
        )
        choices = getattr(completion, "choices", None)
        message = getattr(choices[0], "message", None) if choices else None
        if message is None:
            raise UnusableAnswer("the server's answer is not in the protocol")
        if getattr(message, "refusal", None):
            raise UnusableAnswer(f"it is a refusal ({one_line(message.refusal)[:60]})")
        content = message.content
        return content if isinstance(content, str) else ""

    def _connected(self) -> Any:
        if self._client is None:
            import openai

            # Servers of one's own often take any key; the client wants one.
            try:
                self._client = openai.OpenAI(
                    api_key=self._key or "none", base_url=self._url, timeout=_SECONDS, max_retries=_RETRIES
                )
            except Exception as error:  # proxies of the environment that cannot be used, among others
                raise self._failure(error, "a client that cannot start") from None
        return self._client

    def _messages(self, question: Question, complaint: str | None) -> list[dict[str, Any]]:
        pictures = [
            {"type": "image_url", "image_url": {"url": _data_url(picture, self._shrink)}}
            for picture in question.pictures
        ]
        text = question.text
        if complaint is not None:
            text += f"\nYour last answer cannot be used: {complaint}."
        if not pictures:
            return [{"role": "system", "content": question.system}, {"role": "user", "content": text}]
        return [
            {"role": "system", "content": question.system},
            {"role": "user", "content": [*pictures, {"type": "text", "text": text}]},
        ]

    def _can_do_without(self, question: Question, error: Any) -> bool:
        """Whether to ask again, after giving up what the server refuses: structured output, or large pictures."""
        said = str(error).lower()
        if error.status_code in (400, 404, 415, 422) and self._structured and "response_format" in said:
            self._structured = False
            return True
        too_large = error.status_code == 413 or (
            error.status_code == 400 and "image" in said and any(word in said for word in ("large", "size", "big"))
        )
        sides = [max(picture.shape[:2]) for picture in question.pictures]
        if too_large and sides and max(sides) // (2 * self._shrink) >= _FEWEST_PIXELS:
            self._shrink *= 2
            return True
        return False

    def _failure(self, error: Any, got: str, kind: type[InputError] = NobodyAnswers) -> InputError:
        said = one_line(getattr(error, "message", "") or str(error))
        for secret in filter(None, (self._key, *_secrets(self._url))):
            said = said.replace(secret, "***")
        return kind(
            f"--llm_model {self._model}: expected an answer, got {got} ({said[:200]}), from {_address(self._url)}"
        )


def _base_url() -> str:
    return (os.environ.get("OPENAI_BASE_URL") or _HOME).rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _address(url: str) -> str:
    """Scheme and host of an address: all else may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _told_apart(url: str) -> str:
    """Nothing of the usual paths."""
    path = urlsplit(url).path
    return "" if path in ("", "/v1") else f" #{sha256_text(path)[:8]}"


def _secrets(url: str) -> list[str]:
    """What of an address may be one: servers repeat in their messages what they were asked for."""
    parts = urlsplit(url)
    found = (parts.query, *parts.netloc.rpartition("@")[0].split(":", 1), *parts.path.split("/"))
    return [text for text in found if len(text) >= _SHORTEST_SECRET]


def _data_url(picture: np.ndarray, shrink: int) -> str:
    image = Image.fromarray(picture)
    if shrink > 1:
        image = image.resize((max(1, image.width // shrink), max(1, image.height // shrink)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
