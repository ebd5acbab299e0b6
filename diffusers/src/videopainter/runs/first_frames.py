"""The first frame of every clip before the video model is loaded: who words its prompt, and who fills its hole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from videopainter.captions.backends import make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames
from videopainter.data.clip import Clip
from videopainter.data.images import read_image, write_image
from videopainter.errors import complain
from videopainter.pipelines.first_frame import make_filler
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, fitting_image, has_first_frame, needs_image_prompt
from videopainter.runs.processes import Precision, torch_dtype
from videopainter.runs.record import image_prompt
from videopainter.runs.results.manifest import work_dir
from videopainter.runs.samples import Sample


def captioned(jobs: Sequence[Job], outcomes: Outcomes, device: Callable[[], str]) -> dict[int, Job]:
    """The jobs with the image prompts that were missing, by the id of what they were; without those that failed.
    `device` says where a model runs that writes them here.

    Answers are remembered: a run that is started again makes the same results and asks nobody.
    """
    done: dict[int, Job] = {}
    samples: dict[int, tuple[Sample, list[dict]]] = {}  # the seeds (and sweeps) of a sample share its prompt
    captioners: dict[str, Captioner] = {}
    try:
        for job in jobs:
            with outcomes.attempt(job.label):
                key = id(job.sample)
                if key not in samples:
                    samples[key] = _with_prompt(job, captioners, device)
                sample, notes = samples[key]
                done[id(job)] = replace(job, sample=sample, record={"captions": notes}) if notes else job
    finally:
        for captioner in captioners.values():
            captioner.close()
    return done


def _with_prompt(job: Job, captioners: dict[str, Captioner], device: Callable[[], str]) -> tuple[Sample, list[dict]]:
    prompts, sample = job.options.prompts, job.sample
    clip = sample.open()
    if not needs_image_prompt(prompts, clip):
        return sample, []
    name = prompts.llm_model or ""
    if name not in captioners:
        captioners[name] = Captioner(make_backend(name, device=device))
    captioners[name].recall(job.output)
    answer = captioners[name].hole(shown_frames(clip), clip.prompt)
    if not job.options.output.quiet:
        complain(f"{sample.label}: image prompt by {answer.model}: {answer.text}")
    return replace(sample, open=_opening(sample, answer.text)), [answer.note()]


def _opening(sample: Sample, image_prompt: str) -> Callable[[], Clip]:
    return lambda: replace(sample.open(), image_prompt=image_prompt)


def first_frame_file(job: Job) -> Path:
    """Where a job's filled first frame waits for the video model."""
    return work_dir(job.output) / "first_frame.png"


def fill_first_frames(jobs: Sequence[Job], precision: Precision, outcomes: Outcomes) -> list[Job]:
    """Fill what is not filled yet, with one filler for all (their plans name the same); the jobs where that failed."""
    missing = [job for job in jobs if _needs_filling(job)]
    if not missing:
        return []
    failed: list[Job] = []
    filled: dict[int, Path] = {}  # the seeds (and sweeps) of a sample share its first frame
    model = missing[0].options.prompts.img_inpainting_model
    filler = make_filler(model, dtype=torch_dtype(precision.dtype), device=precision.device)
    try:
        for job in missing:
            failed.append(job)
            with outcomes.attempt(job.label):
                file, known = first_frame_file(job), filled.get(id(job.sample))
                seed = job.options.sampling.seed
                write_image(file, read_image(known) if known else _fill(filler, job.sample.open(), seed))
                filled[id(job.sample)] = file
                failed.pop()
    finally:
        filler.close()
    return failed


def _needs_filling(job: Job) -> bool:
    prompts = job.options.prompts
    return prompts.first_frame is None and has_first_frame(prompts) and not first_frame_file(job).exists()


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


def load_first_frame(job: Job, clip: Clip) -> np.ndarray | None:
    """The first frame that the video model starts from, uint8 (H, W, 3); None leaves it to the model.

    Where the first mask is empty, it is the clip's own.
    """
    prompts = job.options.prompts
    if prompts.first_frame is not None:
        return fitting_image(Path(prompts.first_frame), clip)
    if has_first_frame(prompts):
        return read_image(first_frame_file(job))
    return None if clip.masks.read(0, 1).any() else clip.frames.read(0, 1)[0]
