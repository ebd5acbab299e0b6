"""Clips from disk: a user's own files, and rows of a benchmark's CSV (VPBench, VPData, DAVIS)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from videopainter.data.clip import Clip, FrameSource, MaskSource
from videopainter.data.images import list_images
from videopainter.data.masks.opening import open_masks
from videopainter.data.masks.views import DilatedMasks
from videopainter.data.rates import parse_fps
from videopainter.data.tables import read_table
from videopainter.data.video.reader import FolderFrames, open_video, sound_of
from videopainter.errors import InputError
from videopainter.flags import shown

# What a row must have, and the columns that may hold the prompts, best first.
_CLIP_COLUMNS = ("path", "start_frame", "end_frame", "fps", "mask_id")
_PROMPTS = ("video_inpainting_prompt", "Edited_video_caption", "caption")
_IMAGE_PROMPTS = ("image_inpainting_prompt", "Edited_image_caption")
_DAVIS_COLUMNS = ("Video_Index", "Video_Name", "Video_Caption", "Masked_Target_Caption")
# DAVIS masks are grown by a 3x3 cross, four times, when they are read.
_DAVIS_GROWTH = 4
# How far up from `data_root` the data folder is looked for (`pexels/pexels/raw_video` is three down).
_LEVELS_UP = 3


def open_clip(
    video: Path | str,
    mask: Path | str | Callable[[FrameSource], MaskSource],
    *,
    mask_id: int | None = None,
    prompt: str = "",
    image_prompt: str = "",
    folder_fps: str | float | Fraction | None = None,
) -> Clip:
    """The clip of a user's own video (file or folder) and mask; InputError for what does not fit.

    `mask`: a path (see `open_masks`), or what gives masks for the video's frames.
    """
    video = Path(video)
    frames = open_video(video, folder_fps=folder_fps)
    return Clip(
        name=video.name if video.is_dir() else video.stem,
        frames=frames,
        masks=mask(frames) if callable(mask) else open_masks(Path(mask), frames=frames, mask_id=mask_id),
        prompt=prompt,
        image_prompt=image_prompt,
        sound=sound_of(frames),
        files=(*_files(frames, video), *(() if callable(mask) else mask_files(Path(mask)))),
        details={} if mask_id is None else {"mask_id": str(mask_id)},
    )


def parse_sample_ids(sample_ids: str | int | Iterable[str | int], total: int) -> list[int]:
    """Row numbers from "all", "0 5 7-12", "0,5", 3, or a list of such; each once, in the order given.

    InputError for what is no number or range, or is not among 0 .. `total` - 1.
    """
    items = [sample_ids] if isinstance(sample_ids, (str, int)) else sample_ids
    words = [word for item in items for word in str(item).replace(",", " ").split()]
    if not words:
        raise InputError("no sample id given; expected numbers, ranges like 7-12, or all")
    found: dict[int, None] = {}
    for word in words:
        found.update(dict.fromkeys(_rows_of(word, total)))
    return list(found)


def _rows_of(word: str, total: int) -> Sequence[int]:
    if word == "all":
        return range(total)
    first, dash, last = word.partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not dash)):
        raise InputError(f"sample id: expected a number, a range like 7-12, or all, got {word!r}")
    start, end = int(first), int(last or first)
    if end < start:
        raise InputError(f"sample id: expected a range that rises, got {word!r}")
    if end >= total:
        raise InputError(f"sample id: expected rows of 0..{total - 1}, got {word}, which is out of range")
    return range(start, end + 1)


class RecordTable:
    """A benchmark's CSV: VPBench / VPData (a row is a clip of a video), or DAVIS, by its columns.

    Cells are text. Raises InputError for what is no CSV, has no rows, or lacks a column.
    """

    def __init__(self, csv: Path | str) -> None:
        self.csv = Path(csv)
        self.rows = read_table(self.csv)
        self.is_davis = "Video_Name" in self.rows.columns
        wanted = _DAVIS_COLUMNS if self.is_davis else _CLIP_COLUMNS
        missing = [name for name in wanted if name not in self.rows.columns]
        if missing:
            raise InputError(
                f"CSV: expected the columns {', '.join(wanted)}, got none called {', '.join(missing)}, in {self.csv}"
            )
        if not self.is_davis and not any(name in self.rows.columns for name in _PROMPTS):
            raise InputError(f"CSV: expected a caption, a column {' or '.join(_PROMPTS)}, got none, in {self.csv}")
        if not len(self.rows):
            raise InputError(f"CSV: expected rows, got none, in {self.csv}")

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, number: int) -> dict[str, str]:
        """One row as text by column; InputError where there is none of that number."""
        if not 0 <= number < len(self):
            raise InputError(
                f"row: expected one of 0..{len(self) - 1}, got {number}, which is out of range, in {self.csv}"
            )
        return {str(key): str(value) for key, value in self.rows.iloc[number].items()}

    def name(self, number: int) -> str:
        """The name that the clip of row `number` has."""
        row = self.row(number)
        if self.is_davis:
            return row["Video_Name"]
        return record_paths(row["path"], where=f"row {number} of {self.csv}")[1].parent.name

    def open(
        self, number: int, *, data_root: Path | str | None = None, folder_fps: str | float | Fraction | None = None
    ) -> Clip:
        """The clip of row `number`; `details` holds the row, and its number as "row".

        `data_root` is the data folder or one inside it (the release passes `data/videovo/raw_video` whatever
        the subset); None: the CSV's own folder. The CSV's folder is looked in anyway.

        A row's frames are `start_frame` up to, without, `end_frame`, as the release slices them (a row that
        ends at 173 leaves the last of 174 frames out), or up to the file's end if that comes first; an empty
        `end_frame` is the file's end. The frame rate is the file's: the CSV's is rounded. `folder_fps` is
        that of DAVIS, whose frames have none.
        """
        roots = data_roots(data_root, self.csv)
        row = self.row(number)
        clip = self._davis(row, roots, folder_fps) if self.is_davis else self._vpbench(row, number, roots)
        return replace(clip, details={**row, "row": str(number)})

    def _vpbench(self, row: dict[str, str], number: int, roots: list[Path]) -> Clip:
        video_path, mask_path = record_paths(row["path"], where=f"row {number} of {self.csv}")
        video = find_file(video_path, roots, f"video of row {number}")
        mask = find_file(mask_path, roots, f"mask of row {number}")
        mask_id = self._integer(row, number, "mask_id")
        if row["fps"]:  # the file's counts; a record of the run will say this one, too
            parse_fps(row["fps"], f"fps of row {number}", self.csv)
        frames = open_video(video)
        clip = Clip(
            name=mask_path.parent.name,
            frames=frames,
            masks=open_masks(mask, frames=frames, mask_id=mask_id),
            prompt=_first(row, _PROMPTS),
            image_prompt=_first(row, _IMAGE_PROMPTS),
            sound=sound_of(frames),
            files=(video, mask),
        )
        start = self._integer(row, number, "start_frame")
        end = self._integer(row, number, "end_frame") if row["end_frame"] else len(clip)
        if not 0 <= start < min(end, len(clip)):
            raise InputError(
                f"row {number}: expected frames within the {len(clip)} of {video.name}, got {start} to "
                f"{end}, in {self.csv}"
            )
        return clip if (start, min(end, len(clip))) == (0, len(clip)) else clip.cut(start, min(end, len(clip)))

    def _davis(self, row: dict[str, str], roots: list[Path], folder_fps: str | float | Fraction | None) -> Clip:
        name = row["Video_Name"]
        if Path(name).name != name:
            raise InputError(f"Video_Name: expected a folder's name, got {name!r}, in {self.csv}")
        images = find_file(Path("JPEGImages_432_240", name), roots, f"frames of {name}")
        mask = find_file(Path("test_masks", name), roots, f"masks of {name}")
        frames = open_video(images, folder_fps=folder_fps)
        masks = open_masks(mask, frames=frames, any_id=True)
        return Clip(
            name=name,
            frames=frames,
            masks=DilatedMasks(masks, 3, shape="cross", times=_DAVIS_GROWTH),
            prompt=row["Video_Caption"],
            image_prompt=row["Masked_Target_Caption"],
            files=(*_files(frames, images), *mask_files(mask)),
        )

    def _integer(self, row: dict[str, str], number: int, column: str) -> int:
        try:
            value = float(row[column])
            if not abs(value) < 2**53 or value != int(value):
                raise ValueError
        except ValueError:
            raise InputError(
                f"{column} of row {number}: expected a whole number, got {shown(repr(row[column]))}, in {self.csv}"
            ) from None
        return int(value)


def record_paths(path: str, *, where: str = "CSV") -> tuple[Path, Path]:
    """(video, masks) of a row's `path`, relative to the data folder.

    `{base}.0.mp4` is of the videovo subset, any other `{base}.mp4` of pexels.
    """
    if (
        Path(path).name != path
        or not path.endswith(".mp4")
        or not path.removesuffix(".mp4").removesuffix(".0").strip(".")
    ):
        raise InputError(f"path: expected the name of an .mp4, got {shown(repr(path))}, in {where}")
    if path.endswith(".0.mp4"):
        base = path.removesuffix(".0.mp4")
        video = Path("videovo", "raw_video", base[:-3], path)
        return video, Path("video_inpainting", "videovo", base, "all_masks.npz")
    base = path.removesuffix(".mp4")
    video = Path("pexels", "pexels", "raw_video", base[:9], path)
    return video, Path("video_inpainting", "pexels", base, "all_masks.npz")


def data_roots(data_root: Path | str | None, csv: Path) -> list[Path]:
    """Where a CSV's files are looked for: `data_root`, the folders above it, and the CSV's own; InputError for none."""
    roots = []
    if data_root is not None:
        given = Path(data_root)
        if not given.is_dir():
            raise InputError(f"data folder: expected a folder, got none at {given}")
        # resolve: `..` has no parents to look in.
        given = given.resolve()
        roots = [given, *given.parents][: _LEVELS_UP + 1]
    return [*roots, csv.parent]


def find_file(relative: Path, roots: list[Path], what: str) -> Path:
    """The first `root / relative` that exists; InputError that names `what` and the places otherwise."""
    for root in roots:
        if (root / relative).exists():
            return root / relative
    places = ", ".join(map(str, dict.fromkeys(roots)))
    raise InputError(f"{what}: expected {relative}, got none in {places}")


def _first(row: dict[str, str], columns: tuple[str, ...]) -> str:
    return next((row[name] for name in columns if row.get(name)), "")


def _files(frames: FrameSource, path: Path) -> list[Path]:
    return frames.files if isinstance(frames, FolderFrames) else [path]


def mask_files(path: Path) -> list[Path]:
    return list_images(path) if path.is_dir() else [path]
