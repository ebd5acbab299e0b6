"""What each job will ask of a device's memory, so that a memory mode is chosen before weights load. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videopainter.data.clip import Clip, MaskSource
from videopainter.data.crops import CropPath
from videopainter.data.reshape import resize_masks
from videopainter.files import read_json, write_json
from videopainter.models.backbones.grid import LatentGrid
from videopainter.models.backbones.registry import facts_of
from videopainter.models.checkpoint_files import adapter_file, read_config, read_safetensors_metadata
from videopainter.pipelines.memory import Workload
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.windows import Window, plan_windows
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, Plan
from videopainter.runs.propagation import painted_masks
from videopainter.runs.results.manifest import work_dir

_CROP_FILE = "crop.json"


def workloads(jobs: Sequence[Job], outcomes: Outcomes) -> tuple[list[Workload], list[Job]]:
    """What these jobs do, each different thing once; and the jobs whose masks could not be read.

    The seeds of a sample are looked at once.
    """
    known: dict[tuple[int, int], Workload] = {}
    failed: list[Job] = []
    for job in jobs:
        key = id(job.plan), id(job.sample)
        if key in known:
            continue
        failed.append(job)
        with outcomes.attempt(job.label):
            known[key] = _workload(job)
            failed.pop()
    return list(dict.fromkeys(known.values())), failed


def _workload(job: Job) -> Workload:
    settings, clip = job.settings, job.sample.open()
    backbone = facts_of(read_config(Path(job.plan.weights.model_path) / "transformer"))
    crop = job_crop(job, clip)
    height, width = settings.working_size(backbone, crop.height, crop.width)
    windows = plan_windows(len(clip), settings.num_frames, settings.overlap_frames, backbone.grid).windows
    form = _form(job.plan, settings)
    hole_share = 0.0
    if form is not None:
        rows, columns = height // backbone.grid.multiple, width // backbone.grid.multiple
        masks = _masks_seen(job, clip)
        hole_share = max(_hole_share(masks, crop, window, backbone.grid, rows, columns) for window in windows)
    return Workload(
        height=height,
        width=width,
        num_frames=windows[0].num_frames,
        guidance=settings.guidance,
        form=form,
        hole_share=hole_share,
        hands_on=form is not None and settings.prev_clip_weight > 0 and len(windows) > 1,
        step_cache=job.options.model.cache,
        processes=job.options.model.context_parallel,
    )


def _form(plan: Plan, settings: InpaintSettings) -> str | None:
    if settings.id_resample != "auto":
        return None if settings.id_resample == "off" else settings.id_resample
    if plan.weights.id_adapter is None:
        return None
    return read_safetensors_metadata(adapter_file(plan.weights.id_adapter)).get("id_resample_form", "exact")


def _masks_seen(job: Job, clip: Clip) -> MaskSource:
    """The holes that the model gets: what was copied is no longer in them, but they are wider than the rest."""
    if job.whole is None:
        return clip.masks
    return painted_masks(job.options.propagation, job.whole.open(), clip).seen


def job_crop(job: Job, clip: Clip) -> CropPath:
    """What the model sees of a job's clip, as its sample gives it; found once, and kept in the work folder, which must
    be this run's (`results.manifest.begin`)."""
    settings = job.settings
    if settings.crop == "none":
        return CropPath.whole(clip.frames.height, clip.frames.width, len(clip))
    file = work_dir(job.output) / _CROP_FILE
    if file.exists():
        return CropPath.from_json(read_json(file, "crop"))
    backbone = facts_of(read_config(Path(job.plan.weights.model_path) / "transformer"))
    crop = settings.crop_path(backbone, _masks_seen(job, clip))
    write_json(file, crop.to_json())
    return crop


def _hole_share(masks: MaskSource, crop: CropPath, window: Window, grid: LatentGrid, rows: int, columns: int) -> float:
    """The share of a window's tokens that a hole touches, in the frames that its latents ask; never less than counted
    by the models, whose latents ask for one pixel in 64."""
    read = masks.read(window.start, min(window.stop, len(masks)))
    latents = grid.latent_frames(window.num_frames)
    asked = np.arange(latents) * window.num_frames // latents
    seen = [crop.cut(read[k : k + 1], window.start + k) for k in np.minimum(asked, len(read) - 1).tolist()]
    touched = resize_masks(np.concatenate(seen), rows, columns)
    touched = np.concatenate([touched[:1]] * grid.missing(latents) + [touched])
    return float(touched.reshape(-1, grid.patch_t, rows, columns).any(axis=1).mean())
