"""Objects of a project: what is said is answered at once for its frame, and tracked by a job."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from videopainter.app.jobs import MASK_READERS, JobBook
from videopainter.app.limits import Limits, as_number, as_whole, check_text
from videopainter.app.makers import MaskMakers
from videopainter.app.mask_views import ObjectView
from videopainter.app.video import FrameCache, ProjectVideo
from videopainter.data.images import write_image
from videopainter.data.reshape import resize_masks
from videopainter.errors import InputError
from videopainter.segmentation.prompts import (
    MOST_OBJECTS,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    StrokePrompt,
    TextPrompt,
    TrackedObject,
)
from videopainter.segmentation.session import Session, colour_of

_MOST_PROMPTS, _MOST_PLACES = 400, 4000
_LONGEST_NAME = 40


class ProjectObjects(ProjectVideo):
    """What was said of objects, and what is known of their masks."""

    def __init__(self, folder: Path, limits: Limits, cache: FrameCache, makers: MaskMakers, book: JobBook) -> None:
        super().__init__(folder, limits, cache, book)
        self.makers = makers

    @property
    def session(self) -> Session:
        """Prompts and masks, over the whole video."""
        with self.lock:
            if "session" not in self._opened:
                name = self._state["video"]["name"] if self._state.get("video") else ""
                self._opened["session"] = Session.open(
                    self.folder / "session",
                    name,
                    self.work_frames,
                    segmenter=self.makers.segmenter,
                    find_text=self.makers.finder,
                    digest=self._state["video"]["sha256"] if self._state.get("video") else None,
                )
            return self._opened["session"]

    def part_session(self) -> Session:
        """Prompts and masks, over the range: what is tracked."""
        return self.session.over(self.range)

    # -- what is said

    def point(self, number: int, frame: int, x: float, y: float, positive: bool = True) -> np.ndarray:
        """A pixel of the video that belongs to an object, or does not; the object's mask there, bool (H, W)."""
        x, y = self._place(x, y)
        return self._say(number, PointPrompt(frame=self.check_frame(frame), x=x, y=y, positive=bool(positive)))

    def box(self, number: int, frame: int | None, x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
        """A box round an object, from any corner; `frame` None: the box itself is the mask, always."""
        x0, y0, x1, y1 = (as_number("box", value) for value in (x0, y0, x1, y1))
        (x0, y0), (x1, y1) = self._place(min(x0, x1), min(y0, y1)), self._place(max(x0, x1), max(y0, y1))
        if x1 - x0 < 1 or y1 - y0 < 1:
            raise InputError("box: expected two corners, got one place")
        at = None if frame is None else self.check_frame(frame)
        return self._say(number, BoxPrompt(frame=at, x0=x0, y0=y0, x1=x1, y1=y1))

    def stroke(self, number: int, frame: int, places: Sequence[Sequence[float]], positive: bool = True) -> np.ndarray:
        """A line over an object, or over what is not it."""
        if not isinstance(places, list | tuple) or not 0 < len(places) <= _MOST_PLACES:
            raise InputError(f"stroke: expected 1 to {_MOST_PLACES} places, got {str(places)[:60]}")
        if not all(isinstance(place, list | tuple) and len(place) == 2 for place in places):
            raise InputError("stroke: expected places of two numbers, x and y, got others")
        line = tuple(self._place(*place) for place in places)
        return self._say(number, StrokePrompt(frame=self.check_frame(frame), places=line, positive=bool(positive)))

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
        x, y = as_number("place", x), as_number("place", y)
        width, height = self.frames.width, self.frames.height
        if not (0 <= x <= width and 0 <= y <= height):
            raise InputError(f"place: expected one inside a picture of {width}x{height}, got {x:g},{y:g}")
        work = self.work_frames
        return min(x * work.scale, work.width - 0.01), min(y * work.scale, work.height - 0.01)

    def _say(self, number: int, prompt: Prompt) -> np.ndarray:
        number = as_whole("object", number)
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
            thing = self.session.object(as_whole("object", number))
            if len(thing.prompts) <= 1:
                self.forget(number)
            else:
                kept = replace(thing, prompts=thing.prompts[:-1])
                self.session.put(kept, candidate=self.session.candidate.get(number, 1))

    def forget(self, number: int) -> None:
        """Takes an object out, with its masks; not while they are tracked."""
        with self.lock:
            self.check_idle()
            self.session.remove(as_whole("object", number))

    def rename(self, number: int, name: str) -> None:
        """Gives an object another name, to be shown."""
        with self.lock:
            number = as_whole("object", number)
            shown = check_text("name", name)[:_LONGEST_NAME].strip() or f"Object {number}"
            thing = replace(self.session.object(number), name=shown)
            self.session.put(thing, candidate=self.session.candidate.get(number, 1))

    def candidates(self, number: int) -> list[np.ndarray]:
        """Up to three masks bool (H, W) that an object's first clicks may mean; none where a box or words said it."""
        with self.lock, self.makers.turn():
            return [self._large(mask) for mask in self.session.choices(number)]

    def choose(self, number: int, candidate: int) -> None:
        """Takes another of an object's `candidates`, counted from 1."""
        candidate = as_whole("candidate", candidate)
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

    def _seen(self, number: int, frame: int) -> np.ndarray | None:
        session = self.session
        # What is known is only read: who scrubs through a video does not wait for others' clicks.
        with contextlib.nullcontext() if session.is_known(number, frame) else self.makers.turn():
            mask = session.seen(number, frame)
        return None if mask is None else self._large(mask)

    def _large(self, mask: np.ndarray) -> np.ndarray:
        """A mask at the video's size."""
        size = self.frames.height, self.frames.width
        return mask if mask.shape == size else resize_masks(mask[None], *size)[0]
