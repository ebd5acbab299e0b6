"""The flags of `data_utils/make_synthetic.py`, and the run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tqdm import tqdm

from videopainter.cli.door import parse_options
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.data.synthetic.writing import TABLES, Rows, write_set
from videopainter.data.workers import processors
from videopainter.flags import flag

_DESCRIPTION = (
    "Render clips of moving objects, with exact masks and captions, as a data set in VPData's layout. Some show the "
    "object under the hole, some what is behind it. An interrupted run goes on where it was; a set can be added to."
)


@dataclass(kw_only=True)
class SyntheticSetOptions:
    """How many clips, and where."""

    _argument_group_name: ClassVar[str] = "how many clips, and where"

    output_dir: str = flag("data/synthetic", "The data folder: a new one, or a set of the same look to add to.")
    clips: int = flag(200, "Clips to train on (pexels_videovo_train_dataset.csv).", least=1, most=1_000_000)
    val_clips: int = flag(8, "Clips to validate on (pexels_videovo_val_dataset.csv).", least=0, most=1_000_000)
    test_clips: int = flag(
        8, "Clips to test on (pexels_videovo_test_dataset.csv, our_video_inpaint.csv).", least=0, most=1_000_000
    )
    long_clips: int = flag(
        0,
        "Long clips in which an object leaves and comes back, to train on (pexels_videovo_train_long_dataset.csv).",
        least=0,
        most=500_000,
    )
    long_test_clips: int = flag(0, "Such clips to test on (our_video_inpaint_long.csv).", least=0, most=500_000)
    processes: int = flag(0, "How many processes draw; 0: one for each processor.", least=0, most=256)

    def counts(self) -> dict[str, int]:
        """Clips per part of the set."""
        return {
            "train": self.clips,
            "val": self.val_clips,
            "test": self.test_clips,
            "long": self.long_clips,
            "long_test": self.long_test_clips,
        }


def make_synthetic(argv: Sequence[str] | None = None) -> int:
    """Write the set that the flags ask for; the exit code."""
    options, look = parse_options((SyntheticSetOptions, SyntheticLook), argv, description=_DESCRIPTION)
    processes = options.processes or processors()
    started = time.perf_counter()
    rows, drawn = write_set(options.output_dir, options.counts(), look, processes=processes, progress=_bar)
    seconds = time.perf_counter() - started
    print(_report(options, look, rows, drawn, seconds))
    return 0


def _bar(clips: Iterable[Any], total: int) -> Iterable[Any]:
    return tqdm(clips, total=total, unit="clip", disable=None)


def _report(options: SyntheticSetOptions, look: SyntheticLook, rows: Rows, drawn: int, seconds: float) -> str:
    """What was made, for people."""
    removals = sum(key.is_removal(look) for key in rows)
    lines = [
        f"{options.output_dir}: {len(rows)} clips, {removals} of them with the object removed; "
        f"{drawn} drawn in {seconds:.1f} s, {len(rows) - drawn} were there"
    ]
    for name, (part, _) in TABLES.items():
        count = sum(key.part == part for key in rows)
        if count:
            lines.append(f"  {name}: {count}")
    return "\n".join(lines)
