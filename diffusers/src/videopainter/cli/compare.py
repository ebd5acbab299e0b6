"""The flags of `evaluate/compare.py`, and the run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import DoorParser, plain_text
from videopainter.errors import InputError
from videopainter.files import check_target, to_json, write_text
from videopainter.flags import flag
from videopainter.metrics.report.comparison import Comparison, compare_runs, load_runs
from videopainter.metrics.report.comparison_text import comparison_csv, comparison_markdown

_DESCRIPTION = (
    "Compare evaluated runs on the videos they share: means, and paired differences of every other run against the "
    "first, with intervals and permutation tests. Prints Markdown."
)
_WRITERS = {
    ".md": comparison_markdown,
    ".json": lambda found: to_json(found.as_json(), indent=1),
    ".csv": comparison_csv,
}


@dataclass(kw_only=True)
class CompareOptions:
    """What becomes of the comparison."""

    _argument_group_name: ClassVar[str] = "output"

    output: str | None = flag(None, "Also write it to this file: .md, .json or .csv.")

    def __post_init__(self) -> None:
        if self.output is not None and Path(self.output).suffix.lower() not in _WRITERS:
            raise InputError(f"--output: expected a name that ends in {', '.join(_WRITERS)}, got {self.output}")


def read_options(argv: Sequence[str] | None = None) -> tuple[list[str], CompareOptions]:
    """The runs and flags, from `argv` or the command line.

    Raises:
        InputError: for an unknown flag or a value that does not fit.
    """
    parser = DoorParser([CompareOptions], description=_DESCRIPTION)
    parser.usage = "%(prog)s A B [C ...] [flags]"
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        type=plain_text,
        help="An evaluation's output folder or its metrics.json; NAME=PATH shows it as NAME. The first is what the "
        "others are compared with.",
    )
    # Intermixed: flags may stand between the runs.
    found, unknown = parser.parse_known_intermixed_args(list(sys.argv[1:] if argv is None else argv))
    if unknown:
        raise InputError(f"unknown flag {unknown[0]!r}, see --help")
    options = CompareOptions(**{field.name: getattr(found, field.name) for field in fields(CompareOptions)})
    return found.runs, options


def compare(places: Sequence[str], options: CompareOptions) -> Comparison:
    """Compare, print, write.

    Raises:
        InputError: for fewer than two runs, files that are no summaries, or runs without a video in common.
    """
    if options.output is not None:
        check_target(options.output, "--output")
    found = compare_runs(load_runs(places))
    print(comparison_markdown(found), end="")
    if options.output is not None:
        path = Path(options.output)
        write_text(path, _WRITERS[path.suffix.lower()](found))
    return found
