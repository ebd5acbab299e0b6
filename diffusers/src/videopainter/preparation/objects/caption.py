"""Words for the whole clip and for the object in it, through `captions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from videopainter.captions.answers import NobodyAnswers
from videopainter.captions.backends import asks_somebody, check_backend, make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames, shown_regions
from videopainter.captions.questions import WORDING_VERSION, ask_for_object, ask_for_video
from videopainter.data.clip import Clip, MaskSource
from videopainter.data.masks.opening import open_masks
from videopainter.data.masks.views import PlacedMasks
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError, one_line
from videopainter.files import WriteError, sha256_file
from videopainter.flags import flag
from videopainter.preparation.objects.describe import Described, describe
from videopainter.preparation.stages.stage import Row, RowDelayed, Stage, StageResources

# Answers, below the work folder: nobody is asked twice, not even for the other objects of a clip.
_ANSWERS = "answers"
_REPLAY = "replay:"


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
        if options.llm_model.startswith("transformers:") or Path(options.llm_model).is_dir():
            self.resources = StageResources(gpus=1)

    def settings(self) -> Mapping[str, Any]:
        model = self.options.llm_model
        settings = {"version": 1, "wording": WORDING_VERSION, "llm_model": model}
        # Answers in a file are other answers once it is another one.
        return settings | ({"replay": sha256_file(model.removeprefix(_REPLAY))} if model.startswith(_REPLAY) else {})

    def setup(self) -> None:
        """Who answers; a model is loaded by the first question."""
        if self.options.asked:
            self._captioner = Captioner(make_backend(self.options.llm_model, device=_device), self._work / _ANSWERS)
            self._nobody = ""

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
            video, region = self._asked(clip, told)
        finally:
            frames.close()
        return [{"caption": video, "region_caption": region}]

    def _asked(self, clip: Clip, told: Described) -> tuple[str, str]:
        if self._nobody:  # nor would anybody answer now
            raise RowDelayed(self._nobody)
        # The clip's caption does not depend on the object, so it is asked for once.
        whole = Clip(name=clip.name, frames=clip.frames, masks=_nothing(clip.masks))
        try:
            video = self._captioner.answer(ask_for_video(shown_frames(whole, outlined=False), told.video)).text
            region = self._captioner.answer(ask_for_object(shown_regions(clip), video, told.region)).text
        except WriteError:
            raise
        except InputError as error:
            self._nobody = one_line(error) if isinstance(error, NobodyAnswers) else ""
            raise RowDelayed(one_line(error)) from None
        return video, region


def _device() -> str:
    from videopainter.segmentation.learned.loading import default_device

    return default_device()


def _nothing(masks: MaskSource) -> MaskSource:
    return PlacedMasks(masks, len(masks), len(masks))
