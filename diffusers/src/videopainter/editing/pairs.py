"""Pairs for training editors: planned as edits, then written as source, masks and a record beside the edited video."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.captions.answers import verdict_of
from videopainter.captions.backends import asks_somebody, check_backend, check_inventor, make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames
from videopainter.captions.template import kind_of
from videopainter.data.clip import Clip, FrameSource, tags_of, times_of
from videopainter.data.records import RecordTable, record_paths
from videopainter.data.video.pictures import image_name_of
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.editing.captions import INSTRUCTION
from videopainter.editing.jobs import AUTO, EditedSample, check_instructions, edited_samples
from videopainter.editing.kinds import kind_for, parse_kinds
from videopainter.editing.measures import DIRECTION, ClipDirection, faults, measure_pixels
from videopainter.editing.options import EditBenchOptions, PairOptions
from videopainter.errors import InputError, complain
from videopainter.files import make_folder, read_json, sha256_text, write_json
from videopainter.locks import sweep
from videopainter.metrics.catalog import CLIP_SCORE
from videopainter.metrics.networks.downloads import absent, clip_folder
from videopainter.runs.options import InpaintOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, check_one_frame, plan_jobs
from videopainter.runs.results.manifest import manifest_path
from videopainter.runs.results.outputs import RESULT_SUFFIXES
from videopainter.runs.weights import find_ckpt
from videopainter.segmentation.output import write_masks

METADATA, DROPPED, CARD = "metadata.csv", "dropped.csv", "README.md"
RECORDS, _EDITED, _MASKS = "pairs", "edited", "masks"
# What a pair's record is made by: raised when the same result would give other files or numbers.
_VERSION = 1
_DEFAULT_FOLDER = "outputs/pairs"
_CHUNK = 16
_PLACE = ("path", "mask_id", "start_frame", "end_frame", "fps")


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """Where the parts of a pair lie, below the data set's folder: what the training set and `datasets` look for."""

    source: Path
    ids: Path
    mask: Path
    edited: Path
    record: Path

    @classmethod
    def of(cls, stem: str) -> PairFiles:
        source, ids = record_paths(f"{stem}.mp4")
        edited, mask = Path(_EDITED, f"{stem}.mp4"), Path(_MASKS, f"{stem}.mp4")
        return cls(source=source, ids=ids, mask=mask, edited=edited, record=Path(RECORDS, f"{stem}.json"))

    def are_in(self, folder: Path) -> bool:
        return all((folder / path).is_file() for path in (self.source, self.ids, self.mask, self.edited))


def pairs_folder(options: EditBenchOptions) -> Path:
    """The data set's folder.

    Raises:
        InputError: what is given names files, or a folder that holds another set's metadata.
    """
    given = options.edits.run.output.output_path or _DEFAULT_FOLDER
    folder = Path(given)
    is_file = folder.suffix.lower() in RESULT_SUFFIXES and not folder.is_dir()
    if is_file or folder.is_file() or image_name_of(given) or "{" in given:
        raise InputError(f"--output_path: expected a folder for the pairs, got {given}")
    if (folder / METADATA).exists() and not (folder / RECORDS).is_dir():
        raise InputError(f"--output_path: expected a folder of this command's pairs, got another set, in {folder}")
    return folder


def plan_pairs(options: EditBenchOptions) -> list[Job]:
    """Check all flags and name every pair's edited video, as `editing.jobs.plan_edits`; no video is opened.

    Raises:
        InputError, ValueError: in one line, for the first thing that does not fit.
    """
    run, pairs, folder = options.edits.run, options.pairs, pairs_folder(options)
    kinds = parse_kinds(pairs.instruction_kinds)
    wanted = options.edits.editing.video_editing_instruction or [None]
    _check(options, invents=AUTO in wanted)
    if asks_somebody(pairs.judge_model):
        check_inventor(pairs.judge_model, "--judge_model")
    find_ckpt(pairs.ckpt)
    check_one_frame(run.prompts)
    several = "_seed{seed}" if run.sampling.num_videos_per_prompt > 1 else ""
    if AUTO in wanted:
        run = _without_prompts(run)
    run = _within_table(run)
    pattern = f"{folder / _EDITED}/{{id:012d}}_{{name}}{several}.mp4"
    run = replace(run, output=replace(run.output, output_path=pattern))

    def listing(run: InpaintOptions) -> Sequence[EditedSample]:
        samples = edited_samples(run, [None if text == AUTO else text for text in wanted])
        return [
            replace(
                sample,
                name=_short_name(sample.name, numbered=len(wanted) > 1),
                kind=kind_for(_place_of(sample), kinds, run.sampling.seed) if AUTO in wanted else None,
            )
            for sample in samples
        ]

    jobs = plan_jobs(run, listing)
    make_folder(folder / RECORDS)
    sweep(folder, deep=True)
    return jobs


def _check(options: EditBenchOptions, *, invents: bool) -> None:
    run, wanted = options.edits.run, options.edits.editing.video_editing_instruction or []
    if run.output.lossless:
        raise InputError("--lossless: expected H.264, which training sets and data sets are read from, got FFV1")
    if not invents:
        check_instructions(options.edits)
        return
    if len(wanted) > 1:
        raise InputError(f"--video_editing_instruction: expected auto alone, got {len(wanted)} instructions")
    check_inventor(run.prompts.llm_model, "--video_editing_instruction auto")
    nothing = replace(options.edits.editing, video_editing_instruction=None)
    check_instructions(replace(options.edits, editing=nothing), invented=True)


def _without_prompts(run: InpaintOptions) -> InpaintOptions:
    """Scripts of the release give a --prompt, too, and nothing came of it."""
    prompts = run.prompts
    if prompts.prompt is not None or prompts.image_prompt is not None:
        complain("--prompt, --image_prompt: ignored, as with --video_editing_instruction auto --llm_model writes both")
    return replace(run, prompts=replace(prompts, prompt=None, image_prompt=None))


def _within_table(run: InpaintOptions) -> InpaintOptions:
    """Ranges of rows that go on past the table's end stop there: so many pairs are wanted, or as many as there are."""
    clips, ids = run.clip, run.clip.inpainting_sample_id
    if clips.video is not None or clips.inpainting_mask_meta is None or ids is None:
        return run
    given, last = " ".join(map(str, ids)).replace(",", " "), len(RecordTable(clips.inpainting_mask_meta)) - 1
    cut = re.sub(
        r"(?<!\S)(\d+)-(\d+)(?!\S)",
        lambda two: f"{two[1]}-{last}" if int(two[1]) <= last < int(two[2]) else two[0],
        given,
    )
    if cut == given:
        return run
    complain(f"--inpainting_sample_id {given}: {clips.inpainting_mask_meta} ends with row {last}, taken is {cut}")
    return replace(run, clip=replace(clips, inpainting_sample_id=[cut]))


def _short_name(name: str, *, numbered: bool) -> str:
    """For files: of at most 80 characters, and the number after them that tells several instructions apart."""
    stem, _, number = name.rpartition("_") if numbered else (name, "", "")
    short = re.sub(r"[^\w-]+", "_", stem)[:80]
    return f"{short}_{number}" if numbered else short


def _place_of(sample: EditedSample) -> int:
    """What a sample's kind follows from: its row; of one's own videos, one after the other, each its name."""
    return int(sha256_text(sample.name)[:8], 16) if sample.row is None else sample.row


@dataclass(kw_only=True)
class PairWriter:
    """Writes what belongs to finished edits: source, masks, and the record that says what they are worth.

    `device` says where models run that look at pairs.
    """

    folder: Path
    options: PairOptions
    device: Callable[[], str]

    def write_all(self, own: Sequence[Job], made: Sequence[Job], outcomes: Outcomes) -> None:
        """The pairs of `made`, and of those of `own` that failed, why. A pair that is whole is not made again."""
        try:
            for job in made:
                with outcomes.attempt(job.label):
                    self._write(job)
        finally:
            if "_judge" in vars(self) and self._judge is not None:
                self._judge.close()
        for job in own:
            if job.label in outcomes.failed:
                self._note_failure(job, outcomes.failed[job.label])

    def _write(self, job: Job) -> None:
        clip, stem = job.sample.open(), job.output.stem
        files, edited = PairFiles.of(stem), open_video(job.output)
        result = read_json(manifest_path(job.output), lenient=True)
        known = self._known(files, result["fingerprint"])
        if known is None or not files.are_in(self.folder):
            self._write_source(clip, files)
        source = open_video(self.folder / files.source)
        row = _row(job, clip, files, result)
        measures = dict(known["measures"]) if known else measure_pixels(source, edited, clip)
        words = (row["Original_video_caption"], row["Edited_video_caption"])
        same_words = known is not None and words == tuple(known[key] for key in _CAPTIONS)
        if not (same_words and measures.get(DIRECTION) is not None):
            measures[DIRECTION] = self._direction(source, edited, clip, words)
        same_edit = known is not None and same_words and known.get(INSTRUCTION) == row[INSTRUCTION]
        verdict = known.get("verdict") if known and same_edit else None
        if self._judge is not None and not faults(measures, self.options):
            verdict = self._verdict(clip, source, edited, row[INSTRUCTION], verdict)
        record = {
            **row,
            "measures": measures,
            "verdict": verdict,
            "origin": {key: result.get(key) for key in _PLACE},
            "captions": job.record["captions"],
            "made_by": result["fingerprint"],
            "version": _VERSION,
        }
        write_json(self.folder / files.record, record, indent=2)

    def _known(self, files: PairFiles, made_by: str) -> dict[str, Any] | None:
        """The record of this very result, if it is there."""
        with suppress(InputError, AttributeError):
            record = read_json(self.folder / files.record)
            if record.get("made_by") == made_by and record.get("version") == _VERSION:
                return record
        return None

    def _write_source(self, clip: Clip, files: PairFiles) -> None:
        frames = clip.frames
        how = {"tags": tags_of(frames), "times": times_of(frames), "sound": clip.sound}
        with VideoWriter(self.folder / files.source, fps=clip.fps, **how) as writer:
            for start in range(0, len(clip), _CHUNK):
                writer.write(frames.read(start, min(start + _CHUNK, len(clip))))
        for path in (files.ids, files.mask):
            write_masks(
                self.folder / path, lambda k: clip.masks.read(k, k + 1)[0].astype(np.uint8), len(clip), clip.fps
            )

    def _direction(
        self, source: FrameSource, edited: FrameSource, clip: Clip, captions: tuple[str, str]
    ) -> float | None:
        if self._clip_direction is None or not all(captions):
            return None
        return self._clip_direction(source, edited, clip, captions)

    @cached_property
    def _clip_direction(self) -> ClipDirection | None:
        ckpt = find_ckpt(self.options.ckpt)
        if absent(CLIP_SCORE, ckpt) is not None:
            return None
        return ClipDirection(clip_folder(ckpt), self.device())

    @cached_property
    def _judge(self) -> Captioner | None:
        name = self.options.judge_model
        if name is None or not asks_somebody(name):
            return None
        check_backend(name)
        return Captioner(make_backend(name, device=self.device))

    def _verdict(
        self, clip: Clip, source: FrameSource, edited: FrameSource, instruction: str, known: dict[str, Any] | None
    ) -> dict[str, Any]:
        assert self._judge is not None
        if known is not None and known["model"] == self._judge.name:
            return known
        before, after = (shown_frames(replace(clip, frames=frames)) for frames in (source, edited))
        answer = self._judge.verdict(before, after, instruction)
        keep, reason = verdict_of(answer.text)
        return {"keep": keep, "reason": reason, "model": answer.model}

    def _note_failure(self, job: Job, reason: str) -> None:
        """For the list of what is not in the set; a pair that was whole once stays."""
        path = self.folder / PairFiles.of(job.output.stem).record
        with suppress(InputError, AttributeError):
            if "failed" not in read_json(path):
                return
        write_json(path, {"failed": reason}, indent=2)


_CAPTIONS = ("Original_video_caption", "Edited_video_caption")


def _row(job: Job, clip: Clip, files: PairFiles, result: dict[str, Any]) -> dict[str, Any]:
    """A pair as a row: the release's keys, which the training set and the evaluation read, then files and facts."""
    record, sample = job.record, job.sample
    assert isinstance(sample, EditedSample)
    return {
        "path": files.source.name,
        "mask_id": 1,
        "start_frame": 0,
        "end_frame": len(clip),
        "fps": str(clip.fps),
        "caption": record["Original_video_caption"],
        **{key: record[key] for key in (*_CAPTIONS, "Edited_image_caption", INSTRUCTION)},
        "kind": sample.kind or kind_of(record[INSTRUCTION]) or "",
        "source_file_name": files.source.as_posix(),
        "edited_file_name": files.edited.as_posix(),
        "mask_file_name": files.mask.as_posix(),
        "masks": files.ids.as_posix(),
        "frames": len(clip),
        "height": clip.frames.height,
        "width": clip.frames.width,
        "seed": result["seed"],
    }
