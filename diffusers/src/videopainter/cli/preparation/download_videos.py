"""The flags of `data_utils/VPData_download.py`, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import parse_options
from videopainter.data.records import parse_sample_ids
from videopainter.errors import InputError, complain
from videopainter.flags import flag, switch
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.download.clones import locate
from videopainter.preparation.download.fetching import DEAD, DONE, FAILED, OTHER, FetchOptions
from videopainter.preparation.download.links import SUBSETS, read_links
from videopainter.preparation.download.videos import THERE, Downloaded, DownloadLimits, download_videos
from videopainter.preparation.units import size_text

_DESCRIPTION = (
    "Fetch the raw videos that VPData only links to: those of pexels.csv, and of videovo.csv where it gives links. "
    "Started again, it goes on where it was, in the middle of a file, too. What cannot be had is listed in a CSV."
)


@dataclass(kw_only=True)
class VideoListOptions:
    """Which videos, and where to."""

    _argument_group_name: ClassVar[str] = "which videos, and where to"

    data_root: str = flag("", "The data folder, which holds pexels.csv; empty: ../data or data, whichever does.")
    subset: str = flag("pexels", "pexels, videovo, or both: pexels,videovo.")
    rows: str = flag("all", "Which rows of the list, such as 0-99.")
    retry_dead: bool = switch(False, "Ask again for links that an earlier run found dead.")


VIDEO_OPTIONS = (VideoListOptions, DownloadLimits, FetchOptions, DiskOptions)


def download_listed(argv: Sequence[str] | None = None) -> int:
    """Fetch what the flags say; the exit code: 1 where something could not be had."""
    which, limits, options, disk = parse_options(VIDEO_OPTIONS, argv, description=_DESCRIPTION)
    subsets = which.subset.replace(",", " ").split()
    wrong = [name for name in subsets if name not in SUBSETS]
    if wrong or not subsets:
        raise InputError(f"--subset: expected {' or '.join(SUBSETS)}, got {which.subset!r}")
    data = find_data(which.data_root, f"{subsets[0]}.csv")
    return max(download_subset(data, subset, which, limits, options, disk) for subset in subsets)


def download_subset(
    data: Path,
    subset: str,
    which: VideoListOptions,
    limits: DownloadLimits,
    options: FetchOptions,
    disk: DiskOptions,
) -> int:
    """Fetch one subset's videos and tell what came; the exit code."""
    links = read_links(locate(data / f"{subset}.csv"), subset)
    links = [links[row] for row in parse_sample_ids(which.rows, len(links))]
    rest = data / f"{subset}_not_downloaded.csv"
    result = download_videos(links, data, rest, limits, options, disk, retry_dead=which.retry_dead)
    return tell_download(subset, result, rest)


def tell_download(what: str, result: Downloaded, rest: Path) -> int:
    """Say what came of links; the exit code: 1 where some gave no video. `rest`: the list of those."""
    print(f"{what}: {_text(result)}")
    missing = sum(result.counts[status] for status in (DEAD, OTHER, FAILED))
    if missing:
        complain(f"{missing} links gave no video, see {rest}")
    if result.ended:
        complain(f"ended early, {result.left} links are left: {result.ended}")
    return 1 if missing or result.left else 0


def find_data(data_root: str, name: str) -> Path:
    """The data folder: as given, or the one of `../data` and `data` that holds the file `name` (or a clone that does).

    InputError where there is none.
    """
    places = [Path(data_root)] if data_root else [Path("../data"), Path("data")]
    for place in places:
        if locate(place / name).is_file():
            return place
    named = " or ".join(str(place / name) for place in places)
    raise InputError(f"--data_root: expected a data folder with {name}, found no {named}")


def _text(result: Downloaded) -> str:
    words = {DONE: "fetched", THERE: "there", DEAD: "dead", OTHER: "no video", FAILED: "failed"}
    counts = ", ".join(f"{result.counts[status]} {word}" for status, word in words.items() if result.counts[status])
    return f"{counts or 'nothing to do'}; {size_text(result.size)} came"
