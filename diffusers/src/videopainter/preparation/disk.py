"""How much of the disk stays free."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.errors import InputError
from videopainter.flags import flag
from videopainter.preparation.units import parse_bytes, size_text


@dataclass(kw_only=True)
class DiskOptions:
    """How much of the disk stays free."""

    _argument_group_name: ClassVar[str] = "the disk"

    keep_free: str = flag("5GB", "How much of the disk stays free.")

    def check(self) -> None:
        """InputError for what is no size."""
        parse_bytes(self.keep_free, "--keep_free")

    def check_room(self, folder: Path, size: int, what: str) -> None:
        """InputError where `size` bytes more do not fit on the disk of `folder`, or of what is above it."""
        place = folder
        while not place.exists() and place != place.parent:
            place = place.parent
        free = shutil.disk_usage(place).free
        if size > free - parse_bytes(self.keep_free, "--keep_free"):
            raise InputError(
                f"{what}: expected {size_text(size)} of free disk and {self.keep_free} beside (--keep_free), "
                f"got {size_text(free)}, in {folder}"
            )
