"""One video, its masks, and the rows that speak of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from av.error import FFmpegError

from videopainter.data.masks.ids import IdArray
from videopainter.data.records import record_paths
from videopainter.data.training.rows import frame_offsets
from videopainter.data.video.containers import check_whole
from videopainter.data.video.display import Orientation
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError
from videopainter.preparation.check.problems import (
    ID_ABSENT,
    LENGTHS,
    MASKS_UNREADABLE,
    NO_MASKS,
    NO_VIDEO,
    OTHER_SIZE,
    RANGE,
    RATE,
    SIZES,
    TOO_SHORT,
    VIDEO_UNREADABLE,
    Finding,
)
from videopainter.preparation.check.rows import CheckedRow, VideoRows, to_train

# How much of a video is decoded: the more, the longer it takes and the more is found.
NOTHING, FIRST, ENDS, ALL = "none", "first", "ends", "all"
DECODE = (NOTHING, FIRST, ENDS, ALL)
# The rate that training brings clips to.
_RATE = Fraction(8)
# As `open_masks` allows.
_ASPECT_TOLERANCE = 0.02
_RATE_TOLERANCE = 0.05
_CHUNK = 32


@dataclass(frozen=True)
class VideoFacts:
    """What a video's file says of itself; `exact`: the frames were counted, not read from its header."""

    frames: int
    width: int
    height: int
    fps: Fraction | None
    exact: bool


def check_video_rows(video: VideoRows, data: Path, decode: str, num_frames: int) -> list[Finding]:
    """All that is wrong with one video's files and rows, to train on clips of `num_frames`. Changes nothing."""
    video_path, masks_path = (data / path for path in record_paths(video.path))
    facts, found = _video_facts(video_path, decode)
    masks, masks_found = _masks_of(masks_path)
    found += masks_found
    if facts and masks:
        compared = list(_compare(facts, masks))
        if compared and not facts.exact:
            # Headers may be wrong, and say nothing of videos that are shown turned: count, and look at a frame.
            facts, more = _video_facts(video_path, ENDS)
            found += more
            compared = list(_compare(facts, masks)) if facts else []
        found += compared
    result = []
    for row in video.rows:
        for problem, detail in [*found, *_check_row(row, facts, masks, num_frames)]:
            result.append(Finding(row.csv, row.row, video.path, problem, detail.replace(f"{data}/", "")))
    return result


Pairs = list[tuple[str, str]]


def _video_facts(path: Path, decode: str) -> tuple[VideoFacts | None, Pairs]:
    if not path.is_file():
        return None, [(NO_VIDEO, str(path))]
    try:
        if decode in (NOTHING, FIRST):
            facts = _header(path, decode == FIRST)
            if facts is not None:
                return facts, []
        frames = VideoFrames(path, threads=1, check_end=decode != ALL)
        try:
            for start in range(0, len(frames) if decode == ALL else 0, _CHUNK):
                frames.read(start, min(start + _CHUNK, len(frames)))
            return VideoFacts(len(frames), frames.width, frames.height, frames.fps, True), []
        finally:
            frames.close()
    except (InputError, OSError) as error:
        return None, [(VIDEO_UNREADABLE, str(error))]


def _header(path: Path, decode_first: bool) -> VideoFacts | None:
    """From the container alone, and the first frame where asked for; None where that does not tell enough."""
    check_whole(path)
    # Without a decoder libav does not decode to see what a stream is: a tenth of the time, and mp4 says it anyway.
    decoders = {} if decode_first else {"codec_whitelist": "none"}
    try:
        with av.open(str(path), options={"protocol_whitelist": "file", **decoders}) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream) or not (stream.frames and stream.height and stream.width):
                return None
            stream.thread_type = "NONE"
            height, width = stream.height, stream.width
            if decode_first:
                frame = next(container.decode(stream), None)
                if frame is None:
                    raise InputError(f"video: expected frames, got none that can be decoded, in {path}")
                height, width = Orientation.of(frame).size(frame.height, frame.width)
            return VideoFacts(stream.frames, width, height, stream.average_rate, False)
    except FFmpegError as error:
        raise InputError(f"video: expected one that can be read, got {error.strerror}, in {path}") from None


def _masks_of(path: Path) -> tuple[IdArray | None, Pairs]:
    if not path.is_file():
        return None, [(NO_MASKS, str(path))]
    try:
        return IdArray(path), []
    except InputError as error:
        return None, [(MASKS_UNREADABLE, str(error))]


def _compare(facts: VideoFacts, masks: IdArray) -> Iterator[tuple[str, str]]:
    if len(masks) != facts.frames:
        yield LENGTHS, f"{facts.frames} frames, {len(masks)} masks"
    if (masks.width, masks.height) != (facts.width, facts.height):
        ratio = masks.width * facts.height / (masks.height * facts.width)
        fits = abs(ratio - 1) <= _ASPECT_TOLERANCE
        sizes = f"frames {facts.width}x{facts.height}, masks {masks.width}x{masks.height}"
        yield (OTHER_SIZE if fits else SIZES), sizes


def _check_row(
    row: CheckedRow, facts: VideoFacts | None, masks: IdArray | None, num_frames: int
) -> Iterator[tuple[str, str]]:
    length = facts.frames if facts else len(masks) if masks else None
    if length is None:
        return
    end = length if row.end is None else min(row.end, length)
    if row.start >= end:
        yield RANGE, f"frames {row.start} to {'the end' if row.end is None else row.end} of {length}"
        return
    if facts and facts.fps:
        needed = _needed(facts.fps, num_frames)
        if end - row.start < needed and to_train(row.csv):
            yield TOO_SHORT, f"{end - row.start} frames at {float(facts.fps):.4g} per second, {needed} are needed"
        if row.fps and abs(row.fps / facts.fps - 1) > _RATE_TOLERANCE and abs(row.fps - facts.fps) >= 1:
            yield RATE, f"{float(row.fps):.4g} in the CSV, {float(facts.fps):.4g} in the file"
    if masks:
        try:
            numbers = range(row.start, min(end, len(masks)))
            if not any(mask.any() for mask in masks.pick(numbers, row.mask_id)):
                yield ID_ABSENT, f"id {row.mask_id} in none of frames {row.start} to {end}"
        except InputError as error:
            yield MASKS_UNREADABLE, str(error)


@lru_cache(maxsize=256)
def _needed(fps: Fraction, num_frames: int) -> int:
    """Frames that a training clip takes of a file of that rate."""
    return int(frame_offsets(num_frames, fps, _RATE)[-1]) + 1
