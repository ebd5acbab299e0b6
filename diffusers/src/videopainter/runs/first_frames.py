"""The first frame of every clip before the video model is loaded: who words its prompt, and who fills its hole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.captions.backends import make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames
from videopainter.data.clip import Clip
from videopainter.data.images import read_image, write_image
from videopainter.errors import complain
from videopainter.files import read_json, remove_folder
from videopainter.pipelines.first_frame import VIDEO_MODEL, BackboneFiller, FirstFrameFiller, make_filler
from videopainter.runs.candidates import Candidates, ClipChoice, choice_file, filled_frame
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, fitting_image, has_first_frame, needs_image_prompt
from videopainter.runs.processes import Precision, torch_dtype
from videopainter.runs.results.manifest import work_dir
from videopainter.runs.samples import Sample
from videopainter.runs.weights import choosing_clip
from videopainter.runs.workload import job_crop


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


def fill_first_frames(
    jobs: Sequence[Job], precision: Precision, outcomes: Outcomes, load_video_model: Callable[[], Any]
) -> list[Job]:
    """Fill what is not filled yet, with one filler for all (their plans name the same).

    `load_video_model` gives the pipeline where that is the filler. Returns the jobs that cannot go on: where it failed,
    and those whose candidates wait for somebody to choose.
    """
    missing = [job for job in jobs if _needs_filling(job)]
    if not missing:
        return []
    stopped: list[Job] = []
    shared: dict[int, Job] = {}  # the seeds (and sweeps) of a sample share its first frame
    several = missing[0].options.prompts.first_frame_candidates > 1
    prompts = missing[0].options.prompts
    filler: FirstFrameFiller
    if prompts.img_inpainting_model == VIDEO_MODEL:
        filler = BackboneFiller(load_video_model(), missing[0].settings, prompts.negative_prompt)
    else:
        dtype = torch_dtype(precision.dtype)
        filler = make_filler(prompts.img_inpainting_model, dtype=dtype, device=precision.device)
    try:
        for job in missing:
            stopped.append(job)
            with outcomes.attempt(job.label):
                if id(job.sample) not in shared:
                    if several:
                        Candidates(job=job).paint(filler)
                    else:
                        clip = job.sample.open()
                        frame = filled_frame(filler, clip, job.options.sampling.seed, job_crop(job, clip).box(0))
                        write_image(first_frame_file(job), frame)
                    shared[id(job.sample)] = job
                elif not several:
                    write_image(first_frame_file(job), read_image(first_frame_file(shared[id(job.sample)])))
                stopped.pop()
    finally:
        filler.close()
    painted = [job for job in missing if job not in stopped]
    return stopped + _choose(painted, shared, precision, outcomes) if several else stopped


def _choose(jobs: Sequence[Job], shared: Mapping[int, Job], precision: Precision, outcomes: Outcomes) -> list[Job]:
    """Take a candidate for each of these jobs; returns those for which nobody has chosen, or where it failed."""
    stopped: list[Job] = []
    by_clip: ClipChoice | None = None
    for job in jobs:
        candidates, file = Candidates(job=shared[id(job.sample)]), first_frame_file(job)
        stopped.append(job)
        with outcomes.attempt(job.label):
            if candidates.chosen is not None:
                candidates.take(candidates.chosen, file)
            else:
                sheet = candidates.write_sheet()
                folder = choosing_clip(job.options.prompts.choose_first_frame)
                if folder is None:
                    complain(
                        f"{job.label}: look at {sheet}, and start again with --choose_first_frame NUMBER (or clip)"
                    )
                    remove_folder(work_dir(job.output))
                    outcomes.done.append(job.label)
                    continue
                by_clip = by_clip or ClipChoice(folder, precision.device)
                scores = by_clip.scores(candidates)
                candidates.take(max(scores, key=lambda number: scores[number]), file, clip_scores=scores)
            stopped.pop()
    return stopped


def choice_of(job: Job) -> dict[str, Any]:
    """For the JSON beside a result: which candidate its first frame is, where there were several."""
    file = choice_file(job)
    return {"first_frame_choice": read_json(file)} if file.exists() else {}


def _needs_filling(job: Job) -> bool:
    prompts = job.options.prompts
    return prompts.first_frame is None and has_first_frame(prompts) and not first_frame_file(job).exists()


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
