"""The flags of `data_utils/download_weights.py`, and the run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import parse_options
from videopainter.errors import InputError, complain
from videopainter.files import make_folder, sha256_file
from videopainter.flags import flag, switch
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.download.fetching import DONE, Fetcher, FetchOptions
from videopainter.preparation.download.hub import HubError, HubPlan, fetch_hub, plan_hub
from videopainter.preparation.download.limits import DiskLimit, RateLimit, Stop
from videopainter.preparation.download.weights import CATALOGUE, TASKS, WebFile, names_of
from videopainter.preparation.units import parse_bytes, size_text

_DESCRIPTION = (
    "Fetch published weights into the layout of ckpt/: download_weights.py NAME... [flags]. A name is a task ("
    + ", ".join(TASKS)
    + ") or weights ("
    + ", ".join(CATALOGUE)
    + "). Sizes are told first; what is there is kept, what was begun goes on."
)


@dataclass(kw_only=True)
class WeightsDownloadOptions:
    """Where to, and how."""

    _argument_group_name: ClassVar[str] = "where to, and how"

    ckpt: str = flag("ckpt", "The folder of weights.")
    dry_run: bool = switch(False, "Only tell what would be fetched, and how much that is.")
    workers: int = flag(4, "How many files come at once.", least=1, most=256)


WEIGHT_OPTIONS = (WeightsDownloadOptions, DiskOptions)


def split_words(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """(words ahead of the first flag, the rest) of the command line, or of `argv`."""
    given = list(sys.argv[1:] if argv is None else argv)
    first = next((k for k, word in enumerate(given) if word.startswith("-")), len(given))
    return given[:first], given[first:]


def download_weights(argv: Sequence[str] | None = None) -> int:
    """Fetch the weights that the words name; the exit code: 1 where some could not be had."""
    words, flags = split_words(argv)
    options, disk = parse_options(WEIGHT_OPTIONS, flags, description=_DESCRIPTION)
    if not words:
        raise InputError(f"expected a task ({', '.join(TASKS)}) or weights ({', '.join(CATALOGUE)}), got nothing")
    disk.check()
    names, root = names_of(words), Path(options.ckpt)
    if root.exists() and not root.is_dir():
        raise InputError(f"--ckpt: expected a folder, got the file {root}")
    plans, failed = _plan(names, root)
    if options.dry_run:
        return 1 if failed else 0
    disk.check_room(root, sum(plan.missing_size for plan in plans.values()), "to fetch it")
    make_folder(root, "the folder of weights")
    for name in names:
        source = CATALOGUE[name].source
        try:
            if isinstance(source, WebFile):
                _fetch_web(source, root, disk)
            elif name in plans:
                fetch_hub(plans[name], workers=options.workers)
                print(f"{name}: whole, in {plans[name].folder}")
        except HubError as error:
            complain(f"{name}: {error}")
            failed.append(name)
    if failed:
        complain(f"could not be had: {', '.join(failed)}; start the same command again to go on")
    return 1 if failed else 0


def _plan(names: Sequence[str], root: Path) -> tuple[dict[str, HubPlan], list[str]]:
    """What the hub has of these and how much is missing, told; and the names that it does not give."""
    plans: dict[str, HubPlan] = {}
    failed: list[str] = []
    for name in names:
        weights = CATALOGUE[name]
        if isinstance(weights.source, WebFile):
            there = ", is there" if (root / weights.source.path).exists() else ""
            print(f"{name}: {weights.what}, {root / weights.source.path}{there}")
            continue
        try:
            plans[name] = plan_hub(weights.source, root)
        except HubError as error:
            complain(f"{name}: {error}")
            failed.append(name)
            continue
        print(f"{name}: {weights.what}, {plan_text(plans[name])}")
    print(f"to fetch: {size_text(sum(plan.missing_size for plan in plans.values()))}")
    return plans, failed


def plan_text(plan: HubPlan) -> str:
    """ "12 files, 21 GB, of which 3 files, 9.1 GB, are missing, in ckpt/flux_inp"."""
    text = f"{len(plan.files)} files, {size_text(plan.size)}"
    missing = f", of which {len(plan.missing)} ({size_text(plan.missing_size)}) are missing"
    return f"{text}{missing if plan.missing else ', all there'}, in {plan.folder}"


def _fetch_web(source: WebFile, root: Path, disk: DiskOptions) -> None:
    target = root / source.path
    if not target.exists():
        stop = Stop()
        limits = DiskLimit(root, parse_bytes(disk.keep_free, "--keep_free"), None, stop)
        with Fetcher(FetchOptions(), stop=stop, rate=RateLimit(None, stop), disk=limits) as fetcher:
            result = fetcher.fetch(source.url, target, lambda file: _check_digest(file, source.sha256))
        if result.status != DONE:
            raise HubError(f"{source.url}: {result.reason}")
    print(f"{target}: whole")


def _check_digest(file: Path, beginning: str) -> None:
    digest = sha256_file(file)
    if not digest.startswith(beginning):
        raise InputError(f"its sha256 begins with {beginning}, this one's with {digest[:8]}: {file}")
