"""The largest thing that a run will do, so that a memory mode is chosen before weights load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from videopainter.data.clip import MaskSource
from videopainter.models.backbones.protocol import Facts
from videopainter.models.backbones.registry import facts_of
from videopainter.models.checkpoint_files import adapter_file, read_config, read_safetensors_metadata
from videopainter.pipelines.memory import Workload
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.windows import plan_windows
from videopainter.runs.plan import Job, Plan

_LOOKS = 33  # frames whose mask is looked at


def largest_workload(jobs: Sequence[Job]) -> Workload:
    """What takes most on each axis of all these jobs: most pixels, longest window, largest hole."""
    each = [_workload(job) for job in jobs]
    largest = max(each, key=lambda one: one.height * one.width)
    return Workload(
        height=largest.height,
        width=largest.width,
        num_frames=max(one.num_frames for one in each),
        guidance=any(one.guidance for one in each),
        form=largest.form,
        hole_share=max(one.hole_share for one in each),
        hands_on=any(one.hands_on for one in each),
    )


def _workload(job: Job) -> Workload:
    plan, settings, clip = job.plan, job.settings, job.sample.open()
    backbone = facts_of(read_config(Path(plan.weights.model_path) / "transformer"))
    height, width = _size(backbone, settings, clip.frames.height, clip.frames.width)
    windows = plan_windows(len(clip), settings.num_frames, settings.overlap_frames, backbone.grid)
    form = _form(plan, settings)
    return Workload(
        height=height,
        width=width,
        num_frames=windows.windows[0].stop - windows.windows[0].start,
        guidance=settings.guidance,
        form=form,
        hole_share=0.0
        if form is None
        else _hole_share(clip.masks, height // backbone.grid.multiple, width // backbone.grid.multiple),
        hands_on=form is not None and settings.prev_clip_weight > 0 and len(windows.windows) > 1,
    )


def _size(backbone: Facts, settings: InpaintSettings, height: int, width: int) -> tuple[int, int]:
    if settings.height is not None and settings.width is not None:
        return settings.height, settings.width
    return backbone.grid.working_size(height, width, math.prod(backbone.trained_size))


def _form(plan: Plan, settings: InpaintSettings) -> str | None:
    if settings.id_resample != "auto":
        return None if settings.id_resample == "off" else settings.id_resample
    if plan.weights.id_adapter is None:
        return None
    return read_safetensors_metadata(adapter_file(plan.weights.id_adapter)).get("id_resample_form", "exact")


def _hole_share(masks: MaskSource, rows: int, columns: int) -> float:
    """The largest share of a frame's rows×columns tokens that a hole touches, among frames spread over the clip."""
    largest = 0.0
    for frame in np.unique(np.linspace(0, len(masks) - 1, _LOOKS).astype(int)):
        mask = masks.read(int(frame), int(frame) + 1)[0].astype(np.float32)
        tokens = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA)
        largest = max(largest, float((tokens > 0).mean()))
    return largest
