"""A clip with the copied pixels in its frames, and masks of what is still to be painted.

The work is kept in a folder, a file for every few frames: what is there is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np

from videopainter.data.clip import Clip, FrameSource, FramesView, MaskSource, check_range
from videopainter.data.workers import processors
from videopainter.files import fingerprint, read_json, remove_folder, replacing, write_json
from videopainter.propagation.footage import Footage
from videopainter.propagation.propagator import Filled, fill_frame
from videopainter.propagation.settings import PropagationSettings
from videopainter.vision.fillers import continue_colours

_CHUNK = 8  # frames in one file
SETTINGS_VERSION = 3  # raised when the same settings compute something else
_REFERENCE = 480  # lines for which settings count pixels


def propagated(
    clip: Clip,
    folder: Path,
    settings: PropagationSettings | None = None,
    *,
    most: int | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> Clip:
    """The clip with what other frames show copied into its holes; its masks are the rest.

    Args:
        folder: Keeps what is done; the same call started again goes on there. What other settings left is removed.
        most: Only so many frames from the start are filled.
        on_frames: Called with the number of frames done, again and again.

    Raises:
        WriteError: nothing can be written to `folder`.
    """
    settings = settings or PropagationSettings()
    mark = fingerprint({"version": SETTINGS_VERSION, "frames": len(clip), **asdict(settings)})
    marked = folder / "settings.json"
    if folder.exists() and not (marked.exists() and read_json(marked, lenient=True) == {"fingerprint": mark}):
        remove_folder(folder)
    write_json(marked, {"fingerprint": mark})
    _fill_missing(clip, folder, settings, min(len(clip), most or len(clip)), on_frames)
    copies = Copies(folder)
    return replace(clip, frames=CopiedFrames(clip.frames, clip.masks, copies), masks=RestMasks(clip.masks, copies))


def _fill_missing(
    clip: Clip,
    folder: Path,
    settings: PropagationSettings,
    stop: int,
    on_frames: Callable[[int], None] | None,
) -> None:
    footage = Footage(clip.frames, clip.masks, settings)
    # Frames are filled side by side, each by one thread.
    threads, before = min(4, processors()), cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, stop, _CHUNK):
                end = min(start + _CHUNK, stop)
                file = _chunk_file(folder, start)
                if not file.exists():
                    masks = clip.masks.read(start, end)
                    results: list[Filled] = []
                    if masks.any():
                        footage.move_to(start, end, pool)
                        results = list(pool.map(lambda t: fill_frame(footage, t), range(start, end)))
                    _save(file, [_without_specks(r, m, settings) for r, m in zip(results, masks)], results, masks)
                if on_frames is not None:
                    on_frames(end)
    finally:
        cv2.setNumThreads(before)


def _without_specks(filled: Filled, hole: np.ndarray, settings: PropagationSettings) -> Filled:
    """Small parts of the rest are closed from around them: a model would paint many times as much for each."""
    rest = hole & ~filled.known
    least = settings.speck * (min(hole.shape) / _REFERENCE) ** 2
    count, labels, stats, _ = cv2.connectedComponentsWithStats(rest.view(np.uint8), connectivity=8)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least)
    small = small[small > 0]
    if not len(small) or count <= 1:
        return filled
    specks = np.isin(labels, small)
    # Larger parts of the rest have nothing to give.
    frame = closed(filled.frame, rest, only=specks)
    return replace(filled, frame=frame, known=filled.known | specks)


def closed(frame: np.ndarray, hole: np.ndarray, *, only: np.ndarray | None = None) -> np.ndarray:
    """`frame` uint8 (H, W, 3) with the colours around `hole` continued into it, or into the part `only` of it."""
    if not hole.any() or hole.all():
        return frame
    painted = np.rint(continue_colours(frame.astype(np.float32), hole)).astype(np.uint8)
    return np.where((hole if only is None else only)[..., None], painted, frame)


# ---- what is kept


def _chunk_file(folder: Path, start: int) -> Path:
    return folder / f"{start:08d}.npz"


def _save(file: Path, filled: list[Filled], copied: list[Filled], masks: np.ndarray) -> None:
    known = np.stack([f.known for f in filled]) if filled else np.zeros_like(masks)
    pixels = [f.frame[f.known] for f in filled]
    counts = [int(masks.sum()), sum(int(f.known.sum()) for f in copied), int(known.sum())]
    errors = float(sum(f.error[f.known].sum(dtype=np.float64) for f in copied))
    with replacing(file) as partial:
        np.savez(
            partial,
            known=np.packbits(known, axis=-1),
            pixels=np.concatenate(pixels) if pixels else np.zeros((0, 3), np.uint8),
            counts=np.array(counts, np.int64),
            errors=np.array(errors),
        )


class Copies:
    """What a folder holds of one clip: copied pixels and where they go. Frames without a file have none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def chunks(self, start: int, stop: int):
        """(first frame, masks of what was copied, its pixels) for the files that touch frames [start, stop)."""
        for first in range(start - start % _CHUNK, stop, _CHUNK):
            file = _chunk_file(self.folder, first)
            if file.exists():
                with np.load(file, allow_pickle=False) as held:
                    yield first, np.unpackbits(held["known"], axis=-1), held["pixels"]

    def facts(self) -> dict[str, float | int | None]:
        """How much of the hole was copied (share, pixels), the expected error there, and what was closed as specks."""
        hole = copied = known = 0
        errors = 0.0
        for file in sorted(self.folder.glob("*.npz")):
            with np.load(file, allow_pickle=False) as held:
                a, b, c = (int(x) for x in held["counts"])
                hole, copied, known, errors = hole + a, copied + b, known + c, errors + float(held["errors"])
        return {
            "hole_pixels": hole,
            "copied_pixels": copied,
            "copied_share": round(copied / hole, 4) if hole else None,
            "closed_pixels": known - copied,
            "expected_error": round(errors / copied, 2) if copied else None,
        }


class CopiedFrames(FramesView):
    """A view of a clip's frames with the copied pixels in them; of those, the rest is closed from around it.

    So no pixel of the object is left for an edge to fade into.
    """

    def __init__(self, source: FrameSource, masks: MaskSource, copies: Copies) -> None:
        super().__init__(source)
        self.masks, self.copies = masks, copies

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self))
        frames, masks = self.source.read(start, stop).copy(), self.masks.read(start, stop)
        for first, known, pixels in self.copies.chunks(start, stop):
            known = known[..., : self.width].astype(bool)
            ends = np.cumsum(known.sum(axis=(1, 2)))
            for k, mask in enumerate(known):
                at = first + k - start
                if start <= first + k < stop:
                    frames[at][mask] = pixels[ends[k] - int(mask.sum()) : ends[k]]
                    frames[at] = closed(frames[at], masks[at] & ~mask)
        return frames


class RestMasks:
    """The part of a clip's holes that nothing was copied into."""

    def __init__(self, masks: MaskSource, copies: Copies) -> None:
        self.masks, self.copies = masks, copies
        self.height, self.width = masks.height, masks.width

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, start: int, stop: int) -> np.ndarray:
        masks = self.masks.read(start, stop).copy()
        for first, known, _ in self.copies.chunks(start, stop):
            for k, mask in enumerate(known[..., : self.width].astype(bool)):
                if start <= first + k < stop:
                    masks[first + k - start] &= ~mask
        return masks


class SpreadMasks:
    """Masks united over neighbouring frames and grown, within others.

    `frames_of(t, length)` names the frames [first, last) whose masks are united in frame `t`; `grow` pixels are added
    to every side; nothing outside of `within` is added.
    """

    def __init__(
        self, masks: MaskSource, within: MaskSource, frames_of: Callable[[int, int], tuple[int, int]], grow: int = 0
    ) -> None:
        self.masks, self.within, self.frames_of, self.grow = masks, within, frames_of, grow
        self.height, self.width = masks.height, masks.width

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, start: int, stop: int) -> np.ndarray:
        out = self.within.read(start, stop).copy()
        if not len(out):
            return out
        ranges = [self.frames_of(t, len(self)) for t in range(start, stop)]
        first = ranges[0][0]
        rest = self.masks.read(first, max(last for _, last in ranges))
        kernel = np.ones((2 * self.grow + 1, 2 * self.grow + 1), np.uint8)
        for k, (a, b) in enumerate(ranges):
            united = rest[a - first : b - first].max(axis=0).astype(np.uint8)
            out[k] &= cv2.dilate(united, kernel) > 0
        return out


def one_latent(t: int, length: int) -> tuple[int, int]:
    """The frames that share a latent with frame `t`: 0 alone, then fours."""
    if t == 0:
        return 0, 1
    first = (t - 1) // 4 * 4 + 1
    return first, min(length, first + 4)
