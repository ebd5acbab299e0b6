"""Small videos for the report's page, and PNGs in the release's layout, from a result and its original."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from videopainter.data.clip import tags_of
from videopainter.data.images import write_image
from videopainter.data.video.writer import VideoWriter
from videopainter.evaluation.options import ScoringOptions
from videopainter.evaluation.pairs import Pair
from videopainter.files import replacing_folder, write_json

_CHUNK = 16
KINDS = ("original", "masked", "result")
FRAME_FOLDERS = ("comp_frames", "ori_frames", "masks")
MARK = "fingerprint.txt"
# In a run's folder.
PLAYERS, FRAMES = "players", "frames"
OUTLINE_UNITS = 1000  # outlines are drawn on a square of so many units, whatever the size of the video


@dataclass(frozen=True, kw_only=True)
class Players:
    """What the page shows of a video.

    videos: {original, masked, result: H.264 file}.
    outlines: of each frame's hole, as an SVG path on a square of `OUTLINE_UNITS`.
    """

    videos: dict[str, Path]
    outlines: list[str]


def show(pair: Pair, folder: Path, stem: str, fingerprint: str, options: ScoringOptions) -> None:
    """What a run's folder shows of a scored video, as far as it is wanted and not there: players, PNGs."""
    if options.html:
        write_players(pair, folder / PLAYERS, stem, fingerprint)
    if options.save_frames:
        save_frames(pair, folder / FRAMES / stem, fingerprint)


def write_players(pair: Pair, folder: Path, stem: str, fingerprint: str) -> Players:
    """Write what the page shows of a scored video; files of the same fingerprint stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    tag = fingerprint[:12]
    videos = {kind: folder / f"{stem}_{kind}_{tag}.mp4" for kind in KINDS}
    outline_file = folder / f"{stem}_outline_{tag}.json"
    if all(path.exists() for path in (*videos.values(), outline_file)):
        return Players(videos=videos, outlines=json.loads(outline_file.read_text()))
    for old in folder.glob(f"{stem}_*"):
        if any(old.name.startswith(f"{stem}_{kind}_") for kind in (*KINDS, "outline")):
            old.unlink()
    tags, outlines = tags_of(pair.clip.frames), []
    writers = {kind: VideoWriter(path, fps=pair.clip.fps, tags=tags) for kind, path in videos.items()}
    with writers["original"] as original, writers["masked"] as masked, writers["result"] as result:
        for frames, holes, results in chunks_of(pair):
            original.write(frames)
            masked.write(np.where(holes[..., None], np.uint8(127), frames))
            result.write(results)
            outlines += map(outline, holes)
    write_json(outline_file, outlines)
    return Players(videos=videos, outlines=outlines)


def outline(hole: np.ndarray) -> str:
    """The outline of a mask (H, W), True = hole, as an SVG path on a square of `OUTLINE_UNITS`."""
    height, width = hole.shape
    contours = cv2.findContours(hole.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
    parts = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, max(height, width) / 400, True)[:, 0]
        scaled = np.round((points + 0.5) * OUTLINE_UNITS / (width, height)).astype(int)
        parts.append("M" + "L".join(f"{x} {y}" for x, y in scaled) + "Z")
    return "".join(parts)


def save_frames(pair: Pair, folder: Path, fingerprint: str) -> None:
    """comp_frames, ori_frames and masks as PNGs in `folder`, whole or not at all; a folder that is current stays."""
    mark = folder / MARK
    if mark.is_file() and mark.read_text() == fingerprint:
        return
    with replacing_folder(folder) as partial:
        for name in FRAME_FOLDERS:
            (partial / name).mkdir()
        number = 0
        for frames, holes, results in chunks_of(pair):
            for pictures in zip(results, frames, holes):
                for name, picture in zip(FRAME_FOLDERS, pictures):
                    shown = picture.astype(np.uint8) * 255 if picture.dtype == np.bool_ else picture
                    write_image(partial / name / f"{number:05d}.png", shown)
                number += 1
        (partial / MARK).write_text(fingerprint)


def chunks_of(pair: Pair) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Originals, masks and results, a few frames at a time."""
    for start in range(0, len(pair.clip), _CHUNK):
        stop = min(start + _CHUNK, len(pair.clip))
        yield pair.clip.frames.read(start, stop), pair.clip.masks.read(start, stop), pair.results.read(start, stop)
