"""The flags of `data_utils/build_vpdata.py`, and the run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import parse_options
from videopainter.data.workers import processors
from videopainter.errors import InputError, complain
from videopainter.files import replacing
from videopainter.flags import check_installed, flag
from videopainter.preparation.stages.collect import collect_folder
from videopainter.preparation.stages.running import DROPPED_FILE, StageReport, run_stages
from videopainter.preparation.stages.score import ClipScoreOptions, NearDuplicates, ScoreStage
from videopainter.preparation.stages.split import SplitOptions, SplitStage
from videopainter.preparation.stages.stage import Row
from videopainter.preparation.units import counted

_DESCRIPTION = (
    "From raw videos to clips worth training on: cut at scene changes into pieces, scored, near duplicates left out. "
    "Writes clips.csv (video, frames, scores), and who was dropped why. Masks, captions and VPData's layout do not "
    "follow yet. A run that was ended goes on where it was."
)
CLIPS_FILE, _WORK = "clips.csv", "work"
_COLUMNS: tuple[str, ...] = (
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
)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """From which videos, to where."""

    _argument_group_name: ClassVar[str] = "from which videos, to where"

    videos: str = flag("", "The folder of raw videos; those in subfolders, too.")
    output_dir: str = flag("outputs/vpdata", "Where clips.csv, lists and the records of stages go.")
    processes: int = flag(0, "How many processes work; 0: one for each processor.", least=0)


BUILD_OPTIONS = (BuildOptions, SplitOptions, ClipScoreOptions)


def build_vpdata(argv: Sequence[str] | None = None) -> int:
    """Run the stages that there are; the exit code: 1 where a stage failed on a row."""
    options, split, score = parse_options(BUILD_OPTIONS, argv, description=_DESCRIPTION)
    if not options.videos:
        raise InputError("--videos: expected a folder of videos, got nothing")
    check_installed("finding scenes", "scenedetect", install="scenedetect-headless")
    rows, output = collect_folder(Path(options.videos)), Path(options.output_dir)
    stages = [SplitStage(split), ScoreStage(score), NearDuplicates(score)]
    result = run_stages(stages, rows, output / _WORK, processes=options.processes or processors())
    _write_clips(output / CLIPS_FILE, result.rows)
    for report in result.stages:
        print(_text(report))
    print(f"{counted(len(result.rows), 'clip')} of {counted(len(rows), 'video')}: {output / CLIPS_FILE}")
    print(f"who was dropped, and why: {output / _WORK / DROPPED_FILE}")
    failed = sum(report.failed for report in result.stages)
    if failed:
        complain(f"{failed} rows failed; start the same command again to try them again")
    return 1 if failed else 0


def _write_clips(file: Path, rows: Sequence[Row]) -> None:
    with replacing(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _text(report: StageReport) -> str:
    dropped = ", ".join(f"{count} {kind}" for kind, count in report.dropped.most_common())
    again = f", {report.reused} were done before" if report.reused else ""
    return f"{report.name}: {report.rows_in} -> {report.rows_out}{again}, {report.rate:.2f} a second" + (
        f"; dropped: {dropped}" if dropped else ""
    )
