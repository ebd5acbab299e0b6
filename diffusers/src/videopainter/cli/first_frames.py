"""The first frame of every clip, filled before the video model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videopainter.cli.devices import torch_dtype
from videopainter.cli.manifest import work_dir
from videopainter.cli.plan import Job, Plan, fitting_image, has_first_frame
from videopainter.cli.recipe import Precision, image_prompt
from videopainter.cli.report import Report
from videopainter.data.clip import Clip
from videopainter.data.images import read_image, write_image
from videopainter.pipelines.first_frame import make_filler


def first_frame_file(job: Job) -> Path:
    """Where a job's filled first frame waits for the video model."""
    return work_dir(job.output) / "first_frame.png"


def fill_first_frames(plan: Plan, jobs: Sequence[Job], precision: Precision, report: Report) -> list[Job]:
    """Fill what is not filled yet, with one filler for all; returns the jobs where that failed."""
    prompts = plan.options.prompts
    missing = [job for job in jobs if not first_frame_file(job).exists()]
    if prompts.first_frame is not None or not has_first_frame(prompts) or not missing:
        return []
    failed: list[Job] = []
    sample, image = None, None  # the seeds of a sample share its first frame
    filler = make_filler(prompts.img_inpainting_model, dtype=torch_dtype(precision.dtype), device=precision.device)
    try:
        for job in missing:
            failed.append(job)
            with report.attempt(job):
                if sample is not job.sample or image is None:
                    sample, image = job.sample, _fill(filler, job.sample.open(), plan.options.sampling.seed)
                write_image(first_frame_file(job), image)
                failed.pop()
    finally:
        filler.close()
    return failed


def _fill(filler, clip: Clip, seed: int) -> np.ndarray:
    image, mask = clip.frames.read(0, 1)[0], clip.masks.read(0, 1)[0]
    if not mask.any():
        return image
    filled = filler.fill(image, mask, prompt=image_prompt(clip), seed=seed)
    if filled is None or filled.shape != image.shape:
        raise RuntimeError(
            f"the first-frame filler gave {None if filled is None else filled.shape}, expected {image.shape}"
        )
    return filled


def load_first_frame(plan: Plan, job: Job, clip: Clip) -> np.ndarray | None:
    """The first frame that the video model starts from, uint8 (H, W, 3); None leaves it to the model.

    Where the first mask is empty, it is the clip's own.
    """
    prompts = plan.options.prompts
    if prompts.first_frame is not None:
        return fitting_image(Path(prompts.first_frame), clip)
    if has_first_frame(prompts):
        return read_image(first_frame_file(job))
    return None if clip.masks.read(0, 1).any() else clip.frames.read(0, 1)[0]
