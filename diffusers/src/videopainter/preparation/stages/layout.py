"""The finished set: VPData's folders and CSVs, and a sheet to look at.

Videos and masks are links to the files of the stages (copies where a file system has no hard links). Which part a clip
belongs to follows from its source video alone: no video is in two parts, and adding videos moves none.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from videopainter.data.masks.ids import IdArray
from videopainter.data.panels import contact_sheet, tinted
from videopainter.data.records import record_paths
from videopainter.data.synthetic.writing import BENCHMARK_COLUMNS
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError
from videopainter.files import fingerprint, read_json, replacing, write_json
from videopainter.flags import flag
from videopainter.locks import held
from videopainter.preparation.stages.rate import RATINGS, unrated
from videopainter.preparation.stages.stage import Row

SET_MANIFEST = "vpdata.json"
SHEET = "contact_sheet.png"
_MEASURES = ("sharpness", "motion", "brightness", *RATINGS, "presence", "area", "area_change")
SET_COLUMNS = (*BENCHMARK_COLUMNS, "word", *_MEASURES, "source", "source_start_frame")
# {CSV: the part it lists}; the last one is what `infer` and `evaluate` read by default.
SET_TABLES = {
    "pexels_videovo_train_dataset.csv": "train",
    "pexels_videovo_val_dataset.csv": "val",
    "pexels_videovo_test_dataset.csv": "test",
    "our_video_inpaint.csv": "test",
}
_SHEET_ROWS, _SHEET_COLUMNS, _TILE = 12, 5, 240


@dataclass(frozen=True, kw_only=True)
class PartOptions:
    """Which source videos are kept from training."""

    _argument_group_name: ClassVar[str] = "which source videos are kept from training (ours)"

    val_share: float = flag(0.02, "Share of the source videos to validate on.", least=0, most=1)
    test_share: float = flag(0.02, "Share of the source videos to test on.", least=0, most=1)

    def __post_init__(self) -> None:
        if self.val_share + self.test_share > 1:
            raise InputError(f"--val_share, --test_share: expected 1 at most, got {self.val_share + self.test_share}")

    def part_of(self, source: str) -> str:
        """The part of a source video, by a digest of its id."""
        place = int(fingerprint(source)[:12], 16) / 16**12
        if place < self.test_share:
            return "test"
        return "val" if place < self.test_share + self.val_share else "train"


def check_set_folder(folder: Path) -> None:
    """InputError where a folder holds tables that are not this command's."""
    if folder.exists() and not (folder / SET_MANIFEST).exists():
        found = [name for name in SET_TABLES if (folder / name).exists()]
        if found:
            raise InputError(f"--output_dir: expected a folder without other tables, got {found[0]}, in {folder}")


def write_set_files(folder: Path, files: Path, rows: Sequence[Row], parts: PartOptions) -> dict[str, int]:
    """Write the set of these rows: {part: rows}. `files`: the stages' files, in the same layout.

    A set that is there becomes this one: what it no longer holds goes. CSVs come last, so that all that they list is
    there.
    """
    with held(folder, folder=True):
        wanted = {str(path) for row in rows for path in record_paths(row["path"])}
        write_json(folder / SET_MANIFEST, {"files": sorted(wanted | _listed(folder))})
        for name in sorted(wanted):
            _link(files / name, folder / name)
        lines: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
        for row in rows:
            lines[parts.part_of(row["source"])].append(_line(row))
        for name, part in SET_TABLES.items():
            if lines[part]:
                write_rows(folder / name, SET_COLUMNS, lines[part])
            else:
                (folder / name).unlink(missing_ok=True)
        for name in _listed(folder) - wanted:
            (folder / name).unlink(missing_ok=True)
        write_json(folder / SET_MANIFEST, {"files": sorted(wanted)})
    return {part: len(found) for part, found in lines.items()}


def _listed(folder: Path) -> set[str]:
    """Files of the set that is there, by its manifest."""
    try:
        content = read_json(folder / SET_MANIFEST)
        return {name for name in content["files"] if ".." not in Path(name).parts and not Path(name).is_absolute()}
    except (InputError, KeyError, TypeError):
        return set()


def _link(source: Path, target: Path) -> None:
    if target.exists() and os.path.samefile(source, target):
        return
    with replacing(target) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


def _line(row: Row) -> dict[str, Any]:
    return {
        **unrated(),
        **row,
        "start_frame": 0,
        "end_frame": row["clip_frames"],
        "fps": row["clip_fps"],
        "video_inpainting_prompt": row["caption"],
        "image_inpainting_prompt": row["region_caption"],
        "source_start_frame": row["start_frame"],
    }


def write_rows(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV with these columns of rows; what a row lacks is empty."""
    with replacing(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_sheet(file: Path, folder: Path, rows: Sequence[Row]) -> None:
    """Up to twelve objects, evenly from all, a line each: five frames with the mask in magenta."""
    chosen = [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, _SHEET_ROWS).round().astype(int))]
    columns: dict[str, list[np.ndarray]] = {f"{100 * k // (_SHEET_COLUMNS - 1)} %": [] for k in range(_SHEET_COLUMNS)}
    for row in chosen:
        for tiles, tile in zip(columns.values(), _tiles(folder, row), strict=True):
            tiles.append(tile)
    contact_sheet(columns, file, min_height=1)


def _tiles(folder: Path, row: Row) -> list[np.ndarray]:
    video, masks = (folder / path for path in record_paths(row["path"]))
    frames, ids = VideoFrames(video, threads=1, check_end=False), IdArray(masks)
    numbers = np.linspace(0, len(frames) - 1, _SHEET_COLUMNS).round().astype(int).tolist()
    scale = min(_TILE / frames.width, _TILE / frames.height)
    size = max(1, round(frames.width * scale)), max(1, round(frames.height * scale))
    tiles = []
    for number, mask in zip(numbers, ids.pick(numbers, row["mask_id"]), strict=True):
        small = cv2.resize(frames.read(number, number + 1)[0], size, interpolation=cv2.INTER_AREA)
        hole = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        tiles.append(tinted(small, np.zeros_like(hole), hole))
    cv2.putText(tiles[0], row["id"][-34:], (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 0), 1, cv2.LINE_AA)
    frames.close()
    return tiles
