"""Words to look for, proposed by whoever writes captions, so that a detector has some without anybody typing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videopainter.captions.answers import things_of
from videopainter.captions.backends import check_inventor
from videopainter.captions.pictures import evenly_shown
from videopainter.captions.questions import ask_for_things
from videopainter.data.video.reader import VideoFrames
from videopainter.preparation.objects.asking import RowAsker, asker_resources, asker_settings
from videopainter.preparation.stages.stage import Row, RowDropped, Stage


class TagStage(Stage):
    """Asks for the things in a clip: `tags`, as `dog, red car`.

    Raises:
        InputError: `llm_model` names nobody who sees pictures, or nobody who can be asked.
    """

    name = "tag"
    inputs = ("clip", "clip_sha256")
    outputs = ("tags",)

    def __init__(self, llm_model: str, most: int, work: Path) -> None:
        check_inventor(llm_model, "--tagger llm")
        self.llm_model, self.most, self._work = llm_model, most, work
        self.resources = asker_resources(llm_model)

    def settings(self) -> Mapping[str, Any]:
        return {**asker_settings(self.llm_model), "most": self.most}

    def setup(self) -> None:
        """Who answers."""
        self._asker = RowAsker(self.llm_model, self._work)

    def teardown(self) -> None:
        """Their model."""
        self._asker.close()

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        frames = VideoFrames(self._work / row["clip"], threads=1, check_end=False)
        try:
            question = ask_for_things(evenly_shown(frames), self.most)
        finally:
            frames.close()
        things = things_of(self._asker.answer(question), self.most)
        if not things:
            raise RowDropped("no object", "none is named")
        return [{"tags": ", ".join(things)}]
