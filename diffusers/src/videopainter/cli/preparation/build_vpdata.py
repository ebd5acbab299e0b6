"""The flags of `data_utils/build_vpdata.py`, and the run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from videopainter.cli.door import parse_options
from videopainter.cli.preparation.download_videos import tell_download
from videopainter.cli.preparation.options_file import with_file_flags
from videopainter.data.workers import processors
from videopainter.errors import InputError, complain
from videopainter.files import make_folder, write_json
from videopainter.flags import check_installed, flag, switch
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.download.fetching import FetchOptions
from videopainter.preparation.download.videos import DownloadLimits, download_videos
from videopainter.preparation.objects.caption import BuildCaptionOptions, CaptionStage
from videopainter.preparation.objects.rules import ObjectRuleOptions, ObjectStage, RuleStage
from videopainter.preparation.objects.tag import TagStage
from videopainter.preparation.objects.track import TrackStage
from videopainter.preparation.stages.collect import collect_folder, collect_links, linked_videos
from videopainter.preparation.stages.cut import FILES, CutOptions, CutStage
from videopainter.preparation.stages.layout import (
    SET_MANIFEST,
    SHEET,
    PartOptions,
    check_set_folder,
    write_rows,
    write_set_files,
    write_sheet,
)
from videopainter.preparation.stages.on_ray import RayScheduler
from videopainter.preparation.stages.rate import RATINGS, ClipRatingOptions, RateStage, unrated
from videopainter.preparation.stages.running import DROPPED_FILE, StageReport, StagesResult, run_stages
from videopainter.preparation.stages.schedulers import ProcessScheduler
from videopainter.preparation.stages.score import ClipScoreOptions, NearDuplicates, ScoreStage
from videopainter.preparation.stages.split import SplitOptions, SplitStage
from videopainter.preparation.stages.stage import Row, SetStage, Stage
from videopainter.preparation.units import counted
from videopainter.segmentation.choosing import SegmenterOptions, choose_segmenter

_DESCRIPTION = (
    "From raw videos to a training set in VPData's layout: cut at scene changes into pieces, scored, near duplicates "
    "left out, objects found and tracked, captioned. Who was dropped why is listed. A run that was ended goes on where "
    "it was; after a change of flags only what depends on them is done anew."
)
CLIPS_FILE, OPTIONS_FILE, NOT_DOWNLOADED = "clips.csv", "options.json", "not_downloaded.csv"
_WORK, _RAW = "work", "raw"
_CLIP_COLUMNS: tuple[str, ...] = (
    "id",
    "video",
    "start_frame",
    "end_frame",
    "fps",
    "width",
    "height",
    "sharpness",
    "motion",
    "brightness",
    *RATINGS,
    "path",
    "mask_id",
)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """From which videos, to where."""

    _argument_group_name: ClassVar[str] = "from which videos, to where"

    videos: str = flag("", "The folder of raw videos; those in subfolders, too.")
    links: str = flag(
        "",
        "Instead of it a CSV of links: `link`, and for a name `videoId` (as pexels.csv) or `path`. Videos go to "
        "work/raw in the set's folder; what could not be had stands in work/not_downloaded.csv.",
    )
    retry_dead: bool = switch(False, "Ask again for --links that an earlier run found dead.")
    output_dir: str = flag("outputs/vpdata", "The set's folder; records and files of the stages are in its `work`.")
    options: str | None = flag(
        None, "A JSON or YAML file with any of these flags; those of the command line count more. See options.json."
    )
    until: Literal["all", "clips", "objects"] = flag(
        "all", "clips: stop before objects are looked for (work/clips.csv lists them); objects: before captions."
    )
    processes: int = flag(0, "How many processes work; 0: one for each processor.", least=0)
    scheduler: Literal["processes", "ray"] = flag("processes", "Who decides where rows are worked on: the same result.")
    ray_address: str | None = flag(None, "A Ray cluster (HOST:PORT, or auto) that sees the folders. Default: one here.")


BUILD_OPTIONS = (
    BuildOptions,
    SplitOptions,
    ClipScoreOptions,
    ClipRatingOptions,
    CutOptions,
    ObjectRuleOptions,
    SegmenterOptions,
    BuildCaptionOptions,
    PartOptions,
    DownloadLimits,
    FetchOptions,
    DiskOptions,
)


def build_vpdata(argv: Sequence[str] | None = None) -> int:
    """Build the set; the exit code: 1 where a stage failed on a row."""
    found = parse_options(BUILD_OPTIONS, with_file_flags(BUILD_OPTIONS, argv), description=_DESCRIPTION)
    options: BuildOptions = found[0]
    parts: PartOptions = found[8]
    if bool(options.videos) == bool(options.links):
        got = "both" if options.links else "nothing"
        raise InputError(f"--videos: expected a folder of videos, or --links and a CSV of links, got {got}")
    if options.ray_address and options.scheduler != "ray":
        raise InputError(f"--ray_address {options.ray_address}: expected --scheduler ray, got {options.scheduler}")
    check_installed("finding scenes", "scenedetect", install="scenedetect-headless")
    output = Path(options.output_dir)
    check_set_folder(output)
    work = output / _WORK
    stages = _stages(options, found[1:8], work)
    missing = 0
    if options.links:
        rows, missing = _linked_rows(options, found[9:], work)
    else:
        rows = collect_folder(Path(options.videos), output)
    with contextlib.ExitStack() as stack:
        processes = options.processes or processors()
        scheduler: Any = ProcessScheduler(processes)
        if options.scheduler == "ray":
            scheduler = stack.enter_context(RayScheduler(processes, options.ray_address))
        result = run_stages(stages, rows, work, scheduler)
    write_rows(work / CLIPS_FILE, _CLIP_COLUMNS, [{**unrated(), **row} for row in result.rows])
    for report in result.stages:
        print(_text(report))
    failed = sum(report.failed for report in result.stages)
    kept = options.until == "all" and failed > 0 and (output / SET_MANIFEST).exists()
    if options.until == "all" and not kept:
        _finish(output, result, parts)
    made = output if options.until == "all" and not kept else work  # beside the set: what made it
    write_json(made / OPTIONS_FILE, {name: value for one in found for name, value in asdict(one).items()}, indent=1)
    print(f"{counted(len(result.rows), 'row')} of {counted(len(rows), 'video')}: {work / CLIPS_FILE}")
    print(f"who was dropped, and why: {work / DROPPED_FILE}")
    if failed:
        left = "; the set is left as it was" if kept else ""
        complain(f"{counted(failed, 'row')} failed{left}; start the same command again to try again")
    return 1 if failed or missing else 0


def _linked_rows(options: BuildOptions, how: Sequence[Any], work: Path) -> tuple[list[Row], int]:
    """The rows of the videos that could be had, and the download's exit code."""
    links = linked_videos(Path(options.links))
    raw, rest = work / _RAW, work / NOT_DOWNLOADED
    make_folder(work, "the work folder")
    result = download_videos(links, raw, rest, *how, retry_dead=options.retry_dead, whole_table=True)
    code = tell_download("links", result, rest)
    rows = collect_links(links, raw)
    if not rows:
        raise InputError(f"--links: expected a link that gives a video, got {counted(len(links), 'other')}, see {rest}")
    return rows, code


def _stages(options: BuildOptions, groups: Sequence[Any], work: Path) -> list[Stage | SetStage]:
    split, score, rating, cut, objects, segmenter, captions = groups
    rated = [RateStage(rating)] if rating.asked else []
    stages: list[Stage | SetStage] = [SplitStage(split), ScoreStage(score), *rated, NearDuplicates(score)]
    if options.until == "clips":
        return stages
    tagged = objects.tagger != "none"
    choice = choose_segmenter(segmenter, words=bool(objects.words) or tagged)
    tags = [TagStage(captions.llm_model, objects.tags_per_clip, work)] if tagged else []
    stages += [CutStage(cut, work), *tags, TrackStage(objects, choice, work), ObjectStage(), RuleStage(objects)]
    return stages if options.until == "objects" else [*stages, CaptionStage(captions, work)]


def _finish(output: Path, result: StagesResult, parts: PartOptions) -> None:
    counts = write_set_files(output, output / _WORK / FILES, result.rows, parts)
    if result.rows:
        write_sheet(output / SHEET, output, result.rows)
        print(f"a look at them: {output / SHEET}")
    print(", ".join(f"{count} to {part}" for part, count in counts.items()))


def _text(report: StageReport) -> str:
    dropped = ", ".join(f"{count} {kind}" for kind, count in report.dropped.most_common())
    again = f", {report.reused} were done before" if report.reused else ""
    return f"{report.name}: {report.rows_in} -> {report.rows_out}{again}, {report.rate:.2f} a second" + (
        f"; dropped: {dropped}" if dropped else ""
    )
