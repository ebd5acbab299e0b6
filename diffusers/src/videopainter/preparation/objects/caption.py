"""Words for the whole clip and for the object in it, through `captions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from videopainter.captions.backends import asks_somebody, check_backend
from videopainter.captions.pictures import shown_frames, shown_regions
from videopainter.captions.questions import ask_for_object, ask_for_video
from videopainter.data.clip import Clip
from videopainter.data.masks.opening import open_masks
from videopainter.data.masks.views import PlacedMasks
from videopainter.data.video.reader import VideoFrames
from videopainter.flags import flag
from videopainter.preparation.objects.asking import RowAsker, asker_resources, asker_settings
from videopainter.preparation.objects.describe import Described, describe
from videopainter.preparation.stages.stage import Row, Stage


@dataclass(frozen=True, kw_only=True)
class BuildCaptionOptions:
    """Who writes captions."""

    _argument_group_name: ClassVar[str] = "who writes captions"

    llm_model: str = flag(
        "template",
        "template (plain sentences from what is measured; no model), a folder or transformers:ID of a vision-language "
        "model, a server's model (OPENAI_BASE_URL, OPENAI_API_KEY), replay:FILE, or none.",
    )

    @property
    def asked(self) -> bool:
        """Whether there will be captions."""
        return asks_somebody(self.llm_model)


class CaptionStage(Stage):
    """Asks for a caption of the clip and one of the object; without anybody to ask both are empty."""

    name = "caption"
    inputs = ("clip", "clip_sha256", "masks", "masks_sha256", "mask_id", "word", "motion")
    outputs = ("caption", "region_caption")

    def __init__(self, options: BuildCaptionOptions, work: Path) -> None:
        self.options, self._work = options, work
        if options.asked:
            check_backend(options.llm_model)
        self.resources = asker_resources(options.llm_model)

    def settings(self) -> Mapping[str, Any]:
        return asker_settings(self.options.llm_model)

    def setup(self) -> None:
        """Who answers."""
        if self.options.asked:
            self._asker = RowAsker(self.options.llm_model, self._work)

    def teardown(self) -> None:
        """Their model."""
        if self.options.asked:
            self._asker.close()

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        if not self.options.asked:
            return [{"caption": "", "region_caption": ""}]
        frames = VideoFrames(self._work / row["clip"], threads=1, check_end=False)
        try:
            masks = open_masks(self._work / row["masks"], frames=frames, mask_id=row["mask_id"])
            clip = Clip(name=row["id"], frames=frames, masks=masks)
            told = Described(video="", region="")
            if self.options.llm_model == "template":
                told = describe(clip, row["motion"], row["word"])
            # The clip's caption does not depend on the object, so it is asked for once.
            whole = Clip(name=clip.name, frames=frames, masks=PlacedMasks(masks, len(masks), len(masks)))
            video = self._asker.answer(ask_for_video(shown_frames(whole, outlined=False), told.video))
            region = self._asker.answer(ask_for_object(shown_regions(clip), video, told.region))
        finally:
            frames.close()
        return [{"caption": video, "region_caption": region}]
