"""The flags of `data_utils/shard_data.py`, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.cli.door import parse_options
from videopainter.errors import InputError
from videopainter.flags import flag
from videopainter.preparation.shards import write_shards
from videopainter.preparation.stages.layout import SET_TABLES
from videopainter.preparation.units import counted, parse_bytes

_DESCRIPTION = (
    "A set in VPData's layout into shards: tar files for WebDataset and `datasets`, which training reads from a folder "
    "or from object storage (--instance_data_root s3://...). A run that was ended goes on where it was."
)


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Which set, and where its shards go."""

    _argument_group_name: ClassVar[str] = "which set, and where its shards go"

    data_root: str = flag("", "The set's folder, with pexels_videovo_{train,val,test}_dataset.csv.")
    output_dir: str = flag("outputs/shards", "A new folder, or the shards to go on with.")
    shard_size: str = flag("1GB", "About how large a shard is; a clip is never cut.")


SHARD_OPTIONS = (ShardOptions,)


def shard_data(argv: Sequence[str] | None = None) -> int:
    """Write the shards; the exit code."""
    (options,) = parse_options(SHARD_OPTIONS, argv, description=_DESCRIPTION)
    data = Path(options.data_root)
    if not options.data_root or not data.is_dir():
        raise InputError(f"--data_root: expected the folder of a set, got {options.data_root or 'nothing'}")
    tables = {part: data / name for name, part in reversed(SET_TABLES.items()) if (data / name).is_file()}
    if not tables:
        raise InputError(f"--data_root: expected {next(iter(SET_TABLES))} or another part's, got none, in {data}")
    counts = write_shards(tables, data, Path(options.output_dir), parse_bytes(options.shard_size, "--shard_size"))
    print(", ".join(f"{part}: {counted(count, 'clip')}" for part, count in counts.items()), f"in {options.output_dir}")
    return 0
