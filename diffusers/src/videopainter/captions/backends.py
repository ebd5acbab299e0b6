"""Who answers: by the name that `--llm_model` gives. Nothing is imported or asked for before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from videopainter.captions.answers import NobodyAnswers
from videopainter.captions.questions import Question
from videopainter.errors import InputError

NOBODY = (None, "", "none", "None")
_TEMPLATE, _REPLAY, _LOCAL = "template", "replay:", "transformers:"


class CaptionBackend(Protocol):
    """Answers questions, one at a time."""

    name: str  # recorded with every answer, and a part of what it is remembered by

    def ask(self, question: Question, complaint: str | None) -> str:
        """The answer as it came. `complaint` says why the last one could not be used.

        Raises:
            InputError: in one line, where there will be none. NobodyAnswers: nor to any other question, as there is no
                network, no key or no such model.
            UnusableAnswer: there is none this time, and asking again may help.
        """
        ...

    def close(self) -> None:
        """Let go what the back end holds."""
        ...


def asks_somebody(llm_model: str | None) -> bool:
    """Whether `--llm_model` names anybody at all."""
    return llm_model not in NOBODY


def check_backend(llm_model: str) -> None:
    """NobodyAnswers, in one line, for what `make_backend` would need and lacks. Loads no model, sends nothing."""
    try:
        _check(llm_model)
    except InputError as error:
        raise NobodyAnswers(str(error)) from None


def check_inventor(llm_model: str | None, flag: str) -> None:
    """InputError where `--llm_model` names nobody who sees pictures, which `flag` needs."""
    if not asks_somebody(llm_model) or llm_model == _TEMPLATE:
        raise InputError(
            f"{flag}: expected an --llm_model that sees pictures (a server's model, a folder, transformers:ID or "
            f"replay:FILE), got {llm_model or 'none'}"
        )
    check_backend(llm_model or "")


def _check(llm_model: str) -> None:
    if llm_model.startswith(_REPLAY):
        from videopainter.captions.replay import read_replay

        read_replay(_replay_file(llm_model))
    elif (folder := _local_model(llm_model)) is not None:
        from videopainter.captions.local import check_local

        check_local(folder)
    elif llm_model != _TEMPLATE:
        from videopainter.captions.endpoint import check_endpoint

        check_endpoint(llm_model)


def make_backend(llm_model: str, *, device: Callable[[], str] | None = None) -> CaptionBackend:
    """A back end by name:

    - `template`: rules, no model; knows what caption and instruction say, and sees nothing;
    - `replay:FILE`: answers given before (the JSON of a result, or a list of its `captions`);
    - a folder, or `transformers:ID`: a vision-language model through transformers, loaded by the first question;
    - else a model of an OpenAI-compatible server (`OPENAI_API_KEY`, `OPENAI_BASE_URL`).

    `device` says where a model here computes, once one is loaded (None: on a CPU).

    Raises:
        NobodyAnswers: as `check_backend`.
    """
    check_backend(llm_model)
    if llm_model == _TEMPLATE:
        from videopainter.captions.template import TemplateBackend

        return TemplateBackend()
    if llm_model.startswith(_REPLAY):
        from videopainter.captions.replay import ReplayBackend

        return ReplayBackend(_replay_file(llm_model))
    if (folder := _local_model(llm_model)) is not None:
        from videopainter.captions.local import LocalBackend

        return LocalBackend(folder, device=device)
    from videopainter.captions.endpoint import EndpointBackend

    return EndpointBackend(llm_model)


def _replay_file(llm_model: str) -> Path:
    name = llm_model.removeprefix(_REPLAY)
    if not name:
        raise InputError("--llm_model replay: expected replay:FILE, got no file")
    return Path(name)


def _local_model(llm_model: str) -> str | None:
    if llm_model.startswith(_LOCAL):
        return llm_model.removeprefix(_LOCAL)
    if Path(llm_model).is_dir():
        return llm_model
    first, slash, _ = llm_model.partition("/")
    if slash and (first in ("", ".", "..", "~", "ckpt") or Path(first).is_dir()):
        # Pictures must not go to a server because of a typing mistake.
        raise InputError(f"--llm_model: expected a folder (or the name of a server's model), found none at {llm_model}")
    return None
