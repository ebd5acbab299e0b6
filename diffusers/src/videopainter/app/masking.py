"""Objects and masks of a project: what is said is answered at once for its frame, and tracked by a job."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from videopainter.app.jobs import MASK_READERS
from videopainter.app.limits import Limits, check_mask_upload, check_text, display_name, named, own_suffix
from videopainter.app.makers import MaskMakers
from videopainter.app.video import FrameCache, ProjectVideo
from videopainter.data.clip import MaskSource, PickedFrames, PickedMasks
from videopainter.data.images import IMAGE_SUFFIXES, write_image
from videopainter.data.masks.ids import ARRAY_SUFFIXES
from videopainter.data.masks.opening import check_not_empty, open_masks
from videopainter.data.masks.views import DilatedMasks, PlacedMasks, ResizedMasks
from videopainter.data.reshape import resize_masks
from videopainter.errors import InputError
from videopainter.files import fingerprint, replacing
from videopainter.flags import MAX_DILATION, check_ranges, flag
from videopainter.runs.samples import shaped_hole
from videopainter.segmentation.prompts import (
    MOST_OBJECTS,
    BoxPrompt,
    FrameRange,
    MaskPrompt,
    PointPrompt,
    Prompt,
    StrokePrompt,
    TextPrompt,
    TrackedObject,
)
from videopainter.segmentation.session import Session, colour_of

MaskState = Literal["none", "absent", "unsure", "sure"]
_MOST_PROMPTS, _MOST_PLACES = 400, 4000
_MASK_KINDS = (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES, ".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif")
_OUTLINE = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class MaskShape:
    """What becomes of masks before they are filled: grown by pixels, wider shapes, everything else; `feather` is how
    wide a result fades into the background, inside the hole."""

    grow: int = flag(16, "Pixels by which the hole is grown.", least=0, most=MAX_DILATION)
    feather: int = flag(0, "Pixels over which the result fades in.", least=0, most=4096)
    shape: Literal["exact", "hull", "box"] = "exact"
    invert: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.shape not in ("exact", "hull", "box"):
            raise InputError(f"shape: expected exact, hull or box, got {self.shape!r}")


@dataclass(frozen=True, kw_only=True)
class ObjectView:
    """An object as it is shown: how many of the range's frames are tracked, and which of them are to be looked at."""

    id: int
    name: str
    colour: tuple[int, int, int]
    prompts: tuple[Prompt, ...]
    tracked: int
    unsure: list[int]


@dataclass(frozen=True, kw_only=True)
class FrameState:
    """What is known of the masks of a frame, of all objects together: the worst; `confidence` 0 to 1."""

    frame: int
    state: MaskState
    confidence: float


class Masking(ProjectVideo):
    """Objects, and the hole that they make; or an uploaded mask instead."""

    def __init__(self, folder: Path, limits: Limits, cache: FrameCache, makers: MaskMakers) -> None:
        super().__init__(folder, limits, cache)
        self.makers = makers

    @property
    def session(self) -> Session:
        """Prompts and masks, over the whole video."""
        with self.lock:
            if "session" not in self._opened:
                self._opened["session"] = self._new_session(None)
            return self._opened["session"]

    def part_session(self) -> Session:
        """Prompts and masks, over the range: what is tracked."""
        return self._new_session(self.range)

    def _new_session(self, span: FrameRange | None) -> Session:
        name = self._state["video"]["name"] if self._state.get("video") else ""
        return Session.open(
            self.folder / "session",
            name,
            self.work_frames,
            span=span,
            segmenter=self.makers.segmenter,
            find_text=self.makers.finder,
        )

    # -- what is said

    def point(self, number: int, frame: int, x: float, y: float, positive: bool = True) -> np.ndarray:
        """A pixel of the video that belongs to an object, or does not; the object's mask there, bool (H, W)."""
        x, y = self._place(x, y)
        return self._say(number, PointPrompt(frame=self.check_frame(frame), x=x, y=y, positive=positive))

    def box(self, number: int, frame: int | None, x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
        """A box round an object, from any corner; `frame` None: the box itself is the mask, always."""
        (x0, y0), (x1, y1) = self._place(min(x0, x1), min(y0, y1)), self._place(max(x0, x1), max(y0, y1))
        if x1 - x0 < 1 or y1 - y0 < 1:
            raise InputError("box: expected two corners, got one place")
        at = None if frame is None else self.check_frame(frame)
        return self._say(number, BoxPrompt(frame=at, x0=x0, y0=y0, x1=x1, y1=y1))

    def stroke(self, number: int, frame: int, places: Sequence[Sequence[float]], positive: bool = True) -> np.ndarray:
        """A line over an object, or over what is not it."""
        if not 0 < len(places) <= _MOST_PLACES:
            raise InputError(f"stroke: expected 1 to {_MOST_PLACES} places, got {len(places)}")
        line = tuple(self._place(*place) for place in places)
        return self._say(number, StrokePrompt(frame=self.check_frame(frame), places=line, positive=positive))

    def words(self, number: int, frame: int, text: str) -> np.ndarray:
        """What an object is, in words; needs a model that knows words."""
        text = check_text("words", text)
        if not text:
            raise InputError("words: expected what the object is, got nothing")
        return self._say(number, TextPrompt(frame=self.check_frame(frame), text=text))

    def paint(self, number: int, frame: int, mask: np.ndarray) -> np.ndarray:
        """A mask that was painted, bool (H, W) of any size with the video's shape: it is the object there."""
        if mask.ndim != 2 or not mask.any():
            raise InputError("brush: expected something painted, got nothing")
        file = self.folder / "brush" / f"{secrets.token_hex(8)}.png"
        write_image(file, np.where(mask, np.uint8(255), np.uint8(0)))
        return self._say(number, MaskPrompt(frame=self.check_frame(frame), file=str(file)))

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """A place in the video's pixels as one in the frames that masks are made at."""
        width, height = self.frames.width, self.frames.height
        if not (0 <= x <= width and 0 <= y <= height):
            raise InputError(f"place: expected one inside a picture of {width}x{height}, got {x:g},{y:g}")
        work = self.work_frames
        return min(x * work.scale, work.width - 0.01), min(y * work.scale, work.height - 0.01)

    def _say(self, number: int, prompt: Prompt) -> np.ndarray:
        if not 1 <= number <= MOST_OBJECTS:
            raise InputError(f"object: expected 1 to {MOST_OBJECTS}, got {number}")
        with self.lock, self.makers.turn():
            self.check_idle(MASK_READERS)
            session = self.session
            before = session.objects.get(number)
            thing = before or TrackedObject(id=number, name=f"Object {number}")
            if len(thing.prompts) >= _MOST_PROMPTS:
                raise InputError(f"object {number}: expected at most {_MOST_PROMPTS} prompts")
            candidate = session.candidate.get(number, 1) if before else 1
            session.put(replace(thing, prompts=(*thing.prompts, prompt)), candidate=candidate)
            try:
                mask = self._seen(number, self.range.start if prompt.frame is None else prompt.frame)
                assert mask is not None
            except BaseException:
                if before is None:
                    session.remove(number)
                else:
                    session.put(before, candidate=candidate)
                raise
            self._remember(mask=None)
            return mask

    def undo(self, number: int) -> None:
        """Takes back what was said last of an object; one of which nothing is left goes."""
        with self.lock:
            self.check_idle(MASK_READERS)
            thing = self.session.object(number)
            if len(thing.prompts) <= 1:
                self.forget(number)
            else:
                kept = replace(thing, prompts=thing.prompts[:-1])
                self.session.put(kept, candidate=self.session.candidate.get(number, 1))

    def forget(self, number: int) -> None:
        """Takes an object out."""
        with self.lock:
            self.check_idle(MASK_READERS)
            self.session.remove(number)

    def rename(self, number: int, name: str) -> None:
        """Gives an object another name, to be shown."""
        with self.lock:
            thing = replace(self.session.object(number), name=display_name(name))
            self.session.put(thing, candidate=self.session.candidate.get(number, 1))

    def candidates(self, number: int) -> list[np.ndarray]:
        """Up to three masks bool (H, W) that an object's first clicks may mean; none where a box or words said it."""
        with self.lock, self.makers.turn():
            return [self._large(mask) for mask in self.session.choices(number)]

    def choose(self, number: int, candidate: int) -> None:
        """Takes another of an object's `candidates`, counted from 1."""
        if not 1 <= candidate <= 3:
            raise InputError(f"candidate: expected 1 to 3, got {candidate}")
        with self.lock:
            self.check_idle(MASK_READERS)
            self.session.put(self.session.object(number), candidate=candidate)

    @property
    def objects(self) -> list[ObjectView]:
        """All objects, by number."""
        if not self._state.get("video"):
            return []
        with self.lock:
            things, part = sorted(self.session.objects.items()), self.part_session()
        out = []
        for number, thing in things:
            made = part.made(number)
            # A box for all frames has nothing to track.
            tracked = len(self.range) if thing.bands and not thing.frames else len(made)
            unsure = [frame for frame, record in made.items() if record.state == "unsure"]
            view = ObjectView(
                id=number,
                name=thing.name,
                colour=colour_of(number),
                prompts=thing.prompts,
                tracked=tracked,
                unsure=unsure,
            )
            out.append(view)
        return out

    # -- an uploaded mask

    def set_mask(self, path: Path | str | None, name: str | None = None, mask_id: int | None = None) -> None:
        """Takes an uploaded mask (an image for all frames, a video, .npz or .npy) in place of the objects; None: the
        objects count again."""
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
        return self.shaped(_OneMask(self._mask(frame))).read(0, 1)[0]

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

    def _seen(self, number: int, frame: int) -> np.ndarray | None:
        with self.makers.turn():
            mask = self.session.seen(number, frame)
        return None if mask is None else self._large(mask)

    def _large(self, mask: np.ndarray) -> np.ndarray:
        """A mask at the video's size."""
        size = self.frames.height, self.frames.width
        return mask if mask.shape == size else resize_masks(mask[None], *size)[0]

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
        return [_state_of(k, [records.get(k) for records in made], bands) for k in range(part.start, part.stop)]


def _state_of(frame: int, records: Sequence[Any], bands: bool) -> FrameState:
    if any(record is None for record in records) or not (records or bands):
        return FrameState(frame=frame, state="none", confidence=0.0)
    there = [record for record in records if record.state != "absent"]
    if not there:
        state: MaskState = "sure" if bands else "absent"
        return FrameState(frame=frame, state=state, confidence=1.0)
    state = "unsure" if any(record.state == "unsure" for record in there) else "sure"
    return FrameState(frame=frame, state=state, confidence=min(record.confidence for record in there))


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size[::-1]:
        return mask
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0


class _OneMask:
    """A mask bool (H, W) as a source of one."""

    def __init__(self, mask: np.ndarray) -> None:
        self._mask, (self.height, self.width) = mask, mask.shape

    def __len__(self) -> int:
        return 1

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._mask[None][start:stop]
