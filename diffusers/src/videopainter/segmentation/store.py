"""Masks and anchors of one object on disk: a PNG per frame, and a journal of how each was made."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from videopainter.data.images import is_whole_image, load_image, write_image
from videopainter.files import replacing, write_errors

_JOURNAL = "journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """How a frame's mask was made: `key` names the anchor it was tracked from, and the direction."""

    frame: int
    key: str
    confidence: float
    state: str


class MaskStore:
    """A folder of one object's masks. What a killed process left half-done does not count; memory holds no mask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[int, FrameRecord] = {}
        self._whole: set[int] = set()  # frames whose file was looked at
        self._read, self._node = 0, 0  # bytes of the journal before its last line, and which file that is
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Takes over what was written since, by whomever; files are looked at anew. No journal is read twice."""
        with self._lock:
            self._whole.clear()
            try:
                with open(self.folder / _JOURNAL, "rb") as journal:
                    state = os.fstat(journal.fileno())
                    if state.st_ino != self._node or state.st_size < self._read:
                        self.records.clear()
                        self._read, self._node = 0, state.st_ino
                    journal.seek(self._read)
                    new = journal.read()
            except (FileNotFoundError, NotADirectoryError):  # what is in the way, writing tells
                self.records.clear()
                return
            for line in new.splitlines():
                try:
                    record = FrameRecord(**json.loads(line))
                except (ValueError, TypeError):
                    continue  # cut off when a process was killed, or not whole yet
                self.records[record.frame] = record
            self._read += max(0, new.rfind(b"\n"))

    def has(self, frame: int, key: str) -> bool:
        """Whether the frame's mask is the one that `key` names, in a file that can be read."""
        record = self.records.get(frame)
        if record is None or record.key != key:
            return False
        if frame not in self._whole and is_whole_image(self._mask(frame)):
            self._whole.add(frame)
        return frame in self._whole

    def write(self, record: FrameRecord, mask: np.ndarray) -> None:
        """Stores a mask bool (H, W)."""
        write_image(self._mask(record.frame), mask.astype(np.uint8) * 255)
        self.records[record.frame] = record
        self._whole.add(record.frame)
        # The break first: a line that a kill cut off does not spoil this one.
        with write_errors(self.folder), open(self.folder / _JOURNAL, "a", encoding="utf-8") as journal:
            journal.write("\n" + json.dumps(asdict(record)))

    def read(self, frame: int) -> np.ndarray:
        """The frame's mask, bool (H, W)."""
        return np.asarray(load_image(self._mask(frame)).convert("L")) > 127

    def _mask(self, frame: int) -> Path:
        return self.folder / "masks" / f"{frame:06d}.png"

    # -- arrays beside the masks: anchors, and where tracking can go on

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps arrays under a name."""
        with replacing(self.folder / f"{name}.npz") as partial:
            np.savez(partial, allow_pickle=False, **arrays)

    def has_arrays(self, name: str) -> bool:
        """Whether arrays were kept under a name; whether they can be read is not looked at."""
        return (self.folder / f"{name}.npz").is_file()

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """Arrays that were kept; None where there are none, or none that can be read."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except (OSError, ValueError, EOFError, BadZipFile):
            return None
