"""Edits as jobs of a run: every sample with every instruction, and the captions that each of them gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from videopainter.captions.answers import NobodyAnswers
from videopainter.captions.backends import asks_somebody, check_backend, make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.template import kind_of
from videopainter.data.clip import Clip
from videopainter.editing.captions import NO_WRITER, Edit, instruction_of, invented_edit, read_edit
from videopainter.editing.options import EditOptions
from videopainter.errors import InputError, complain
from videopainter.runs.options import InpaintOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, plan_jobs, samples_of
from videopainter.runs.propagation import removal_preset
from videopainter.runs.samples import Sample

AUTO = "auto"  # an instruction that is to be invented


@dataclass(frozen=True, kw_only=True)
class EditedSample(Sample):
    """A sample and what is to be changed in it (None: what its row says, or something of a `kind`, to be invented).
    `removal` opens it for an edit that takes something away: with the mask grown over the object's edge."""

    instruction: str | None
    removal: Callable[[], Clip]
    kind: str | None = None


def plan_edits(options: EditOptions) -> list[Job]:
    """Check all flags and name every result, as `runs.plan.plan_jobs` does; no video is opened.

    Raises:
        InputError, ValueError: in one line, for the first thing that does not fit.
    """
    if AUTO in (options.editing.video_editing_instruction or ()):
        raise InputError("--video_editing_instruction auto: expected it with infer/edit_bench.py, got infer/edit.py")
    check_instructions(options)
    wanted = options.editing.video_editing_instruction or [None]
    return plan_jobs(options.run, lambda run: edited_samples(run, wanted))


def edited_samples(run: InpaintOptions, wanted: Sequence[str | None]) -> list[EditedSample]:
    """Each sample with each instruction; several instructions number the samples' names."""
    plain = samples_of(run)
    grown = samples_of(replace(run, propagation=replace(run.propagation, remove=True)))
    return [
        EditedSample(
            row=sample.row,
            name=sample.name if len(wanted) == 1 else f"{sample.name}_{number}",
            open=sample.open,
            removal=removal.open,
            instruction=instruction,
        )
        for sample, removal in zip(plain, grown, strict=True)
        for number, instruction in enumerate(wanted, 1)
    ]


def check_instructions(options: EditOptions, *, invented: bool = False) -> None:
    """InputError, of the flags, for edits that cannot be made, or whose captions nobody could write."""
    wanted = options.editing.video_editing_instruction
    if wanted is not None and not all(text.strip() for text in wanted):
        raise InputError("--video_editing_instruction: expected what to change, got an empty text")
    if wanted is not None and len(wanted) > 1 and any(len(text.split()) == 1 for text in wanted):
        one = next(text for text in wanted if len(text.split()) == 1)
        raise InputError(
            f"--video_editing_instruction: expected each in quotes, got {one!r} among {len(wanted)} of them"
        )
    if options.run.propagation.propose_affected is not None:
        raise InputError("--propose_affected goes with infer/inpaint.py, which writes the mask that --affected takes")
    if options.run.propagation.remove:
        raise InputError('--remove: expected the instruction to say so ("remove the dog"), got the flag')
    if wanted is None and options.run.clip.video is not None and not invented:
        raise InputError("--video needs --video_editing_instruction: what to change in it, in words")
    if options.run.propagation.propagate == "only":
        raise InputError("--propagate only paints nothing: expected off, first_frame or all to edit, got only")
    prompts = options.run.prompts
    if asks_somebody(prompts.llm_model) and not (prompts.prompt and prompts.image_prompt) and wanted is not None:
        check_backend(prompts.llm_model or "")
    painted = [text for text in wanted or () if kind_of(text) != "remove"]
    if options.run.clip.video is not None and painted and not (prompts.prompt or asks_somebody(prompts.llm_model)):
        raise NobodyAnswers(NO_WRITER)  # before a mask is tracked for minutes


def with_captions(jobs: Sequence[Job], outcomes: Outcomes, device: Callable[[], str]) -> dict[int, Job]:
    """The jobs with captions of what they make, by the id of what they were; without those that failed. `device` says
    where a model runs that writes them here."""
    done: dict[int, Job] = {}
    edits: dict[int, tuple[Edit, Sample]] = {}  # the seeds of a sample share its captions and its first frame
    captioners: dict[str, Captioner] = {}

    def asking(name: str) -> Captioner:
        if name not in captioners:
            captioners[name] = Captioner(make_backend(name, device=device))
        return captioners[name]

    try:
        for job in jobs:
            with outcomes.attempt(job.label):
                key = id(job.sample)
                if key not in edits:
                    edit = _edit_of(job, asking)
                    edits[key] = edit, _edited_sample(job.sample, edit)
                done[id(job)] = _edited(job, *edits[key])
    finally:
        for captioner in captioners.values():
            captioner.close()
    return done


def _edit_of(job: Job, asking: Callable[[str], Captioner]) -> Edit:
    prompts, sample = job.options.prompts, job.sample
    assert isinstance(sample, EditedSample)
    clip = sample.open()
    name = prompts.llm_model or ""
    if sample.kind is not None:
        edit = invented_edit(clip, sample.kind, _recalling(asking(name), job))
    else:
        edit = read_edit(
            clip,
            instruction_of(clip, sample.instruction),
            (lambda: _recalling(asking(name), job)) if asks_somebody(name) else None,
            video=prompts.prompt,
            region=prompts.image_prompt,
        )
    if edit.answers and not job.options.output.quiet:
        complain(f"{sample.label}: {edit.instruction} -> {edit.region} ({edit.answers[-1].model})")
    return edit


def _recalling(captioner: Captioner, job: Job) -> Captioner:
    captioner.recall(job.output)
    return captioner


def _edited_sample(sample: Sample, edit: Edit) -> Sample:
    assert isinstance(sample, EditedSample)
    opening = sample.removal if edit.removes else sample.open
    return replace(sample, open=lambda: edit.apply(opening()))


def _edited(job: Job, edit: Edit, sample: Sample) -> Job:
    plan = replace(job.plan, options=_removing(job.options)) if edit.removes else job.plan
    return replace(job, plan=plan, sample=sample, record=edit.record())


def _removing(options: InpaintOptions) -> InpaintOptions:
    """What other frames show is copied, unless the user said how; a model paints the rest."""
    propagation = options.propagation
    propagate = "all" if propagation.propagate == "off" else propagation.propagate
    return removal_preset(replace(options, propagation=replace(propagation, remove=True, propagate=propagate)))
