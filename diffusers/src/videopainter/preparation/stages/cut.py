"""Clips become files of their own, in VPData's layout: exact frames, encoded anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from videopainter.data.clip import tags_of
from videopainter.data.records import record_paths
from videopainter.data.video.reader import VideoFrames
from videopainter.data.video.writer import VideoWriter
from videopainter.files import fingerprint, sha256_file
from videopainter.flags import MAX_FPS, MAX_SIDE, flag
from videopainter.preparation.stages.stage import Row, Stage

# Where stages put the files of clips, below the work folder; those of the set are links to them.
FILES = "files"
# Folders of the layout are the first nine digits of a name, of which we use three.
_NUMBERS = 10**6


@dataclass(frozen=True, kw_only=True)
class CutOptions:
    """How clips are written."""

    _argument_group_name: ClassVar[str] = "how clips are written (H.264, frame by frame what the source shows)"

    clip_fps: float = flag(
        0.0, "Leave frames out, evenly, down to this rate or just above; 0: the source's.", least=0, most=MAX_FPS
    )
    clip_side: int = flag(0, "Make frames smaller whose longer side has more pixels; 0: none.", least=0, most=MAX_SIDE)
    clip_crf: int = flag(15, "Quality: 0 is the best, 51 the worst.", least=0, most=51)


class CutStage(Stage):
    """Writes a clip's frames to a file whose name follows from its id."""

    name = "cut"
    inputs = ("video", "size", "mtime", "start_frame", "end_frame", "fps")
    outputs = ("path", "clip", "clip_sha256", "clip_frames", "clip_fps", "clip_height", "clip_width")
    files = ("clip",)

    def __init__(self, options: CutOptions, work: Path) -> None:
        self.options, self._work = options, work

    def settings(self) -> Mapping[str, Any]:
        return {"version": 1, **asdict(self.options)}

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        path = clip_name(row["id"])
        clip = Path(FILES, record_paths(path)[0])
        source, rate = VideoFrames(Path(row["video"]), threads=1, check_end=False), Fraction(row["fps"])
        step = max(1, int(rate / Fraction(self.options.clip_fps))) if self.options.clip_fps else 1
        numbers = range(row["start_frame"], row["end_frame"], step)
        height, width = self._size(source.height, source.width)
        try:
            with VideoWriter(
                self._work / clip, fps=rate / step, tags=tags_of(source), crf=self.options.clip_crf, threads=1
            ) as writer:
                for pixels in _resized(source.pick(numbers, (height, width)), height, width):
                    writer.write(pixels[None])
        finally:
            source.close()
        return [
            {
                "path": path,
                "clip": clip.as_posix(),
                "clip_sha256": sha256_file(self._work / clip),
                "clip_frames": len(numbers),
                "clip_fps": str(rate / step),
                "clip_height": height,
                "clip_width": width,
            }
        ]

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Even where it is another than the source's: what most players want."""
        most = self.options.clip_side
        if not most or max(height, width) <= most:
            return height, width
        scale = most / max(height, width)
        return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def clip_name(row_id: str) -> str:
    """A clip's `path` in the CSVs: a number of twelve digits, as the public set's, and its id.

    It does not change when videos are added or taken away.
    """
    return f"{int(fingerprint(row_id)[:12], 16) % _NUMBERS:012d}_{row_id}.mp4"


def _resized(frames: Iterator[np.ndarray], height: int, width: int) -> Iterator[np.ndarray]:
    for pixels in frames:
        same = pixels.shape[:2] == (height, width)
        yield pixels if same else cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
