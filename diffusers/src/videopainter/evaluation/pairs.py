"""A result next to what it is measured against, brought to one length and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.data.clip import Clip, FrameSource, PickedFrames
from videopainter.data.images import IMAGE_SUFFIXES
from videopainter.data.reshape import is_same_shape
from videopainter.data.resized import ResizedFrames, resized
from videopainter.data.video.reader import FolderFrames, open_video
from videopainter.errors import InputError
from videopainter.files import read_json
from videopainter.pipelines.windows import plan_windows
from videopainter.runs.results.manifest import manifest_path

READABLE_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")
_PROMPT_COLUMNS = ("Masked_Target_Caption", "image_inpainting_prompt", "Edited_image_caption")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One result to be scored; `clip` (original and masks) and `results` have one length and size.

    `truth` is what lies in the holes, None where unknown. `borders`: frames on which new windows begin. `record` is the
    JSON that `infer` wrote beside the result, empty for results of other programs. `files` are the result's.
    """

    index: int
    name: str
    clip: Clip
    results: FrameSource
    files: tuple[Path, ...]
    region_prompt: str = ""
    truth: FrameSource | None = None
    truth_files: tuple[Path, ...] = ()
    borders: tuple[int, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


def open_result(path: Path) -> tuple[FrameSource, tuple[Path, ...]]:
    """A result's frames and files: a video, a folder of images, or one in which `comp_frames` lies."""
    if (path / "comp_frames").is_dir():
        path = path / "comp_frames"
    frames = open_video(path)
    return frames, tuple(frames.files) if isinstance(frames, FolderFrames) else (path,)


def find_result(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that is a video file or a folder of frames in `folder`; None for none."""
    for name in names:
        for path in [folder / name, *(folder / f"{name}{suffix}" for suffix in (*READABLE_SUFFIXES, *IMAGE_SUFFIXES))]:
            if path.exists():
                return path
    return None


def read_record(result: Path) -> dict[str, Any]:
    """The JSON beside a result; empty where there is none, or it is something else's."""
    path = manifest_path(result)
    if result.is_dir() or not path.is_file():
        return {}
    try:
        record = read_json(path, lenient=True)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "fingerprint" in record else {}


def borders_of(record: Mapping[str, Any], length: int) -> tuple[int, ...]:
    """Frames below `length` on which windows after the first begin, from a result's record; none without one."""
    settings = record.get("recipe", {}).get("settings", {})
    if "num_frames" not in settings:
        return ()
    # Of the whole result, of which only the first frames may be looked at: its last window was moved to fit it.
    plan = plan_windows(record.get("frames", length), settings["num_frames"], settings.get("overlap_frames", 0))
    return tuple(window.start for window in plan.windows[1:] if window.start < length)


def region_prompt_of(clip: Clip) -> str:
    """What belongs in the hole, as a benchmark's row says it; empty where it does not."""
    return next((clip.details[name] for name in _PROMPT_COLUMNS if clip.details.get(name)), clip.image_prompt)


def fitted(
    clip: Clip,
    results: FrameSource,
    *,
    where: Path,
    size: tuple[int, int] | None = None,
    num_frames: int | None = None,
    allow_shorter: bool = False,
) -> tuple[Clip, FrameSource]:
    """Original and result with as many frames of one size: `size`, else that of the result.

    Raises:
        InputError: another number of frames (`num_frames` compares the first ones; `allow_shorter` as many as the
            result has), or another shape.
    """
    length = _common_length(clip, results, where, num_frames, allow_shorter)
    height, width = size or (results.height, results.width)
    if size is None:
        _check_shape(results, clip.frames, where)
    if len(clip) > length:
        clip = clip.cut(0, length)
    return resized(clip, height, width), sized(first_frames(results, length), height, width)


def _check_shape(frames: FrameSource, original: FrameSource, where: Path) -> None:
    if not is_same_shape(frames.height, frames.width, original.height, original.width):
        raise InputError(
            f"{where}: expected the shape of the original, {original.width}x{original.height}, got "
            f"{frames.width}x{frames.height}: another shape; --resize_to brings both to one size"
        )


def _common_length(clip: Clip, results: FrameSource, where: Path, num_frames: int | None, allow_shorter: bool) -> int:
    have, want = len(results), len(clip)
    if num_frames is not None:
        if min(have, want) < num_frames:
            raise InputError(f"{where}: expected --num_frames of at most {min(have, want)}, got {num_frames}")
        return num_frames
    if have < want and allow_shorter:
        return have
    if have != want:
        raise InputError(
            f"{where}: expected a result of {want} frames as the original, got {have}: another rate "
            "(--down_sample_fps), "
            "or compare the first ones (--num_frames, --allow_shorter)"
        )
    return want


def first_frames(frames: FrameSource, length: int) -> FrameSource:
    """The first `length` frames."""
    return frames if len(frames) == length else PickedFrames(frames, np.arange(length))


def sized(frames: FrameSource, height: int, width: int) -> FrameSource:
    """Frames at that size."""
    return frames if (frames.height, frames.width) == (height, width) else ResizedFrames(frames, height, width)


def with_truth(pair: Pair, ground_truth: str | None, names: Sequence[str]) -> Pair:
    """The pair with what lies in its holes: `originals`, or the video of one of `names` in that folder.

    InputError where the folder has none, or one that is shorter or of another shape.
    """
    if ground_truth is None:
        return pair
    if ground_truth == "originals":
        return replace(pair, truth=pair.clip.frames)
    path = find_result(Path(ground_truth), names)
    if path is None:
        raise InputError(
            f"--ground_truth: expected a video or folder {' or '.join(names)}, got none, in {ground_truth}"
        )
    truth, files = open_result(path)
    if len(truth) < len(pair.clip):
        raise InputError(f"--ground_truth: expected {len(pair.clip)} frames as the result, got {len(truth)}, in {path}")
    _check_shape(truth, pair.clip.frames, path)
    truth = sized(first_frames(truth, len(pair.clip)), pair.clip.frames.height, pair.clip.frames.width)
    return replace(pair, truth=truth, truth_files=files)
