"""Videos into clips: cut where scenes change, then into pieces of a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import cv2

from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError
from videopainter.flags import flag
from videopainter.preparation.stages.stage import Row, RowDropped, Stage

# Cuts show in small pictures as well.
_WIDTH = 192


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How videos are cut into clips."""

    _argument_group_name: ClassVar[str] = "how videos are cut into clips"

    clip_seconds: float = flag(10.0, "Clips are at most so long (the paper's value).", above=0)
    min_clip_seconds: float = flag(6.0, "Shorter ones are dropped (the paper's value).", above=0)
    scene_threshold: float = flag(
        3.0, "How much more a frame changes than those around it where a scene ends (PySceneDetect's value).", above=0
    )

    def __post_init__(self) -> None:
        if self.min_clip_seconds > self.clip_seconds:
            raise InputError(
                f"--min_clip_seconds: expected at most --clip_seconds {self.clip_seconds}, got {self.min_clip_seconds}"
            )


class SplitStage(Stage):
    """PySceneDetect's adaptive detector on every frame, made small; scenes into pieces."""

    name = "split"
    inputs = ("video", "size", "mtime")
    outputs = ("start_frame", "end_frame", "fps", "width", "height")
    splits = True

    def __init__(self, options: SplitOptions) -> None:
        self.options = options

    def settings(self) -> Mapping[str, Any]:
        return {"version": 1, **asdict(self.options)}

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        frames = VideoFrames(Path(row["video"]), threads=1, check_end=False)
        try:
            least = _count(self.options.min_clip_seconds, frames.fps)
            if len(frames) < least:
                raise RowDropped("too short", f"{len(frames) / float(frames.fps):.1f} s")
            cuts = find_cuts(frames, self.options.scene_threshold)
            pieces = cut_pieces([0, *cuts, len(frames)], _count(self.options.clip_seconds, frames.fps), least)
            if not pieces:
                raise RowDropped("no scene is long enough", f"{len(cuts) + 1} scenes")
            about = {"fps": str(frames.fps), "width": frames.width, "height": frames.height}
            return [{"start_frame": start, "end_frame": end, **about} for start, end in pieces]
        finally:
            frames.close()


def find_cuts(frames: VideoFrames, threshold: float) -> list[int]:
    """Numbers of the frames with which a scene begins, but the first one; reads the video once, a frame at a time."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=max(2, round(frames.fps / 2)))
    size = (max(16, round(frames.height * _WIDTH / frames.width)), _WIDTH)
    fps, found = float(frames.fps), []
    for number, pixels in enumerate(frames.pick(range(len(frames)), size)):
        small = pixels if pixels.shape[:2] == size else cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
        found += detector.process_frame(FrameTimecode(number, fps), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    found += detector.post_process(FrameTimecode(len(frames), fps))
    return sorted({cut.frame_num for cut in found} - {0})


def cut_pieces(borders: Sequence[int], longest: int, least: int) -> list[tuple[int, int]]:
    """(start, end) of the pieces between borders: as long as `longest`, and what is left if it has `least`."""
    pieces = []
    for first, last in pairwise(borders):
        starts = range(first, last, longest)
        pieces += [
            (start, min(start + longest, last)) for start in starts if min(start + longest, last) - start >= least
        ]
    return pieces


def _count(seconds: float, fps: Fraction) -> int:
    return max(1, round(seconds * float(fps)))
