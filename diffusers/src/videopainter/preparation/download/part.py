"""A file that is on its way: `NAME.part`, and `NAME.part.json` with what the server said of it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import publish, read_json, write_errors, write_json


@dataclass(frozen=True)
class PartOrigin:
    """Of which file the bytes are: the same address, entity tag or date, and length mean the same file."""

    url: str
    validator: str = ""
    total: int | None = None

    def can_go_on(self, url: str) -> bool:
        """Whether more bytes of `url` may be put behind those: only where it could be told that the file changed.

        A link that is signed anew has another query; of such only an entity tag or a date says that it is the same.
        """
        if self.url == url:
            return bool(self.validator or self.total is not None)
        return bool(self.validator) and self.url.partition("?")[0] == url.partition("?")[0]

    def is_same(self, now: PartOrigin) -> bool:
        """Whether the server still speaks of the same file."""
        lengths = (self.total, now.total)
        return self.validator == now.validator and (None in lengths or self.total == now.total)


class Part:
    """The bytes of `target` that are there so far."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.file = target.with_name(f"{target.name}.part")
        self._notes = target.with_name(f"{target.name}.part.json")
        self.origin: PartOrigin | None = None
        try:
            self.origin = PartOrigin(**read_json(self._notes, "notes of a download"))
        except (InputError, TypeError):
            self.discard()

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.file.stat().st_size if self.file.exists() else 0

    def begin(self, origin: PartOrigin) -> None:
        """Start anew, with what the server says of the file now."""
        self.discard()
        with write_errors(self.file):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._notes, asdict(origin))
            self.file.write_bytes(b"")
        self.origin = origin

    def discard(self) -> None:
        """Forget what is there."""
        self.file.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self.origin = None

    def publish(self) -> None:
        """The file is whole: give it its name."""
        with write_errors(self.target):
            with self.file.open("rb") as file:
                os.fsync(file.fileno())
            publish(self.file, self.target)
        self._notes.unlink(missing_ok=True)
