"""Copying what other frames show, as part of a run or as all of it. Needs no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.data.clip import Clip, MaskSource
from videopainter.data.masks.views import DilatedMasks
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError, complain
from videopainter.files import remove_folder, write_json
from videopainter.locks import held
from videopainter.propagation.affected import AROUND, AffectedMasks
from videopainter.propagation.seam import Copies, SpreadMasks, one_latent, propagated
from videopainter.propagation.settings import QUALITIES, PropagationSettings
from videopainter.runs.options import InpaintOptions, PropagationOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job
from videopainter.runs.processes import Precision
from videopainter.runs.record import make_record, make_stamp
from videopainter.runs.results.manifest import Hasher, begin, is_finished, manifest_path, work_dir
from videopainter.runs.results.writers import ResultWriter, missing_beside, write_missing_beside
from videopainter.runs.watch import Watch

COPIES_FOLDER = "copied"  # in a work folder
_PROPOSAL_FOLDER = "proposal"  # there, too
_WRITTEN, _WRITTEN_BYTES = 16, 2**27  # frames of a result at once, and no more of large ones than that
_VIDEOS = (".mp4", ".mov", ".mkv")
_REMOVAL_FEATHER = 3
_REMOVAL_PROMPT = "The empty background of the scene, with nothing in front of it."
_LATENT = 8 / 480  # of the shorter side: what a model's hole is wider than the rest


def removal_defaults(given: Mapping[str, Any]) -> dict[str, str]:
    """What `--remove` makes of other flags' defaults, as text; `given`: the flags of the command line."""
    if not given.get("remove"):
        return {}
    return {
        "propagate": "only" if given.get("model_path") is None else "all",
        "match_edges": "true",
        "feather": str(_REMOVAL_FEATHER),
        "prompt": _REMOVAL_PROMPT,
    }


def removal_preset(options: InpaintOptions) -> InpaintOptions:
    """As `removal_defaults`, for a removal that no flag asked for; other values than the defaults stay."""
    propagation = options.propagation
    if not propagation.remove:
        return options
    if propagation.propagate == "off":
        propagation = replace(propagation, propagate="only" if options.model.model_path is None else "all")
    return replace(
        options,
        propagation=propagation,
        sampling=replace(options.sampling, match_edges=True, feather=options.sampling.feather or _REMOVAL_FEATHER),
        prompts=replace(
            options.prompts, prompt=_REMOVAL_PROMPT if options.prompts.prompt is None else options.prompts.prompt
        ),
    )


def propagation_settings(options: PropagationOptions) -> PropagationSettings:
    """What the flags ask for."""
    return QUALITIES[options.propagation_quality]


def copies_of(job: Job) -> Copies:
    """What was copied for a job."""
    return Copies(work_dir(job.output) / COPIES_FOLDER)


def copied(job: Job, watch: Watch | None = None) -> Clip:
    """The job's clip with copied pixels in its frames, and masks of the rest; done once, kept in the work folder."""
    options, clip = job.options.propagation, job.sample.open()
    if options.propagate == "off":
        return clip
    most = 1 if options.propagate == "first_frame" else None
    progress = _Progress(job.label, len(clip), quiet=job.options.output.quiet)

    def tell(done: int) -> None:
        progress(done)
        if watch is not None:
            watch.at("propagate", done, most or len(clip))

    return propagated(clip, copies_of(job).folder, propagation_settings(options), most=most, on_frames=tell)


@dataclass(frozen=True, kw_only=True)
class PaintedMasks:
    """`seen`: the hole that the model gets; `pasted`: what of its painting goes into the video."""

    seen: MaskSource
    pasted: MaskSource


def painted_masks(options: PropagationOptions, whole: Clip, clip: Clip) -> PaintedMasks:
    """Masks for painting the rest of a clip whose holes were `whole`'s.

    The model's hole is the rest in any of a latent's frames, and about a latent wider. Pasted is no more than the rest:
    with that of the two frames before and after, a panning clip lost 2.5 dB and flickered more.
    """
    if options.propagate == "first_frame":
        return PaintedMasks(seen=clip.masks, pasted=clip.masks)
    grow = max(1, round(_LATENT * min(clip.frames.height, clip.frames.width)))
    return PaintedMasks(
        seen=SpreadMasks(clip.masks, whole.masks, one_latent, grow),
        pasted=clip.masks,
    )


def copy_only(jobs: Sequence[Job], outcomes: Outcomes, seconds: dict[str, float], watch: Watch | None = None) -> None:
    """Results without a model: copied where another frame shows it, else closed from around it."""
    hasher, precision = Hasher(), Precision(device="cpu", dtype="none")
    for job in jobs:
        with outcomes.attempt(job.label), held(job.output):
            outcomes.started = True
            _copy_one(job, hasher, precision, dict(seconds), watch or Watch())
            outcomes.done.append(job.label)


def _copy_one(job: Job, hasher: Hasher, precision: Precision, seconds: dict[str, float], watch: Watch) -> None:
    output, whole = job.options.output, job.sample.open()
    stamp = make_stamp(job, whole, precision, hasher)
    if is_finished(job.output, stamp.fingerprint, overwrite=output.overwrite):
        complain(f"finished already: {job.output}")
        write_beside_finished(job)
        return
    begin(job.output, stamp.fingerprint)
    resumed, started = any(copies_of(job).folder.glob("*.npz")), time.perf_counter()
    clip = copied(job, watch)
    seconds["propagate"] = time.perf_counter() - started
    at_once = max(1, min(_WRITTEN, _WRITTEN_BYTES // (3 * clip.frames.height * clip.frames.width)))
    with ResultWriter(job.output, whole, output, clip.masks) as writer:
        for start in range(0, len(clip), at_once):
            watch.at("write", start, len(clip))
            writer.write(clip.frames.read(start, min(start + at_once, len(clip))))
    seconds["write"] = time.perf_counter() - started - seconds["propagate"]
    record = make_record(job, whole, stamp, precision, seconds, hasher)
    write_json(manifest_path(job.output), record | {"resumed": resumed} | facts(job), indent=2)
    remove_folder(work_dir(job.output))
    if not output.quiet:
        complain(f"written: {job.output}")


def write_beside_finished(job: Job) -> None:
    """What is asked for beside a finished result and not there. What was copied into it is found out once more."""
    output, whole = job.options.output, job.sample.open()
    if not missing_beside(job.output, output):
        return
    if job.options.propagation.propagate == "off":
        write_missing_beside(job.output, whole, output)
        return
    try:
        write_missing_beside(job.output, whole, output, copied(job).masks)
    finally:
        _remove_from_work(copies_of(job).folder)


def _remove_from_work(folder: Path) -> None:
    """Removes a folder in a work folder, and that one, too, where nothing else is in it."""
    remove_folder(folder)
    with suppress(OSError):  # what another, unfinished run keeps there stays
        folder.parent.rmdir()


def facts(job: Job) -> dict[str, Any]:
    """For the JSON beside a result: how much of the hole was copied, and how far off that is expected to be."""
    return {} if job.options.propagation.propagate == "off" else {"propagation": copies_of(job).facts()}


def propose_affected(job: Job, file: Path) -> None:
    """Write a mask video of what changes beside the job's mask and touches it; say how it is used.

    Raises:
        InputError: `file` is no name of a video, or is there already and is not to be replaced.
    """
    if file.suffix.lower() not in _VIDEOS:
        raise InputError(f"--propose_affected: expected a video to write ({', '.join(_VIDEOS)}), got {file}")
    if file.exists() and not job.options.output.overwrite:
        raise InputError(f"--propose_affected: {file} is there already; choose another name, or give --overwrite")
    clip = job.sample.open()
    size = 2 * round(AROUND * min(clip.masks.height, clip.masks.width)) + 1
    wide = DilatedMasks(clip.masks, size)
    with held(file):
        settings = QUALITIES[job.options.propagation.propagation_quality]
        work = work_dir(file) / _PROPOSAL_FOLDER
        remove_folder(work)  # that of a killed run may be another video's
        try:
            background = propagated(clip.with_masks(wide), work, settings)
            share = _write(file, AffectedMasks(clip, background, wide))
        finally:
            _remove_from_work(work)
    if not share:
        complain(f"nothing seems to change beside the mask; {file} is black")
    else:
        complain(f"proposed: {file} ({share:.1%} of the picture). Look at it; if that is to go, too: --affected {file}")


def _write(file: Path, masks: AffectedMasks) -> float:
    """The share of the picture that they cover."""
    covered = 0
    with VideoWriter(file, fps=masks.clip.fps) as writer:
        for start in range(0, len(masks), _WRITTEN):
            found = masks.read(start, min(start + _WRITTEN, len(masks)))
            covered += int(found.sum())
            writer.write(np.repeat(found[..., None] * np.uint8(255), 3, axis=-1))
    return covered / (len(masks) * masks.height * masks.width)


class _Progress:
    """A line every few seconds, while it takes some."""

    _EVERY = 10.0  # seconds

    def __init__(self, label: str, length: int, *, quiet: bool) -> None:
        self.label, self.length, self.quiet = label, length, quiet
        self.told = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if not self.quiet and now - self.told > self._EVERY:
            self.told = now
            complain(f"{self.label}: copied what other frames show in {done} of {self.length} frames")
