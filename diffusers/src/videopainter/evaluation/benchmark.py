"""From evaluation flags to runs: one per set, dilation and background setting, each with a plan of `infer`'s own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from videopainter.errors import InputError
from videopainter.evaluation.options import BenchmarkOptions, EvaluateOptions
from videopainter.evaluation.pairs import Pair, borders_of, open_result, read_record, region_prompt_of, with_truth
from videopainter.evaluation.scoring import Entry
from videopainter.metrics.report.published import PUBLISHED
from videopainter.runs.options import ClipOptions, InpaintOptions, OutputOptions
from videopainter.runs.plan import Job, check_one_frame, plan_jobs

VIDEOS = "videos"  # in a run's folder: results and the JSON of how each was made
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, kw_only=True)
class BenchmarkRun:
    """One setting on one set: its folder, and what `infer` would make there."""

    set_name: str
    dilate_size: int
    replace_gt: bool
    folder: Path
    jobs: list[Job]

    @property
    def name(self) -> str:
        return f"{self.set_name}/{setting_name(self.dilate_size, self.replace_gt)}"


def setting_name(dilate_size: int, replace_gt: bool) -> str:
    """`dilate32_replace`, or `dilate32_generate` where the background is generated, too."""
    return f"dilate{dilate_size}_{'replace' if replace_gt else 'generate'}"


def make_runs(options: EvaluateOptions) -> list[BenchmarkRun]:
    """Every run, in the order set, dilation, background; all flags are checked, no video is opened.

    Raises:
        InputError, ValueError: in one line, for the first thing that does not fit.
    """
    benchmark = options.benchmark
    sets = parse_sets(benchmark.sets)
    if options.sampling.num_videos_per_prompt != 1:
        raise InputError("--num_videos_per_prompt: expected 1, as a benchmark has one result per row; use --seed")
    for flag, names in (("long_sets", benchmark.long_sets), ("native_fps_sets", benchmark.native_fps_sets)):
        unknown = [name for name in names if name not in {*sets, *PUBLISHED, "none"}]
        if unknown:
            raise InputError(f"--{flag}: expected sets out of {', '.join(sets)}, got {', '.join(unknown)}")
    check_one_frame(options.prompts)
    runs = []
    for name, csv in sets.items():
        for dilate_size in dict.fromkeys(benchmark.dilate_sizes):
            runs += _runs_of(options, name, csv, dilate_size)
    return runs


def parse_sets(texts: list[str] | None) -> dict[str, str]:
    """{name: CSV} from `NAME=FILE`; InputError for none, for anything else, and for a name given twice."""
    sets: dict[str, str] = {}
    for text in texts or []:
        name, equals, csv = text.partition("=")
        if not equals or not csv or not name.replace("_", "").replace("-", "").isalnum():
            raise InputError(f"--sets: expected NAME=CSV (letters, digits, - and _ in the name), got {text!r}")
        if name in sets:
            raise InputError(f"--sets: expected each name once, got {name} twice")
        sets[name] = csv
    if not sets:
        raise InputError("--sets: expected NAME=CSV, as in --sets standard=data/our_video_inpaint.csv; none came")
    return sets


def _runs_of(options: EvaluateOptions, set_name: str, csv: str, dilate_size: int) -> list[BenchmarkRun]:
    """Runs that share their samples, so that a first frame is filled once for all of them."""
    benchmark, runs = options.benchmark, []
    for replace_gt in _replace_gts(options):
        folder = Path(benchmark.output_path) / set_name / setting_name(dilate_size, replace_gt)
        jobs = plan_jobs(_inpaint_options(options, set_name, csv, dilate_size, replace_gt, folder))
        if runs:
            jobs = [replace(job, sample=first.sample) for first, job in zip(runs[0].jobs, jobs, strict=True)]
        label = f"{set_name} {setting_name(dilate_size, replace_gt)}"
        jobs = [replace(job, label=f"{label}: {job.label}") for job in jobs]
        runs.append(
            BenchmarkRun(
                set_name=set_name,
                dilate_size=dilate_size,
                replace_gt=replace_gt,
                folder=folder,
                jobs=jobs,
            )
        )
    return runs


def _replace_gts(options: EvaluateOptions) -> list[bool]:
    texts = options.benchmark.replace_gts
    if texts is None:
        return [options.sampling.replace_gt]
    for text in texts:
        if text.lower() not in (*TRUE, *FALSE):
            raise InputError(f"--replace_gts: expected true and/or false, got {text!r}")
    return list(dict.fromkeys(text.lower() in TRUE for text in texts))


def _inpaint_options(
    options: EvaluateOptions, set_name: str, csv: str, dilate_size: int, replace_gt: bool, folder: Path
) -> InpaintOptions:
    """The flags with which `infer/inpaint.py` would make a run's results: losslessly, so that scores are exact."""
    benchmark: BenchmarkOptions = options.benchmark
    clip = ClipOptions(
        inpainting_mask_meta=csv,
        inpainting_sample_id=benchmark.inpainting_sample_id or ["all"],
        image_or_video_path=benchmark.image_or_video_path,
        inpainting_frames=benchmark.inpainting_frames,
        long_video=set_name in benchmark.long_sets,
        down_sample_fps="0" if set_name in benchmark.native_fps_sets else benchmark.down_sample_fps,
        resize_to=benchmark.resize_to,
        dilate_size=dilate_size,
    )
    # The name of a row, and its number, so that two rows of one video do not meet.
    pattern = str(folder / VIDEOS).replace("{", "{{").replace("}", "}}") + "/{id}_{name}.mkv"
    output = OutputOptions(output_path=pattern, lossless=True, overwrite=benchmark.overwrite, quiet=benchmark.quiet)
    sampling = replace(options.sampling, replace_gt=replace_gt, num_videos_per_prompt=1)
    return InpaintOptions(clip=clip, prompts=options.prompts, model=options.model, sampling=sampling, output=output)


def jobs_of(runs: list[BenchmarkRun]) -> list[tuple[BenchmarkRun, Job]]:
    """Every job of every run, in order."""
    return [(run, job) for run in runs for job in run.jobs]


def entry_of(options: EvaluateOptions, run: BenchmarkRun, job: Job) -> Entry:
    """A job's result as what is scored."""
    return Entry(
        label=job.label, stem=job.output.stem, result=job.output, folder=run.folder, open=lambda: _open(options, job)
    )


def _open(options: EvaluateOptions, job: Job) -> Pair:
    """A finished result beside the clip that it was made from; InputError where it is not there."""
    if not job.output.is_file():
        raise InputError(f"--score: expected a result (--generate makes it), got none at {job.output}")
    clip = job.sample.open()
    results, files = open_result(job.output)
    if len(results) != len(clip) or (results.height, results.width) != (clip.frames.height, clip.frames.width):
        raise InputError(
            f"{job.output}: expected {len(clip)} frames of {clip.frames.width}x{clip.frames.height}, "
            f"got {len(results)} of {results.width}x{results.height}"
        )
    record = read_record(job.output)
    pair = Pair(
        index=job.sample.row or 0,
        name=job.sample.name,
        clip=clip,
        results=results,
        files=files,
        region_prompt=region_prompt_of(clip),
        borders=borders_of(record, len(clip)),
        record=record,
    )
    return with_truth(pair, options.scoring.ground_truth, (job.output.stem, job.sample.name))
