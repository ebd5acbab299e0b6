"""The nodes: which flags they show, and what they hand on. The work is done by `videopainter`, as for its scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import ComfyExtension, io

from videopainter.runs.options import ClipOptions, ModelOptions, PromptOptions, PropagationOptions, SamplingOptions
from videopainter.segmentation.choosing import SegmenterOptions
from videopainter.segmentation.prompts import ObjectOptions

from .exchange import check_images, check_mask, read_result, write_frames, write_mask, write_picture
from .flags import flags_of, words_of
from .host import watched, work_folder
from .work import edit, inpaint, segment

CATEGORY = "VideoPainter"
Words = tuple[str, ...]
Models = io.Custom("VIDEOPAINTER_MODELS")
Options = io.Custom("VIDEOPAINTER_OPTIONS")

_MODELS = [
    *flags_of(ModelOptions, ["model_path", "inpainting_branch", "id_adapter_resample_learnable_path"]),
    *flags_of(PromptOptions, ["img_inpainting_model"]),
    *flags_of(ModelOptions, ["memory", "quantization"]),
    *flags_of(ModelOptions, ["dtype", "device", "lora_path", "compile"], advanced=True),
]
_OPTIONS = [
    *flags_of(SamplingOptions, ["num_inference_steps", "guidance_scale", "height", "width"]),
    *flags_of(ClipOptions, ["inpainting_frames"]),
    *flags_of(SamplingOptions, ["overlap_frames", "prev_clip_weight"]),
    *flags_of(ClipOptions, ["dilate_size", "mask_shape"]),
    *flags_of(PropagationOptions, ["propagate"]),
    *flags_of(ModelOptions, ["cache"]),
    *flags_of(SamplingOptions, ["match_edges", "feather", "replace_gt", "mask_add", "id_resample"], advanced=True),
    *flags_of(SamplingOptions, ["mask_background", "strength", "scheduler", "constant_guidance"], advanced=True),
    *flags_of(SamplingOptions, ["crop"], advanced=True),
]
_OBJECTS = [
    *flags_of(ObjectOptions, ["box", "point", "negative_point", "text"]),
    *flags_of(SegmenterOptions, ["segmenter", "text_model"]),
    *flags_of(ObjectOptions, ["object", "stroke", "negative_stroke", "candidate"], advanced=True),
]
_PROMPTS = flags_of(PromptOptions, ["prompt", "image_prompt", "negative_prompt"], multiline=True)
_CAPTIONS = [*flags_of(PromptOptions, ["llm_model"]), *_PROMPTS]


def _seed() -> io.Input:
    return io.Int.Input("seed", default=42, min=0, max=2**63 - 1, control_after_generate=True)


def _folder() -> io.Input:
    told = "A folder that keeps what is finished: stopped, it goes on there. Empty: ComfyUI's temporary one."
    return io.String.Input("work_folder", default="", tooltip=told, advanced=True)


def _picture() -> list[io.Input]:
    return [
        io.Image.Input("images", tooltip="All frames of the video."),
        io.Mask.Input("mask", tooltip="What is painted: a mask for every frame, or one for all."),
    ]


def _chosen(required: bool = True) -> list[io.Input]:
    return [Models.Input("models", optional=not required), Options.Input("options", optional=True)]


def _made() -> list[io.Output]:
    return [
        io.Image.Output("images", display_name="images"),
        io.String.Output("record", display_name="record", tooltip="How it was made, as JSON."),
    ]


class LoadModels(io.ComfyNode):
    """Which weights; they are loaded when they are first needed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoPainterModels",
            display_name="VideoPainter Models",
            category=CATEGORY,
            description="Which weights. Without a model path: the small checkpoint that VideoPainter ships.",
            inputs=[flag.input() for flag in _MODELS],
            outputs=[Models.Output("models", display_name="models")],
        )

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(words_of(_MODELS, values))


class SetOptions(io.ComfyNode):
    """How it is sampled."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoPainterOptions",
            display_name="VideoPainter Options",
            category=CATEGORY,
            description="Steps, windows, the hole's shape, and what is copied from other frames.",
            inputs=[flag.input() for flag in _OPTIONS],
            outputs=[Options.Output("options", display_name="options")],
        )

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(words_of(_OPTIONS, values))


class Segment(io.ComfyNode):
    """Boxes, clicks or words -> the object's mask in every frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoPainterSegment",
            display_name="VideoPainter Segment",
            category=CATEGORY,
            description="Follows objects through a video from boxes, clicks or words. A line for each of several.",
            inputs=[
                io.Image.Input("images", tooltip="All frames of the video."),
                *[flag.input() for flag in _OBJECTS],
                _folder(),
            ],
            outputs=[io.Mask.Output("mask", display_name="mask")],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, work_folder: str, **values: Any) -> io.NodeOutput:
        folder = _work(work_folder)
        video = write_frames(images, folder)
        with watched() as watch:
            return io.NodeOutput(segment(words_of(_OBJECTS, values), video, folder, watch))


class InpaintVideo(io.ComfyNode):
    """Paints the hole as the prompt says."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoPainterInpaint",
            display_name="VideoPainter Inpaint",
            category=CATEGORY,
            description="Paints what the mask covers, in a video of any length.",
            inputs=[
                *_picture(),
                *_chosen(),
                *[flag.input() for flag in _PROMPTS],
                _seed(),
                io.Image.Input("first_frame", optional=True, tooltip="Your own filled first frame."),
                _folder(),
            ],
            outputs=_made(),
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        mask: torch.Tensor,
        models: Words,
        seed: int,
        work_folder: str,
        options: Words | None = None,
        first_frame: torch.Tensor | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        words = [*models, *(options or ()), *words_of(_PROMPTS, values), f"--seed={seed}"]
        return _painted(images, mask, words, _work(work_folder), first_frame)


class RemoveObjects(io.ComfyNode):
    """Takes away what the mask covers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoPainterRemove",
            display_name="VideoPainter Remove",
            category=CATEGORY,
            description="Takes away what the mask covers: what other frames show there is copied, without any model; "
            "with models, they paint the rest.",
            inputs=[*_picture(), *_chosen(required=False), _seed(), _folder()],
            outputs=_made(),
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        mask: torch.Tensor,
        seed: int,
        work_folder: str,
        models: Words | None = None,
        options: Words | None = None,
    ) -> io.NodeOutput:
        rest = ["--propagate=all"] if models is not None and not _says(options, "propagate") else []
        words = [*(models or ()), *(options or ()), "--remove", *rest, f"--seed={seed}"]
        return _painted(images, mask, words, _work(work_folder))


class EditVideo(io.ComfyNode):
    """Changes what the mask covers as an instruction says."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoPainterEdit",
            display_name="VideoPainter Edit",
            category=CATEGORY,
            description="Changes what the mask covers as an instruction says. A language model writes the captions, or "
            "you do: prompt and image_prompt describe the edited video and the edited region.",
            inputs=[
                *_picture(),
                *_chosen(),
                io.String.Input(
                    "instruction", default="", multiline=True, tooltip="change the red ball to a blue star"
                ),
                *[flag.input() for flag in _CAPTIONS],
                _seed(),
                io.Image.Input("first_frame", optional=True, tooltip="Your own edited first frame."),
                _folder(),
            ],
            outputs=_made(),
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        mask: torch.Tensor,
        models: Words,
        instruction: str,
        seed: int,
        work_folder: str,
        options: Words | None = None,
        first_frame: torch.Tensor | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        words = [*models, *(options or ()), *words_of(_CAPTIONS, values), f"--seed={seed}"]
        words.append(f"--video_editing_instruction={' '.join(instruction.split())}")
        return _painted(images, mask, words, _work(work_folder), first_frame, run=edit)


class VideoPainterExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadModels, SetOptions, Segment, InpaintVideo, RemoveObjects, EditVideo]


async def comfy_entrypoint() -> VideoPainterExtension:
    """What ComfyUI calls."""
    return VideoPainterExtension()


def _work(given: str) -> Path:
    return work_folder(given)


def _says(words: Words | None, name: str) -> bool:
    return any(word.startswith(f"--{name}=") for word in words or ())


def _painted(
    images: torch.Tensor,
    mask: torch.Tensor,
    words: Sequence[str],
    folder: Path,
    first_frame: torch.Tensor | None = None,
    *,
    run: Any = inpaint,
) -> io.NodeOutput:
    """A result as IMAGE, and how it was made."""
    check_images(images)
    check_mask(mask, images)
    if first_frame is not None:
        words = [*words, f"--first_frame={write_picture(first_frame, folder)}"]
    video, hole = write_frames(images, folder), write_mask(mask, images, folder)
    with watched() as watch:
        file, record = run(words, video, hole, watch)
    return io.NodeOutput(read_result(file, images), record)
