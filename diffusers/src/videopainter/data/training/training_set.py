"""The clips that a training sees: rows of a CSV in, frames and masks at the working size out. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from av.error import FFmpegError

from videopainter.data.masks.ids import IdArray
from videopainter.data.rates import frame_offsets, parse_fps
from videopainter.data.records import data_roots, find_file, record_paths
from videopainter.data.reshape import Box, covering_box, resize_masks
from videopainter.data.training.decord_frames import DecordFrames, check_video_reader
from videopainter.data.training.file_index import FileIndex
from videopainter.data.training.mask_deform import MaskOptions, training_masks
from videopainter.data.training.rows import TO_THE_END, TrainingRow, TrainingRows
from videopainter.data.training.sample_order import CAPTION, FLIP, MASKS, PLACE, STAND_IN, TIME, SampleKey, sample_rng
from videopainter.data.training.shards import ShardedFiles, StorageError, is_sharded
from videopainter.data.training.unreadable import Unreadable, UnreadableLog
from videopainter.data.video.conversion import RgbConverter
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError, one_line
from videopainter.files import WriteError
from videopainter.flags import MAX_FPS, MAX_INT, MAX_SIDE, check_size, flag

RESHAPE_MODES = ("resize", "center", "random")
__all__ = ["TrainingSample", "TrainingSet", "TrainingSetOptions", "Unreadable", "UnreadableLog"]

# How many rows are tried in place of one that cannot be read.
_STAND_INS = 20


@dataclass(frozen=True, kw_only=True)
class TrainingSetOptions(MaskOptions):
    """Which clips are trained on, and how they are cut to size in time and space."""

    meta_file_path: str = flag("", "CSV with the columns path, start_frame, end_frame, fps, mask_id, caption.")
    instance_data_root: str | None = flag(
        None,
        "The data folder or one inside it, like ../data/videovo/raw_video, or a set in shards (a folder, s3://...); "
        "default: the CSV's own folder.",
    )
    shard_cache_gb: float = flag(50.0, "Disk for what was fetched from shards, for each set, about.", above=0)
    height: int = flag(480, "Height of the frames, in pixels.", least=1, most=MAX_SIDE)
    width: int = flag(720, "Width of the frames, in pixels.", least=1, most=MAX_SIDE)
    fps: float = flag(
        8, "Frame rate that clips are brought to; 0: each file's own. No frame is shown twice.", least=0, most=MAX_FPS
    )
    max_num_frames: int = flag(49, "Frames of a clip, 4k+1.", least=1, most=4097)
    video_reshape_mode: str = flag(
        "resize", "resize: squeeze to the size; center, random: keep the aspect, cut off what is beside the size."
    )
    video_reader: Literal["pyav", "decord"] = flag(
        "pyav", "What decodes frames; decord: only of files whose frames are seen to be PyAV's, see train/README.md."
    )
    skip_frames_start: int = flag(0, "Frames of every clip's beginning that are left out, at its own rate.", least=0)
    skip_frames_end: int = flag(0, "Frames of every clip's end that are left out, at its own rate.", least=0)
    random_flip: float = flag(0.0, "Probability that a clip is mirrored, left to right.", least=0, most=1)
    min_caption_length: int = flag(50, "Captions must be longer than this many characters.", least=0)
    proportion_empty_prompts: float = flag(0.0, "Share of samples that are trained without a caption.", least=0, most=1)
    id_token: str = flag("", "Text that is put in front of every caption.")
    mix_train_ratio: float = flag(0.0, "Share of batches of single frames.", least=0, most=1)
    seed: int = flag(42, "Seed of everything that is drawn.", least=0, most=MAX_INT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.meta_file_path:
            raise InputError("meta_file_path: expected the CSV of the clips to train on, got none")
        if self.video_reshape_mode not in RESHAPE_MODES:
            raise InputError(
                f"video_reshape_mode: expected one of {', '.join(RESHAPE_MODES)}, got {self.video_reshape_mode!r}"
            )
        if self.max_num_frames < 1 or self.max_num_frames % 4 != 1:
            raise InputError(f"max_num_frames: expected 4k+1 (1, 5, ..., 49), got {self.max_num_frames}")
        check_size("height, width", self.height, self.width)
        parse_fps(self.fps, "fps")


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """One sample: frames and masks of F = max_num_frames, or 1 where `key.single`.

    Where `key.row` could not be read, the clip is that of `clip_row`, the caption with it, and `replaced` tells why.
    `inexact` tells why PyAV read it where decord was asked for.
    """

    key: SampleKey
    frames: np.ndarray  # uint8 (F, H, W, 3)
    masks: np.ndarray  # bool (F, H, W), True = hole
    caption: str
    clip_row: int
    replaced: tuple[Unreadable, ...] = ()
    inexact: str = ""


class TrainingSet:
    """Samples by key. Everything drawn for a sample follows from the seed and its key alone.

    `rows` are the numbers of the rows that passed the rules, `dropped` counts the others by reason. Opening reads the
    CSV and no video; a sample reads the frames that it needs. `files` opens them and remembers how they are built.

    Raises InputError for a CSV that cannot be used (see `TrainingRows`) and for a data folder that is not there.
    """

    def __init__(self, options: TrainingSetOptions, *, files: FileIndex | None = None) -> None:
        self.options = options
        csv_path = Path(options.meta_file_path)
        self._fps = parse_fps(options.fps)
        self._clips = TrainingRows(
            csv_path,
            num_frames=options.max_num_frames,
            fps=self._fps,
            skip=(options.skip_frames_start, options.skip_frames_end),
            min_caption_length=options.min_caption_length,
        )
        self.rows: list[int] = self._clips.numbers.tolist()
        self.dropped: dict[str, int] = self._clips.dropped
        root = options.instance_data_root or str(csv_path.parent)
        self._shards = ShardedFiles(root, options.shard_cache_gb * 1e9) if is_sharded(root) else None
        self.data_roots = data_roots(None if self._shards else options.instance_data_root, csv_path)
        check_video_reader(options.video_reader)
        self._files = files if files is not None else FileIndex(video_reader=options.video_reader)

    def __len__(self) -> int:
        return len(self.rows)

    def caption(self, key: SampleKey, clip_row: int | None = None) -> str:
        """The caption to train a sample with; empty with probability `proportion_empty_prompts`, drawn per key.

        `clip_row` is the row that stands in where the key's own cannot be read (`TrainingSample.clip_row`).
        """
        if sample_rng(self.options.seed, CAPTION, key).random() < self.options.proportion_empty_prompts:
            return ""
        caption = self._clips[key.row if clip_row is None else clip_row].caption
        return f"{self.options.id_token} {caption}" if self.options.id_token else caption

    def __getitem__(self, key: SampleKey) -> TrainingSample:
        """The sample of that key, or, where its row cannot be read, one of another row, drawn by the key.

        Raises InputError where none of the rows that were tried can be read, or the storage of shards cannot.
        """
        replaced: list[Unreadable] = []
        for row in self._candidates(key):
            try:
                frames, masks, inexact = self._clip(self._clips[row], key)
            except (StorageError, WriteError):  # every row would meet it
                raise
            except (InputError, OSError, FFmpegError) as error:
                replaced.append(Unreadable(row, self._clips[row].path, one_line(error)))
                continue
            caption = self.caption(key, row)
            return TrainingSample(
                key=key,
                frames=frames,
                masks=masks,
                caption=caption,
                clip_row=row,
                replaced=tuple(replaced),
                inexact=inexact,
            )
        raise InputError(
            f"clips: expected one of {len(replaced)} that can be read, got none, in {self.options.meta_file_path}; "
            f"row {replaced[0].row}: {replaced[0].reason}"
        )

    def _candidates(self, key: SampleKey) -> Iterable[int]:
        """The key's own row, then others, each once."""
        yield key.row
        rng = sample_rng(self.options.seed, STAND_IN, key)
        seen = {key.row}
        # Drawing goes on past the count, as it may repeat itself; a small set is tried whole.
        for row in rng.choice(self.rows, min(len(self.rows), _STAND_INS + 1), replace=False).tolist():
            if row not in seen and len(seen) <= _STAND_INS:
                seen.add(row)
                yield row

    def _clip(self, row: TrainingRow, key: SampleKey) -> tuple[np.ndarray, np.ndarray, str]:
        """Frames and masks of a row, with the key's draws; and `TrainingSample.inexact`."""
        options = self.options
        video_path, mask_path = record_paths(row.path)
        video = self._files.video(self._find(video_path, "video"))
        ids = self._files.masks(self._find(mask_path, "mask"))
        _check_fit(video, ids)
        box = self._box(video, key)
        numbers, masks = self._hole_crop(row, video, ids, key, box.slices)
        frames = np.empty((*masks.shape, 3), np.uint8)
        with closing(video):
            for k, frame in enumerate(self._shown(video, numbers, box)):
                frames[k] = frame
        if sample_rng(options.seed, FLIP, key).random() < options.random_flip:
            frames, masks = np.ascontiguousarray(frames[:, :, ::-1]), np.ascontiguousarray(masks[:, :, ::-1])
        masks = training_masks(masks, sample_rng(options.seed, MASKS, key), options)
        return frames, masks, video.inexact if isinstance(video, DecordFrames) else ""

    def _find(self, relative: Path, what: str) -> Path:
        found = None if self._shards is None else self._shards.find(relative)
        return found or find_file(relative, self.data_roots, what)

    def _box(self, video: VideoFrames, key: SampleKey) -> Box:
        """The part of the frames that is shown."""
        options = self.options
        if options.video_reshape_mode == "resize":
            return Box(0, video.height, 0, video.width)
        place = (0.5, 0.5)
        if options.video_reshape_mode == "random":
            down, across = sample_rng(options.seed, PLACE, key).random(2)
            place = (float(down), float(across))
        return covering_box(video.height, video.width, options.height, options.width, place)

    def _shown(self, video: VideoFrames, numbers: list[int], box: Box) -> Iterator[np.ndarray]:
        """That part of the frames at the working size, one after the other."""
        size = (self.options.height, self.options.width)
        whole = box == (0, video.height, 0, video.width)
        converter = RgbConverter()
        for frame in video.pick(numbers, size if whole else None):
            # Parts of frames, and what is stored in a rare format, come at their own size.
            yield converter.resize_rgb(frame if whole else frame[box.slices], *size)

    def _hole_crop(
        self, row: TrainingRow, video: VideoFrames, ids: IdArray, key: SampleKey, part: tuple[slice, slice]
    ) -> tuple[list[int], np.ndarray]:
        """A random crop in time that has a hole: numbers of its frames, and that part of their masks, resized."""
        begin, end = self._piece(row, video)
        offsets = frame_offsets(1 if key.single else self.options.max_num_frames, video.fps, self._fps)
        starts = np.arange(begin, end - int(offsets[-1]))
        if not len(starts):
            raise InputError(
                f"frames: expected enough for {len(offsets)} at {float(self._fps):g} fps, "
                f"got {begin} to {end} at {float(video.fps):g} fps, in {video.path}"
            )
        rng = sample_rng(self.options.seed, TIME, key)
        # The first frame's mask will be emptied.
        hidden = 1 if self.options.first_frame_gt and len(offsets) > 1 else 0
        while len(starts):
            numbers = (int(rng.choice(starts)) + offsets).tolist()
            masks = np.empty((len(numbers), self.options.height, self.options.width), bool)
            picked = ids.pick(numbers, row.mask_id)
            # In the groups that `resize_masks` takes; not all of them at their own size.
            for k in range(0, len(numbers), 8):
                group = np.stack([mask[part] for mask in islice(picked, 8)])
                masks[k : k + 8] = resize_masks(group, *masks.shape[1:])
            if masks[hidden:].any():
                return numbers, masks
            # Rare: look where the object is, and draw among the starts that show it.
            present = ids.presence(row.mask_id, part)
            starts = starts[present[starts[:, None] + offsets[hidden:]].any(axis=1)]
        raise InputError(f"mask {row.mask_id}: expected a hole in frames {begin} to {end}, got none, in {ids.path}")

    def _piece(self, row: TrainingRow, video: VideoFrames) -> tuple[int, int]:
        """Frames that the row may show, first and behind the last; InputError where the file is shorter."""
        end = len(video) if row.end == TO_THE_END else row.end
        if end > len(video):
            raise InputError(f"end_frame: expected at most {len(video)}, got {end}, in {video.path}")
        return row.start + self.options.skip_frames_start, end - self.options.skip_frames_end


def _check_fit(video: VideoFrames, ids: IdArray) -> None:
    if len(ids) != len(video):
        raise InputError(f"masks: expected {len(video)}, one for each frame, got {len(ids)}, in {ids.path}")
    if (ids.height, ids.width) != (video.height, video.width):
        raise InputError(
            f"masks: expected {video.width}x{video.height} pixels, as the frames, got "
            f"{ids.width}x{ids.height}, in {ids.path}"
        )
