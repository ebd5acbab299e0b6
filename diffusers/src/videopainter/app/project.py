"""One user's work: a folder with a video, what was said about it, its masks, and what was made of them."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.app.filling import (
    FillInputs,
    FillPlan,
    FillSettings,
    check_wanted,
    edit_of,
    model_options,
    plan_of,
    result_name,
    run_of,
    speed_key,
)
from videopainter.app.jobs import JobBook
from videopainter.app.limits import Limits, check_picture_upload, display_name, named
from videopainter.app.makers import MaskMakers, captions_state
from videopainter.app.masking import Masking, OneMask
from videopainter.app.options import AppOptions
from videopainter.app.speeds import Speeds
from videopainter.app.video import COVER, FrameCache, read_state, state_file
from videopainter.data.clip import Clip, PickedFrames
from videopainter.data.images import IMAGE_SUFFIXES, read_image, write_image
from videopainter.data.reshape import is_same_shape
from videopainter.editing.jobs import plan_edits
from videopainter.errors import InputError
from videopainter.files import read_json, remove_folder
from videopainter.pipelines.first_frame import VIDEO_MODEL, check_filler
from videopainter.runs.options import InpaintOptions
from videopainter.runs.plan import plan_jobs
from videopainter.runs.results.manifest import manifest_path
from videopainter.runs.results.outputs import companion
from videopainter.segmentation.prompts import prompt_to_json

_PICTURE = re.compile(r"[a-z0-9_]{1,60}")
_RESULT = "result.mp4"


@dataclass(frozen=True, kw_only=True)
class FillResult:
    """What was made: files, the settings it was made with, when (seconds since 1970) and how long that took."""

    id: str
    video: Path
    mask: Path
    comparison: Path
    settings_file: Path
    settings: dict[str, Any]
    made: float
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ProjectCard:
    """What a list tells of a project: `name` of its video, `changed` in seconds since 1970, `cover` a small picture.

    `busy`: a job waits or runs.
    """

    id: str
    name: str
    frames: int
    results: int
    changed: float
    cover: Path | None
    busy: bool


def card_of(folder: Path, *, busy: bool = False) -> ProjectCard | None:
    """Of a project's folder, without opening it; None where it has no video."""
    try:
        video, changed = read_state(folder)["video"], state_file(folder).stat().st_mtime
        cover = folder / COVER
        return ProjectCard(
            id=folder.name,
            name=video["name"],
            frames=video["frames"],
            results=sum(1 for _ in folder.glob(f"results/*/{_RESULT}")),
            changed=changed,
            cover=cover if cover.is_file() else None,
            busy=busy,
        )
    except (InputError, OSError, KeyError):  # it is being removed, or was never begun
        return None


class Project(Masking):
    """See `ProjectVideo` (frames, range) and `Masking` (objects, hole). Two browsers may have one project open."""

    def __init__(
        self,
        folder: Path,
        options: AppOptions,
        cache: FrameCache,
        makers: MaskMakers,
        speeds: Speeds,
        book: JobBook,
    ) -> None:
        super().__init__(folder, Limits.of(options), cache, makers, book)
        self.options, self._speeds = options, speeds

    @property
    def captions_state(self) -> str | None:
        """Why nobody proposes captions; None where somebody does."""
        return captions_state(self.options)

    @property
    def words_state(self) -> str | None:
        """Why objects cannot be found by words; None where they can."""
        return self.makers.words_state

    # -- pictures

    def add_picture(self, path: Path | str, name: str | None = None) -> str:
        """Takes an uploaded picture, to be the first frame; its name here."""
        path = Path(path)
        shown = display_name(path.name if name is None else name)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"picture: expected {', '.join(IMAGE_SUFFIXES[:3])} or the like, got {shown}")
        check_picture_upload(path, self._limits, shown)
        with named(path, shown):
            pixels = read_image(path)
        frames = self.frames
        if not is_same_shape(pixels.shape[0], pixels.shape[1], frames.height, frames.width):
            size = f"{frames.width}x{frames.height}"
            raise InputError(f"picture: expected the video's shape, {size}, got {pixels.shape[1]}x{pixels.shape[0]}")
        return self.keep_picture(pixels, f"own_{hashlib.sha256(pixels.tobytes()).hexdigest()[:12]}")

    def keep_picture(self, pixels: np.ndarray, name: str) -> str:
        """Keeps a picture uint8 RGB (H, W, 3) under a name, which it gives back."""
        write_image(self.folder / "pictures" / f"{name}.png", pixels)
        return name

    def has_picture(self, name: str) -> bool:
        """Whether a picture of that name is there."""
        return bool(_PICTURE.fullmatch(name)) and (self.folder / "pictures" / f"{name}.png").is_file()

    def picture(self, name: str) -> Path:
        """A picture's file. InputError for a name that is none; names come from browsers."""
        if not self.has_picture(name):
            raise InputError("first frame: expected the name of a picture of this project, got another text")
        return self.folder / "pictures" / f"{name}.png"

    # -- fills

    def clip(self) -> Clip:
        """The range's frames, and the hole as far as masks are made."""
        part = self.range
        frames = PickedFrames(self.frames, np.arange(part.start, part.stop))
        return Clip(name=self._state["video"]["name"], frames=frames, masks=self.shaped(self.masks()))

    def first_clip(self, settings: FillSettings) -> Clip:
        """The range's first frame and its hole, as far as that is known, also where nothing is tracked yet."""
        start = self.range.start
        return Clip(
            name=self._state["video"]["name"],
            frames=PickedFrames(self.frames, np.arange(start, start + 1)),
            masks=OneMask(self.hole(start)),
            prompt=settings.prompt,
            image_prompt=settings.image_prompt,
        )

    def check_fill(self, settings: FillSettings) -> FillPlan:
        """What settings would compute, and how long that takes. InputError, in one line, for what does not fit."""
        self.video_file  # noqa: B018 (there has to be one)
        check_wanted(settings, self.captions_state)
        self.check_masks()
        folder = self._result_folder(settings)
        try:
            run = self.fill_run(settings)
            edit = edit_of(settings, run)
            jobs = plan_jobs(run) if edit is None else plan_edits(edit)
        except ValueError as error:
            raise InputError(str(error).replace(f"{self.folder}/", "")) from None
        finally:
            with contextlib.suppress(OSError):  # planning makes it; only where nothing is in it
                folder.rmdir()
        size = self.frames.height, self.frames.width
        plan = plan_of(jobs, len(self.range), size)
        return replace(plan, seconds=self._seconds(plan, settings))

    def check_first_frames(self, settings: FillSettings) -> None:
        """InputError where candidates of the first frame cannot be made."""
        if not self.hole(self.range.start).any():
            raise InputError(f"first frame: expected a hole in frame {self.range.start}, got none")
        check_filler(self.options.img_inpainting_model)
        if self.options.img_inpainting_model == "none":
            raise InputError("first frame: expected a model that fills it (--img_inpainting_model), got none")
        if self.options.img_inpainting_model == VIDEO_MODEL:
            raise InputError(
                "first frame: expected an image model to choose from, got the video model, which paints as it goes"
            )

    def speed_key(self, what: str) -> str:
        """Names what something costs for a frame of this size."""
        frames = self.frames
        return f"{what} {frames.width}x{frames.height}"

    def _seconds(self, plan: FillPlan, settings: FillSettings) -> float | None:
        parts: list[tuple[int, str]] = [(plan.frames, self.speed_key("write"))]
        if plan.windows:
            parts.append((plan.windows * plan.steps, speed_key(plan, self.options, settings)))
        if plan.propagate != "off":
            parts.append((1 if plan.propagate == "first_frame" else plan.frames, self.speed_key("propagate")))
        costs = [(count, self._speeds.get(key)) for count, key in parts]
        return None if any(cost is None for _, cost in costs) else sum(count * (cost or 0) for count, cost in costs)

    def _result_folder(self, settings: FillSettings) -> Path:
        facts = {
            "video": self._state["video"]["sha256"],
            "range": [self.range.start, self.range.stop],
            "masks": self.masks_digest,
            "shape": asdict(self.mask_shape),
            "models": asdict(model_options(self.options)),
            "filler": self.options.img_inpainting_model,
        }
        return self.folder / "results" / result_name(settings, facts)

    def fill_inputs(self, settings: FillSettings) -> FillInputs:
        """What a fill works on."""
        folder = self._result_folder(settings)
        return FillInputs(
            video=self.video_file,
            length=len(self.frames),
            span=self.range,
            mask=self.mask_file or folder / "mask.npz",
            mask_id=self.mask_id,
            shape=self.mask_shape,
            first_frame=None if settings.first_frame is None else self.picture(settings.first_frame),
            result=folder / _RESULT,
        )

    def fill_run(self, settings: FillSettings) -> InpaintOptions:
        """The run that settings are."""
        return run_of(settings, self.fill_inputs(settings), self.options)

    def settings_record(self, settings: FillSettings) -> dict[str, Any]:
        """What is downloaded beside a result, and what it is made again by."""
        prompts = {str(view.id): [prompt_to_json(prompt) for prompt in view.prompts] for view in self.objects}
        return {
            "fill": settings.to_json(),
            "shape": asdict(self.mask_shape),
            "range": [self.range.start, self.range.stop],
            "video": self._state["video"]["name"],
            "objects": {} if self.mask_file else prompts,
        }

    @property
    def results(self) -> list[FillResult]:
        """What was made of the video, the newest last."""
        found = [self._result(file.parent) for file in (self.folder / "results").glob(f"*/{_RESULT}")]
        return sorted((one for one in found if one is not None), key=lambda one: one.made)

    def _result(self, folder: Path) -> FillResult | None:
        video, settings = folder / _RESULT, folder / "settings.json"
        try:
            record, told = read_json(manifest_path(video)), read_json(settings)
        except InputError:
            return None  # not finished
        return FillResult(
            id=folder.name,
            video=video,
            mask=folder / "mask.mp4",
            comparison=companion(video, "comparison"),
            settings_file=settings,
            settings=told["fill"],
            made=video.stat().st_mtime,
            seconds=record.get("seconds", {}),
        )

    @property
    def has_work(self) -> bool:
        """Whether there is more than a video: objects, a mask of one's own, or results."""
        return bool(self.objects or self.mask_file or self.results)

    def forget_result(self, name: str) -> None:
        """Removes a result. InputError for one that is not there."""
        if name not in [one.id for one in self.results]:
            raise InputError("result: expected one of this project, got another text")
        self.check_idle()
        remove_folder(self.folder / "results" / name)
