"""The flags of `data_utils/check_data.py`, and the run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import parse_options
from videopainter.data.workers import processors
from videopainter.errors import InputError, complain
from videopainter.files import make_folder, sha256_file
from videopainter.flags import flag, switch
from videopainter.locks import held
from videopainter.preparation.check.davis import check_davis
from videopainter.preparation.check.problems import Finding
from videopainter.preparation.check.report import FINDINGS_FILE, CheckResult, write_report
from videopainter.preparation.check.rows import CheckedTables, VideoRows, find_tables, read_tables
from videopainter.preparation.check.run import CheckRecords, check_videos
from videopainter.preparation.check.sheet import SheetClip, draw_sheet
from videopainter.preparation.check.videos import DECODE, FIRST
from videopainter.preparation.progress import WorkProgress
from videopainter.preparation.units import counted

_DESCRIPTION = (
    "Check a data folder in VPData's layout against its CSVs: missing, cut off and undecodable files, masks of another "
    "length or size, absent ids, impossible ranges, duplicates, short captions. Writes a CSV of findings and a page "
    "with a contact sheet. A run that was ended goes on where it was."
)
# Clips of the contact sheet: drawn at random, and some with problems.
_GOOD_CLIPS, _BAD_CLIPS = 16, 12


@dataclass(kw_only=True)
class CheckOptions:
    """What is checked, how closely, and where the report goes."""

    _argument_group_name: ClassVar[str] = "what is checked, how closely, and where the report goes"

    data_root: str = flag("data", "The data folder.")
    csv: str = flag("", "CSVs to check, with commas between; empty: all of the data folder that list clips.")
    output_dir: str = flag("outputs/check_data", "Where the report is written.")
    decode: str = flag(
        FIRST,
        "How much of a video is decoded. none: only the container is read; first: the first frame; ends: the last one, "
        "too; all: every frame.",
        choices=DECODE,
    )
    max_num_frames: int = flag(49, "Frames of a training clip, at 8 per second; shorter rows are told.", least=1)
    sample: int = flag(0, "Look at the files of so many videos, drawn at random; 0: of all.", least=0)
    seed: int = flag(42, "Seed of what is drawn.")
    processes: int = flag(0, "How many processes check; 0: one for each processor.", least=0)
    sheet: bool = switch(True, "Draw the contact sheet.")


CHECK_OPTIONS = (CheckOptions,)


def check_data(argv: Sequence[str] | None = None) -> int:
    """Check what the flags say, and write the report; the exit code: 1 where rows cannot be used."""
    (options,) = parse_options(CHECK_OPTIONS, argv, description=_DESCRIPTION)
    data, output = Path(options.data_root), Path(options.output_dir)
    if not data.is_dir():
        raise InputError(f"--data_root: expected a folder, found none at {data}")
    files = [Path(name.strip()) for name in options.csv.split(",") if name.strip()] or find_tables(data)
    tables = read_tables(files, strict=bool(options.csv))
    videos = tables.videos
    if options.sample and options.sample < len(videos):
        chosen = sorted(random.Random(options.seed).sample(range(len(videos)), options.sample))
        videos = [videos[k] for k in chosen]
    make_folder(output)
    with held(output, folder=True), WorkProgress("check", len(videos), "video") as progress:
        key = [
            sorted((str(file), sha256_file(file)) for file in files),
            str(data.resolve()),
            options.decode,
            len(videos),
        ]
        records = CheckRecords(output, [*key, options.seed])
        found = check_videos(
            videos,
            data,
            options.decode,
            options.max_num_frames,
            processes=options.processes or processors(),
            records=records,
            progress=progress,
        )
        davis = [finding for table in tables.davis for finding in check_davis(table)]
        result = _result(options, tables, videos, [*found, *davis], progress.seconds)
        sheet = draw_sheet(_clips(videos, found, options.seed), data) if options.sheet else None
        page = write_report(output, result, sheet)
        records.remove()
    _tell(result, page)
    return 1 if result.bad_rows else 0


def _result(
    options: CheckOptions, tables: CheckedTables, videos: Sequence[VideoRows], found: list[Finding], seconds: float
) -> CheckResult:
    return CheckResult(
        title=f"Check of {options.data_root}",
        rows=tables.counts,
        checked=sum(len(video.rows) for video in videos) + sum(len(table) for table in tables.davis),
        videos=len(videos) + sum(len(table) for table in tables.davis),
        findings=[*tables.findings, *found],
        left_out=tables.left_out,
        options=asdict(options),
        seconds=seconds,
    )


def _clips(videos: Sequence[VideoRows], found: Sequence[Finding], seed: int) -> list[SheetClip]:
    """Clips without problems, drawn at random, and the first of each problem in turn."""
    problems: dict[str, list[Finding]] = {}
    for finding in found:
        problems.setdefault(finding.path, []).append(finding)
    rows = {(video.path, row.csv, row.row): row for video in videos for row in video.rows}
    good = [video for video in videos if video.path not in problems]
    drawn = random.Random(seed).sample(good, min(_GOOD_CLIPS, len(good)))
    clips = [SheetClip(video.path, video.rows[0]) for video in drawn]
    kinds: dict[str, list[Finding]] = {}
    for finding in found:
        kinds.setdefault(finding.problem, []).append(finding)
    turns = [finding for turn in range(_BAD_CLIPS) for kind in kinds.values() for finding in kind[turn : turn + 1]]
    for finding in turns[:_BAD_CLIPS]:
        row = rows[finding.path, finding.csv, finding.row]
        clips.append(SheetClip(finding.path, row, f"{finding.problem}: {finding.detail}"))
    return clips


def _tell(result: CheckResult, page: Path) -> None:
    print(f"{counted(result.checked, 'row')} of {counted(result.videos, 'video')} checked in {result.seconds:.1f} s")
    for problem, per_csv in result.by_problem().items():
        print(f"  {problem}: {per_csv.total()}")
    for name, why in result.left_out.items():
        complain(f"{name}: not checked ({why})")
    print(f"{result.bad_rows} rows cannot be used; see {page} and {page.with_name(FINDINGS_FILE)}")
