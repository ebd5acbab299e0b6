"""What a project's hole is filled with: settings as people make them, the run that they are, what it will compute."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from videopainter.app.limits import check_text
from videopainter.app.masking import MaskShape
from videopainter.app.options import AppOptions
from videopainter.editing.options import EditingOptions, EditOptions
from videopainter.errors import InputError
from videopainter.files import fingerprint
from videopainter.flags import MAX_INT, check_ranges, flag, same_flag
from videopainter.models.backbones.registry import facts_of
from videopainter.models.checkpoint_files import read_config
from videopainter.pipelines.settings import InpaintSettings, SamplingSettings
from videopainter.pipelines.windows import plan_windows
from videopainter.runs.options import (
    ClipOptions,
    InpaintOptions,
    ModelOptions,
    OutputOptions,
    PromptOptions,
    PropagationOptions,
    SamplingOptions,
)
from videopainter.runs.plan import Job, build_settings
from videopainter.runs.propagation import removal_preset
from videopainter.runs.weights import FIRST_FRAME_FLAG, checkpoint_defaults
from videopainter.segmentation.prompts import FrameRange

FillTask = Literal["remove", "swap", "change", "add", "inpaint"]
EDITS = ("swap", "change", "add")
_MOST_CANDIDATES = 8
_TEXTS = ("instruction", "prompt", "image_prompt", "negative_prompt")


@dataclass(frozen=True, kw_only=True)
class FillSettings:
    """What is asked for; None leaves a choice to the checkpoint or the program. `first_frame` names a picture of the
    project's, `size` is (height, width), `seed` -1 draws one."""

    task: FillTask = "remove"
    instruction: str = ""
    prompt: str = ""
    image_prompt: str = ""
    negative_prompt: str = ""
    first_frame: str | None = None
    steps: int | None = flag(None, "", least=1, most=1000)
    guidance: float | None = flag(None, "", least=0, most=1000)
    seed: int = flag(-1, "", least=-1, most=MAX_INT)
    window: int = same_flag(InpaintSettings, "num_frames")
    overlap: int = same_flag(SamplingSettings, "overlap_frames")
    replace_gt: bool = True
    id_resample: Literal["auto", "off", "exact", "compact"] = "auto"
    prev_clip_weight: float = same_flag(SamplingSettings, "prev_clip_weight")
    cache: Literal["none", "first_block", "taylorseer", "pab", "mag"] = "none"
    size: tuple[int, int] | None = None
    crop: Literal["none", "auto"] = "none"
    propagate: Literal["auto", "off", "first_frame", "all", "only"] = "auto"
    candidates: int = flag(4, "", least=1, most=_MOST_CANDIDATES)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FillSettings:
        """From `to_json`, or a browser. InputError for an unknown name, or a value of another kind."""
        hints = get_type_hints(cls)
        found: dict[str, Any] = {}
        for name, value in values.items():
            if name not in hints:
                raise InputError(f"settings: expected {', '.join(hints)}, got {name[:60]!r}")
            if isinstance(value, list):
                value = tuple(value)
            if not _fits(value, hints[name]):
                raise InputError(f"{name}: expected {_told(hints[name])}, got {str(value)[:60]!r}")
            found[name] = check_text(name, str(value)) if name in _TEXTS else value
        return cls(**found)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def seeded(self) -> FillSettings:
        """With a seed that was drawn where none is said."""
        return self if self.seed >= 0 else replace(self, seed=random.SystemRandom().randrange(2**31))


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and len(value) == 2 and all(type(one) is int for one in value)
    if get_args(kind):
        return any(_fits(value, one) for one in get_args(kind))
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def _told(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    return str(kind).removeprefix("<class '").removesuffix("'>").replace(" | None", " or nothing")


@dataclass(frozen=True, kw_only=True)
class FillPlan:
    """What will be computed: of `frames`, in `windows` of the model (0: none is used) at `height` x `width` in `steps`
    each; `seconds` by what was measured before, None where nothing was."""

    frames: int
    windows: int
    height: int
    width: int
    steps: int
    guidance: float
    propagate: str
    fills_first_frame: bool
    crops: bool = False  # to where the hole is, if it is small
    seconds: float | None = None

    @property
    def summary(self) -> str:
        """In a line."""
        copied = {"only": "copied from other frames, no model", "all": "what other frames show copied first"}
        parts = [f"{self.frames} frames", *([copied[self.propagate]] if self.propagate in copied else [])]
        if self.windows:
            passes = "guided" if self.guidance > 1 else "unguided"
            windows = f"{self.windows} window{'s' * (self.windows > 1)}"
            parts.append(f"{windows} of {self.steps} {passes} steps at {self.width}x{self.height}")
            parts.extend(["around the hole if it is small"] if self.crops else [])
        if self.seconds is not None:
            parts.append(f"about {shown_seconds(self.seconds)}")
        return ", ".join(parts)


def shown_seconds(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True, kw_only=True)
class FillInputs:
    """What a fill works on: a video's range, a mask file as large as that, and where results go."""

    video: Path
    length: int
    span: FrameRange
    mask: Path
    mask_id: int | None
    shape: MaskShape
    first_frame: Path | None
    result: Path


def model_options(options: AppOptions) -> ModelOptions:
    """The app's models, as a run's flags name them."""
    return ModelOptions(
        model_path=options.model_path,
        inpainting_branch=options.inpainting_branch,
        id_adapter_resample_learnable_path=options.id_adapter,
        dtype=options.dtype,
        device=options.device,
        memory=options.memory,
        quantization=options.quantization,
    )


def run_of(settings: FillSettings, inputs: FillInputs, options: AppOptions) -> InpaintOptions:
    """The flags of `infer/inpaint.py` that do what the settings ask for."""
    span, shape, sampling = inputs.span, inputs.shape, _sampling(settings, options)
    prompts = PromptOptions(
        prompt=settings.prompt or None,
        negative_prompt=settings.negative_prompt,
        image_prompt=settings.image_prompt or None,
        llm_model=options.llm_model,
        img_inpainting_model=options.img_inpainting_model,
        first_frame=None if inputs.first_frame is None else str(inputs.first_frame),
    )
    run = InpaintOptions(
        clip=ClipOptions(
            video=str(inputs.video),
            mask=str(inputs.mask),
            mask_id=None if inputs.mask_id is None else [inputs.mask_id],
            inpainting_frames=settings.window,
            range=None if len(span) == inputs.length else f"{span.start}:{span.stop}",
            mask_shape=shape.shape,
            # As it is shown: a removal would grow what nobody grew.
            dilate_size=max(1, shape.grow),
        ),
        prompts=prompts,
        model=replace(model_options(options), cache=settings.cache),
        sampling=replace(sampling, feather=shape.feather, mask_background=shape.invert),
        output=OutputOptions(output_path=str(inputs.result), save_comparison=True, quiet=True),
    )
    return _propagating(run, settings)


def _sampling(settings: FillSettings, options: AppOptions) -> SamplingOptions:
    sampling = SamplingOptions()
    for name, text in checkpoint_defaults({"model_path": options.model_path}).items():
        if name == FIRST_FRAME_FLAG:  # one of the app's own flags
            continue
        kind = type(getattr(sampling, name))
        setattr(sampling, name, text == "True" if kind is bool else kind(text))
    height, width = settings.size or (None, None)
    return replace(
        sampling,
        num_inference_steps=settings.steps or sampling.num_inference_steps,
        guidance_scale=sampling.guidance_scale if settings.guidance is None else settings.guidance,
        seed=max(0, settings.seed),
        overlap_frames=settings.overlap,
        replace_gt=settings.replace_gt,
        id_resample=settings.id_resample,
        prev_clip_weight=settings.prev_clip_weight,
        height=height,
        width=width,
        crop=settings.crop,
    )


def _propagating(run: InpaintOptions, settings: FillSettings) -> InpaintOptions:
    how = settings.propagate
    if settings.task != "remove":
        return replace(run, propagation=PropagationOptions(propagate="off" if how == "auto" else how))
    asked = PropagationOptions(remove=True, propagate="off" if how == "auto" else how)
    run = removal_preset(replace(run, propagation=asked))
    if how != "off":
        return run
    return replace(run, propagation=PropagationOptions())


def edit_of(settings: FillSettings, run: InpaintOptions) -> EditOptions | None:
    """The flags of `infer/edit.py` where the settings are an edit by instruction; None where they are not."""
    if settings.task not in EDITS:
        return None
    return EditOptions(editing=EditingOptions(video_editing_instruction=[settings.instruction]), run=run)


def check_wanted(settings: FillSettings, captions_off: str | None) -> None:
    """InputError where words are missing."""
    if settings.task in EDITS:
        if not settings.instruction:
            raise InputError(f"instruction: expected what to {settings.task}, in words, got nothing")
        if captions_off is not None and not settings.prompt:
            raise InputError("prompt: expected what the edited video shows, as nobody writes captions, got nothing")
    if settings.task == "inpaint" and not settings.prompt:
        raise InputError("prompt: expected what the video shows when it is filled, got nothing")


def plan_of(jobs: list[Job], length: int, size: tuple[int, int]) -> FillPlan:
    """What the job of a fill will compute, for `length` frames of `size` (height, width)."""
    (job,) = jobs
    options = job.options
    settings = build_settings(options, job.seed)
    windows, (height, width) = 0, size
    if options.propagation.propagate != "only":
        backbone = facts_of(read_config(Path(job.plan.weights.model_path) / "transformer"))
        windows = len(plan_windows(length, settings.num_frames, settings.overlap_frames, backbone.grid).windows)
        height, width = settings.working_size(backbone, *size)
    return FillPlan(
        frames=length,
        windows=windows,
        height=height,
        width=width,
        steps=settings.num_denoising_steps,
        guidance=settings.guidance_scale,
        propagate=options.propagation.propagate,
        fills_first_frame=options.prompts.first_frame is None and windows > 0,
        crops=settings.crop == "auto",
    )


def speed_key(plan: FillPlan, options: AppOptions, settings: FillSettings) -> str:
    """Names what a step costs: by model, size, and what is left out."""
    model = fingerprint([asdict(model_options(options)), settings.cache, settings.id_resample])[:8]
    frames = min(plan.frames, settings.window)
    return f"step {model} {plan.width}x{plan.height}x{frames} {'guided' if plan.guidance > 1 else 'unguided'}"


def result_name(settings: FillSettings, facts: Mapping[str, Any]) -> str:
    """Where the result of settings goes: the same ones, on the same masks, in the same place."""
    asked = settings.to_json()
    if asked["crop"] == "none":
        del asked["crop"]  # results from before there were crops keep their place
    return fingerprint([asked, facts])[:12]
