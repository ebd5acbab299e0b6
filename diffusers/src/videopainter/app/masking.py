"""The hole of a project: of its objects, or of an uploaded mask; shaped, shown, judged frame by frame."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from videopainter.app.jobs import MASK_READERS
from videopainter.app.limits import check_mask_upload, display_name, named, own_suffix
from videopainter.app.mask_views import FrameState, MaskShape, frame_state
from videopainter.app.objects import ProjectObjects
from videopainter.data.clip import MaskSource, PickedFrames, PickedMasks
from videopainter.data.images import IMAGE_SUFFIXES
from videopainter.data.masks.ids import ARRAY_SUFFIXES, IdArray
from videopainter.data.masks.opening import check_not_empty, open_masks
from videopainter.data.masks.views import DilatedMasks, PlacedMasks, ResizedMasks
from videopainter.errors import InputError
from videopainter.files import fingerprint, replacing
from videopainter.runs.samples import shaped_hole
from videopainter.segmentation.output import write_masks
from videopainter.segmentation.session import colour_of

_MASK_KINDS = (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES, ".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif")
_OUTLINE = (255, 255, 255)


class Masking(ProjectObjects):
    """The hole that objects make, or an uploaded mask instead."""

    # -- an uploaded mask

    def set_mask(self, path: Path | str | None, name: str | None = None, mask_id: int | None = None) -> None:
        """Takes an uploaded mask (an image for all frames, a video, .npz or .npy) in place of the objects; None: the
        objects count again. `mask_id`: the id of an array that is the hole; None: every one."""
        if path is None:
            self.check_idle(MASK_READERS)
            self._remember(mask=None)
            return
        path = Path(path)
        shown = display_name(path.name if name is None else name)
        check_mask_upload(path, self._limits, shown)
        with self.lock:
            self.check_idle()
            file = self.folder / "mask" / f"{secrets.token_hex(8)}{own_suffix(path, _MASK_KINDS)}"
            if file.suffix in ARRAY_SUFFIXES and mask_id is None:
                file = file.with_suffix(".npz")
                with named(path, shown):
                    self._take_ids(path, file)
            else:
                with replacing(file) as partial:
                    shutil.copyfile(path, partial)
            try:
                with named(file, shown):
                    check_not_empty(self._open_mask(file, mask_id), shown)
            except InputError:
                file.unlink(missing_ok=True)
                raise
            self._remember(mask={"file": file.name, "name": shown, "mask_id": mask_id})
            self._opened.pop("mask", None)
            for old in file.parent.iterdir():
                if old != file:
                    old.unlink()

    def _take_ids(self, path: Path, file: Path) -> None:
        """Where no id is asked for every one is the hole: what is above 0."""
        masks = IdArray(path)
        ids = masks.all()
        write_masks(file, lambda _: (next(ids) > 0).astype(np.uint8), len(masks), self.frames.fps)

    @property
    def mask_file(self) -> Path | None:
        """The uploaded mask, where that is used."""
        mask = self._state.get("mask")
        return self.folder / "mask" / mask["file"] if mask else None

    @property
    def mask_id(self) -> int | None:
        """Which id of the uploaded mask is the hole."""
        return (self._state.get("mask") or {}).get("mask_id")

    def _open_mask(self, file: Path, mask_id: int | None) -> MaskSource:
        """For all frames, from a file that has as many, or as many as the range."""
        frames, part = self.frames, self.range
        try:
            return open_masks(file, frames=frames, mask_id=mask_id)
        except InputError:
            if len(part) == len(frames):
                raise
        picked = PickedFrames(frames, np.arange(part.start, part.stop))
        return PlacedMasks(open_masks(file, frames=picked, mask_id=mask_id), part.start, len(frames))

    def _check_range(self, start: int, stop: int) -> None:
        if self.mask_file is not None:
            before = self._state["range"]
            try:
                self._state["range"] = [start, stop]
                self._open_mask(self.mask_file, self.mask_id)
            finally:
                self._state["range"] = before
            self._opened.pop("mask", None)

    # -- the hole

    def shape(self, shape: MaskShape) -> None:
        """What becomes of the masks."""
        with self.lock:
            self.check_idle(MASK_READERS)
            self._remember(shape=asdict(shape))

    @property
    def mask_shape(self) -> MaskShape:
        """What becomes of the masks."""
        return MaskShape(**(self._state.get("shape") or {}))

    def hole(self, frame: int) -> np.ndarray:
        """What is painted in a frame as far as masks are known, after `shape`; bool (H, W)."""
        frame = self.check_frame(frame)
        return self.shaped(OneMask(self._mask(frame))).read(0, 1)[0]

    def shaped(self, masks: MaskSource) -> MaskSource:
        """Masks after `shape`."""
        shape = self.mask_shape
        hole = shaped_hole(masks, shape=shape.shape, inverted=shape.invert)
        return DilatedMasks(hole, shape.grow) if shape.grow > 1 else hole

    def masks(self) -> MaskSource:
        """The masks of the range's frames as far as they are made, before `shape`."""
        part = self.range
        if self.mask_file is not None:
            return PickedMasks(self._open_mask(self.mask_file, self.mask_id), np.arange(part.start, part.stop))
        made = self.part_session().masks()
        size = self.frames.height, self.frames.width
        return made if (made.height, made.width) == size else ResizedMasks(made, *size)

    @property
    def masks_digest(self) -> str:
        """Names the masks of the range's frames, as far as they are made."""
        if self.mask_file is not None:
            return f"{self.mask_file.name} {self.mask_id}"
        session = self.part_session()
        made = {k: [(frame, record.key) for frame, record in session.made(k).items()] for k in sorted(session.objects)}
        return fingerprint([made, {k: [asdict(band) for band in thing.bands] for k, thing in session.objects.items()}])

    def check_masks(self) -> None:
        """InputError where the range's frames have not all got masks, or none has a hole."""
        if self.mask_file is not None:
            return
        if not self.objects:
            raise InputError("mask: expected an object, or an uploaded mask, got neither")
        for thing in self.objects:
            if thing.tracked < len(self.range):
                raise InputError(
                    f"mask: expected {thing.name} to be tracked through {len(self.range)} frames, got {thing.tracked}: "
                    "track it first"
                )
        if not self.mask_shape.invert and all(state.state == "absent" for state in self.timeline()):
            raise InputError("mask: expected a hole in some frame, got objects that are in none")

    def _mask(self, frame: int) -> np.ndarray:
        with self.lock:
            if self.mask_file is not None:
                if "mask" not in self._opened:
                    self._opened["mask"] = self._open_mask(self.mask_file, self.mask_id)
                return self._opened["mask"].read(frame, frame + 1)[0]
            found = [self._seen(number, frame) for number in self.session.objects]
        hole = np.zeros((self.frames.height, self.frames.width), bool)
        for mask in found:
            if mask is not None:
                hole |= mask
        return hole

    def preview(self, frame: int, width: int | None = None) -> np.ndarray:
        """A frame with its objects in colour and the outline of the hole, uint8 RGB (H, W, 3)."""
        picture = self.frame(frame, width).copy()
        size = picture.shape[1], picture.shape[0]
        with self.lock:
            seen = {} if self.mask_file else {k: self._seen(k, frame) for k in self.session.objects}
        for number, mask in seen.items():
            if mask is not None:
                small = _shrunk(mask, size)
                picture[small] = picture[small] // 2 + np.array(colour_of(number), np.uint8) // 2
        hole = _shrunk(self.hole(frame), size).astype(np.uint8)
        outlines, _ = cv2.findContours(hole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, _OUTLINE, 1)
        return picture

    def timeline(self) -> list[FrameState]:
        """How far the masks of each frame of the range can be believed."""
        part = self.range
        if self.mask_file is not None:
            return [FrameState(frame=k, state="sure", confidence=1.0) for k in range(part.start, part.stop)]
        with self.lock:
            session = self.part_session()
        made = [session.made(k) for k, thing in session.objects.items() if thing.frames]
        bands = any(thing.bands for thing in session.objects.values())
        return [frame_state(k, [records.get(k) for records in made], bands) for k in range(part.start, part.stop)]


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size[::-1]:
        return mask
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0


class OneMask:
    """A mask bool (H, W) as a source of one."""

    def __init__(self, mask: np.ndarray) -> None:
        self._mask, (self.height, self.width) = mask, mask.shape

    def __len__(self) -> int:
        return 1

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._mask[None][start:stop]
