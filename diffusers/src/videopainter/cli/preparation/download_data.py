"""The flags of `data_utils/download_data.py`, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import parse_options
from videopainter.cli.preparation.download_videos import VideoListOptions, download_subset
from videopainter.cli.preparation.download_weights import plan_text, split_words
from videopainter.cli.preparation.unzip_folder import tell_problems, unpacked_text
from videopainter.data.workers import processors
from videopainter.errors import InputError, complain
from videopainter.files import make_folder, read_json, write_json
from videopainter.flags import flag, switch
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.download.clones import CLONES, adopt
from videopainter.preparation.download.fetching import FetchOptions
from videopainter.preparation.download.hub import HubFile, HubFiles, HubPlan, fetch_hub, plan_hub
from videopainter.preparation.download.sets import SETS, PublishedSet, parse_parts
from videopainter.preparation.download.videos import DownloadLimits
from videopainter.preparation.units import counted
from videopainter.preparation.unpack.extract import Unpacked
from videopainter.preparation.unpack.folder import list_problems, unpack_all
from videopainter.preparation.unpack.survey import UnpackLimits

_DESCRIPTION = (
    "Fetch VPBench or VPData from the hub and unpack it into the documented tree: download_data.py vpbench|vpdata "
    "[flags]. A clone that was moved to data/ (data/VPBench, data/VPData) is taken over instead of fetched again. "
    "Started again, it goes on where it was."
)
# Archives that were unpacked and deleted: they are not fetched again.
_UNPACKED = ".unpacked.json"
_TOLD = 5


@dataclass(kw_only=True)
class DataDownloadOptions:
    """Which parts, and where to."""

    _argument_group_name: ClassVar[str] = "which parts, and where to"

    part: str = flag("", "masks, captions, videos, or several: masks,captions; empty: all.")
    data_root: str = flag("data", "The data folder.")
    dry_run: bool = switch(False, "Only tell what would be fetched, and how much that is.")
    delete_archives: bool = switch(False, "Delete each archive once all of it is unpacked.")


DATA_OPTIONS = (DataDownloadOptions, DownloadLimits, UnpackLimits, FetchOptions, DiskOptions)


def download_data(argv: Sequence[str] | None = None) -> int:
    """Fetch what the words and flags say; the exit code: 1 where something could not be had or unpacked."""
    words, flags = split_words(argv)
    options, limits, unpack_limits, fetch_options, disk = parse_options(DATA_OPTIONS, flags, description=_DESCRIPTION)
    if len(words) != 1 or words[0] not in SETS:
        raise InputError(f"expected one of {', '.join(SETS)}, got {' '.join(words) or 'nothing'}")
    for checked in (limits, unpack_limits, fetch_options, disk):
        checked.check()
    chosen, parts, data = SETS[words[0]], parse_parts(options.part), Path(options.data_root)
    if data.exists() and not data.is_dir():
        raise InputError(f"--data_root: expected a folder, got the file {data}")
    _take_clones(data, dry_run=options.dry_run)
    plan = _plan(chosen, parts, data)
    print(f"{chosen.repo}: {plan_text(plan)}")
    if options.dry_run:
        return 0
    # Archives need their size at least once more when they are unpacked.
    packed = sum(file.size for file in plan.missing if file.name.endswith(".zip"))
    disk.check_room(data, plan.missing_size + packed, "to fetch and unpack it")
    make_folder(data, "the data folder")
    work = _FetchAndUnpack(chosen, plan, data, unpack_limits, disk, limits.workers, options.delete_archives)
    code = 1 if work.run() else 0
    if "videos" in parts:
        for subset in chosen.linked:
            code = max(code, download_subset(data, subset, VideoListOptions(), limits, fetch_options, disk))
    return code


def _take_clones(data: Path, *, dry_run: bool) -> None:
    for name in CLONES:
        clone = data / name
        if not clone.is_dir():
            continue
        if dry_run:
            print(f"{clone}: a clone, to be taken over")
            continue
        taken = adopt(clone, data)
        print(f"{clone}: {counted(taken.moved, 'file')} moved to {data}, {taken.equal} were there")
        for file, why in taken.left[:_TOLD]:
            complain(f"{file}: left there, {why}")
        if len(taken.left) > _TOLD:
            complain(f"and {len(taken.left) - _TOLD} more")


def _plan(chosen: PublishedSet, parts: Sequence[str], data: Path) -> HubPlan:
    """What the hub has of these parts, without archives that were unpacked and deleted."""
    patterns = tuple(pattern for part in parts for pattern in chosen.files[part])
    plan = plan_hub(HubFiles(repo=chosen.repo, kind="dataset", files=patterns), data)
    done = _read_unpacked(data)
    return replace(plan, files=tuple(file for file in plan.files if file.here or done.get(file.name) != file.size))


def _read_unpacked(data: Path) -> dict[str, int]:
    return read_json(data / _UNPACKED, "the list of unpacked archives") if (data / _UNPACKED).exists() else {}


class _FetchAndUnpack:
    """A plan's files, fetched; its archives, unpacked. Where archives are deleted: one after the other."""

    def __init__(
        self,
        chosen: PublishedSet,
        plan: HubPlan,
        data: Path,
        limits: UnpackLimits,
        disk: DiskOptions,
        workers: int,
        delete: bool,
    ) -> None:
        self.chosen, self.plan, self.data = chosen, plan, data
        self.limits, self.disk, self.workers, self.delete = limits, disk, workers, delete
        self.results: dict[Path, Unpacked] = {}

    def run(self) -> int:
        """Do it, tell it; how many problems there were."""
        archives = [file for file in self.plan.files if file.name.endswith(".zip")]
        self._fetch([file for file in self.plan.files if file not in archives])
        for batch in [[file] for file in archives] if self.delete else [archives]:
            self._fetch(batch)
            for file in batch:
                self._unpack(file)
        for target, result in self.results.items():
            print(f"{target}: {unpacked_text(result)}")
            list_problems(target, result)
            tell_problems(result, target)
        return sum(len(result.problems) for result in self.results.values())

    def _fetch(self, files: Sequence[HubFile]) -> None:
        fetch_hub(replace(self.plan, files=tuple(files)), workers=self.workers)

    def _unpack(self, file: HubFile) -> None:
        folder = next(to for pattern, to in self.chosen.unpack.items() if fnmatchcase(file.name, pattern))
        target, archive = self.data / folder, self.data / file.name
        result = unpack_all([archive], target, self.limits, self.disk, threads=processors())
        self.results.setdefault(target, Unpacked()).add(result)
        if self.delete and not result.problems:
            write_json(self.data / _UNPACKED, {**_read_unpacked(self.data), file.name: file.size})
            archive.unlink()
