"""Questions about a row: who cannot be reached is asked no more, and the row waits for the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopainter.captions.answers import NobodyAnswers
from videopainter.captions.backends import make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.questions import WORDING_VERSION, Question
from videopainter.errors import InputError, one_line
from videopainter.files import WriteError, sha256_file
from videopainter.preparation.stages.stage import RowDelayed, StageResources

# Answers, below the work folder: nobody is asked twice, not even for the other objects of a clip.
_ANSWERS = "answers"
_REPLAY = "replay:"


class RowAsker:
    """Asks `--llm_model`; a model of this machine is loaded by the first question."""

    def __init__(self, llm_model: str, work: Path) -> None:
        self._captioner = Captioner(make_backend(llm_model, device=_device), work / _ANSWERS)
        self._nobody = ""

    def answer(self, question: Question) -> str:
        """A usable answer. RowDelayed where there is none, WriteError where the disk is full."""
        if self._nobody:  # nor would anybody answer now
            raise RowDelayed(self._nobody)
        try:
            return self._captioner.answer(question).text
        except WriteError:
            raise
        except InputError as error:
            self._nobody = one_line(error) if isinstance(error, NobodyAnswers) else ""
            raise RowDelayed(one_line(error)) from None

    def close(self) -> None:
        """Let go what a model holds."""
        self._captioner.close()


def asker_settings(llm_model: str) -> Mapping[str, Any]:
    """What decides answers, for a stage's settings."""
    settings = {"version": 1, "wording": WORDING_VERSION, "llm_model": llm_model}
    # Answers in a file are other answers once it is another one.
    is_replay = llm_model.startswith(_REPLAY)
    return settings | ({"replay": sha256_file(llm_model.removeprefix(_REPLAY))} if is_replay else {})


def asker_resources(llm_model: str) -> StageResources:
    """A GPU for a model of this machine."""
    here = llm_model.startswith("transformers:") or Path(llm_model).is_dir()
    return StageResources(gpus=1) if here else StageResources()


def _device() -> str:
    from videopainter.segmentation.learned.loading import default_device

    return default_device()
