"""A segmentation in the making: a video, objects, what was said about them, and the masks so far; on disk.

    session = Session.open(folder, video, frames)
    session.put(TrackedObject(id=1, prompts=(BoxPrompt(frame=0, x0=10, y0=10, x1=90, y1=80),)))
    session.track(1)                       # both ways from every frame that has prompts; goes on where it was
    session.add(1, StrokePrompt(frame=40, places=((12, 30), (20, 33)), positive=False))
    session.track(1)                       # frame 40 is solved again, and what is nearer to it than to frame 0 tracked
    masks = session.masks()                # a MaskSource

One process works on a session at a time. Memory does not depend on the video's length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from videopainter.data.clip import FrameSource
from videopainter.errors import InputError
from videopainter.files import remove_folder, write_json
from videopainter.segmentation.builtin import BuiltinSegmenter
from videopainter.segmentation.legs import Anchor, Leg, anchor_order, leg_between, plan_legs
from videopainter.segmentation.masks import SessionMasks
from videopainter.segmentation.prompts import (
    BoxPrompt,
    FrameRange,
    Prompt,
    TextPrompt,
    TrackedObject,
    check_objects,
    prompt_from_json,
    prompt_to_json,
)
from videopainter.segmentation.segmenter import Follower, FrameView, Segmenter, TextFinder
from videopainter.segmentation.store import FrameRecord, MaskStore

SESSION_FILE = "session.json"
SESSION_VERSION = 3
_CHECKPOINT_EVERY = 50
_LOOKED_AT = 8  # frames that tell a video from another, evenly spread
_CHUNK = 16  # frames read at once where a video is followed backwards

# (frames done, frames to do, the frame's number): called after every frame. Returning False stops.
OnTracked = Callable[[int, int, int], bool | None]


class Session:
    """Objects and their masks for frames of one video; see the module's text."""

    def __init__(
        self,
        folder: Path,
        frames: FrameSource,
        span: FrameRange,
        video: str,
        segmenter: Segmenter | None = None,
        find_text: TextFinder | None = None,
        digest: str | None = None,
    ) -> None:
        self.folder, self.frames, self.span, self.video = folder, frames, span, video
        self.objects: dict[int, TrackedObject] = {}
        self.candidate: dict[int, int] = {}
        self.segmenter: Segmenter = segmenter or BuiltinSegmenter()
        self._find_text, self._digest = find_text, digest
        self._stores: dict[int, MaskStore] = {}

    @classmethod
    def open(
        cls,
        folder: Path | str,
        video: Path | str,
        frames: FrameSource,
        *,
        span: FrameRange | None = None,
        segmenter: Segmenter | None = None,
        find_text: TextFinder | None = None,
        digest: str | None = None,
    ) -> Session:
        """The session in `folder`, or a new one there. InputError where it is another video's.

        `segmenter` makes the masks (default: the built-in tracker), `find_text` knows words (default: nobody). `digest`
        names the video's content where that is known; else some frames are looked at.
        """
        folder = Path(folder)
        span = span or FrameRange(start=0, stop=len(frames))
        session = cls(folder, frames, span, str(video), segmenter, find_text, digest)
        file = folder / SESSION_FILE
        if file.exists():
            session._load(file)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"expected a new or empty folder, or a session: {folder}")
        return session

    def over(self, span: FrameRange) -> Session:
        """The same over other frames of the video."""
        part = Session(self.folder, self.frames, span, self.video, self.segmenter, self._find_text, self._digest)
        part.objects, part.candidate, part._facts = dict(self.objects), dict(self.candidate), self._facts
        part._stores = self._stores
        return part

    @classmethod
    def fits(cls, folder: Path, video: Path | str, frames: FrameSource) -> bool:
        """Whether a folder is free for this video: new, empty, or its own session."""
        try:
            cls.open(folder, video, frames)
        except InputError:
            return False
        return True

    def _load(self, file: Path) -> None:
        wanted = self._facts
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            facts, objects = stored["facts"], stored["objects"]
            self.objects = {
                item["id"]: TrackedObject(
                    id=item["id"], name=item["name"], prompts=tuple(prompt_from_json(p) for p in item["prompts"])
                )
                for item in objects
            }
            self.candidate = {item["id"]: item["candidate"] for item in objects}
            differing = {name: facts.get(name) for name, value in wanted.items() if facts.get(name) != value}
            if "digest" not in facts:  # nobody knew it
                differing.pop("digest", None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"expected a session, got something that cannot be read ({error}), in {file}") from None
        for name, value in differing.items():
            raise InputError(f"the session there is another's: expected {name} {wanted[name]}, got {value}, in {file}")

    @cached_property
    def _facts(self) -> dict[str, object]:
        size = [self.frames.width, self.frames.height]
        facts: dict[str, object] = {"version": SESSION_VERSION, "size": size, "frames": len(self.frames)}
        return facts | ({"pictures": self._pictures()} if self._digest is None else {"digest": self._digest})

    def _pictures(self) -> str:
        digest = hashlib.sha256()
        for number in np.unique(np.linspace(0, len(self.frames) - 1, _LOOKED_AT).round().astype(int)):
            digest.update(self._read(int(number)).tobytes())
        return digest.hexdigest()[:16]

    def save(self) -> None:
        """Writes down what was said (masks are written as they come)."""
        objects = [
            {
                "id": thing.id,
                "name": thing.name,
                "candidate": self.candidate.get(thing.id, 1),
                "prompts": [prompt_to_json(prompt) for prompt in thing.prompts],
            }
            for thing in self.objects.values()
        ]
        write_json(self.folder / SESSION_FILE, {"facts": self._facts, "video": self.video, "objects": objects})

    # -- what is said

    def put(self, thing: TrackedObject, *, candidate: int = 1) -> None:
        """A new object, or all of an object's prompts anew. InputError for prompts outside of the video."""
        check_objects([thing], width=self.frames.width, height=self.frames.height, frames=self.span, video=self.video)
        self.objects[thing.id], self.candidate[thing.id] = thing, candidate
        self.save()

    def add(self, number: int, *prompts: Prompt) -> None:
        """More prompts for an object: on a frame with a mask they correct it."""
        thing = self.object(number)
        self.put(replace(thing, prompts=(*thing.prompts, *prompts)), candidate=self.candidate.get(number, 1))

    def object(self, number: int) -> TrackedObject:
        """InputError for one that is not there."""
        if number not in self.objects:
            known = ", ".join(map(str, self.objects)) or "none"
            raise InputError(f"object: expected one of {known}, got {number}, in {self.folder}")
        return self.objects[number]

    def remove(self, number: int) -> None:
        """Forgets an object and its masks: the next one with its number is another."""
        del self.objects[self.object(number).id]
        self.candidate.pop(number, None)
        self.save()
        remove_folder(self.store(number).folder)
        self._stores.pop(number, None)

    def keep_only(self, objects: Sequence[TrackedObject], *, candidate: int = 1) -> None:
        """Makes these objects the session's only ones; masks that the same prompts gave stay."""
        self.objects, self.candidate = {}, {}
        for thing in objects:
            self.put(thing, candidate=candidate)

    # -- tracking

    def store(self, number: int) -> MaskStore:
        """Where an object's masks are."""
        known = self._stores.get(number)
        if known is None:
            return self._stores.setdefault(number, MaskStore(self.folder / f"object_{number:03d}"))
        known.refresh()
        return known

    def choices(self, number: int, frame: int | None = None) -> list[np.ndarray]:
        """Up to three masks bool (H, W) that an object's clicks may mean, likeliest first; for `candidate`."""
        thing = self.object(number)
        frame = thing.frames[0] if frame is None else frame
        return self.segmenter.choices(self._view(frame), self._resolved(thing.at(frame)))

    def prepare(self, number: int) -> None:
        """Solves an object's first frame: InputError where its prompts point at nothing, before anything is tracked."""
        thing = self.object(number)
        if thing.frames:
            self._solve_anchors(thing, self.store(number), first_only=True)

    def answer(self, number: int, frame: int) -> np.ndarray:
        """The mask of a frame that has prompts, bool (H, W), at once: nothing is tracked for it.

        On what is tracked there, where that is; else from the frame's own prompts alone, until `track` is called.
        InputError where they point at nothing.
        """
        thing, store = self.object(number), self.store(number)
        anchors = self._anchors(thing)
        anchor, name = anchors[frame], f"answer_{anchors[frame].digest}"
        kept = store.load(name)
        if kept is None:
            solved = store.load(f"anchor_{anchor.digest}")
            found = self._solve_at_once(thing, store, anchors, anchor) if solved is None else solved["anchor"]
            mask = self.segmenter.follower().start(self._read(frame), found).mask
            store.save(name, {"mask": np.packbits(mask)})
            return mask
        size = self.frames.height, self.frames.width
        return np.unpackbits(kept["mask"], count=size[0] * size[1]).reshape(size).astype(bool)

    def _solve_at_once(
        self, thing: TrackedObject, store: MaskStore, anchors: Mapping[int, Anchor], anchor: Anchor
    ) -> np.ndarray:
        if anchor.near is None:
            return self._solve(thing, store, anchor, None)
        near, leg = anchors[anchor.near], leg_between(anchors[anchor.near], anchor.frame)
        if all(store.has(frame, leg.key) for frame in leg.frames):
            return self._solve(thing, store, anchor, self._reach(thing, store, near, anchor.frame))
        return self._solve(thing, store, anchor, None, keep=False)

    def track(self, number: int, *, progress: OnTracked | None = None) -> bool:
        """Makes the masks of an object that are not there yet; False where `progress` stopped it.

        InputError where a frame's prompts point at nothing.
        """
        thing = self.object(number)
        store = self.store(number)
        if not thing.frames:
            return True
        done = 0
        for leg in self._legs(thing, store):
            todo = [frame for frame in leg.frames if not store.has(frame, leg.key)]
            done += len(leg.frames) - len(todo)
            for frame in self._follow(thing, store, leg) if todo else ():
                done += 1
                if progress is not None and progress(done, len(self.span), frame) is False:
                    return False
        return True

    def _legs(self, thing: TrackedObject, store: MaskStore) -> Iterator[Leg]:
        """Where tracking starts and how far it goes; anchors are solved on the way, in the order of their frames.

        The first frame that says where the object is comes first. Every other one is solved on what was tracked there.
        """
        yield from plan_legs(self._solve_anchors(thing, store), self.span)

    def _solve_anchors(self, thing: TrackedObject, store: MaskStore, *, first_only: bool = False) -> dict[int, Anchor]:
        """All frames with prompts, whose masks are solved and kept in the store."""
        anchors = self._anchors(thing)
        for anchor in [*anchors.values()][: 1 if first_only else None]:
            if store.load(f"anchor_{anchor.digest}") is None:
                near = None if anchor.near is None else anchors[anchor.near]
                tracked = None if near is None else self._reach(thing, store, near, anchor.frame)
                self._solve(thing, store, anchor, tracked)
        return anchors

    def _anchors(self, thing: TrackedObject) -> dict[int, Anchor]:
        """All frames with prompts in the order in which they are solved; nothing is."""
        anchors: dict[int, Anchor] = {}
        chosen = self.candidate.get(thing.id, 1)
        for frame in anchor_order(thing):
            near = min(anchors, key=lambda a: abs(a - frame)) if anchors else None
            told = json.dumps([prompt_to_json(prompt) for prompt in thing.at(frame)])
            before = "" if near is None else anchors[near].digest
            words = f"{self._maker(thing, frame)} {told} {chosen} {before}"
            digest = hashlib.sha256(words.encode()).hexdigest()[:12]
            anchors[frame] = Anchor(frame=frame, digest=digest, near=near)
        return anchors

    def _solve(
        self, thing: TrackedObject, store: MaskStore, anchor: Anchor, tracked: np.ndarray | None, *, keep: bool = True
    ) -> np.ndarray:
        view, prompts = self._view(anchor.frame), self._resolved(thing.at(anchor.frame))
        chosen = self.candidate.get(thing.id, 1)
        solved = self.segmenter.solve(view, prompts, tracked=tracked, candidate=chosen).astype(np.float32)
        if keep:
            store.save(f"anchor_{anchor.digest}", {"anchor": solved})
        return solved

    def _maker(self, thing: TrackedObject, frame: int) -> str:
        """Who makes the mask of a frame with prompts."""
        words = any(isinstance(prompt, TextPrompt) for prompt in thing.at(frame))
        finder = self._find_text.identity if words and self._find_text is not None else ""
        return f"{SESSION_VERSION} {self.segmenter.identity} {finder}"

    @property
    def makers(self) -> str:
        """Who makes the masks of the session's objects, and who finds what their words say."""
        words = any(isinstance(prompt, TextPrompt) for thing in self.objects.values() for prompt in thing.prompts)
        finder = [self._find_text.identity] if words and self._find_text is not None else []
        return ", ".join([self.segmenter.identity, *finder])

    def _reach(self, thing: TrackedObject, store: MaskStore, anchor: Anchor, frame: int) -> np.ndarray:
        """What is tracked in `frame` from an anchor, bool (H, W)."""
        for _ in self._follow(thing, store, leg_between(anchor, frame)):
            pass
        return store.read(frame)

    def _follow(self, thing: TrackedObject, store: MaskStore, leg: Leg) -> Iterator[int]:
        """Tracks along a leg and stores every mask; goes on from the last checkpoint. Yields the frames made."""
        todo = [at for at, frame in enumerate(leg.frames) if not store.has(frame, leg.key)]
        if not todo:
            return
        follower, begin = self._resume(store, leg, todo[0])
        for at, frame, pixels in self._walk(leg.frames, begin):
            if follower is None:
                follower = self.segmenter.follower()
                found = follower.start(self._read(leg.anchor), self._anchor(store, leg))
                if frame != leg.anchor:
                    found = follower.step(pixels)
            else:
                found = follower.step(pixels)
            if not store.has(frame, leg.key):
                record = FrameRecord(frame=frame, key=leg.key, confidence=round(found.confidence, 4), state=found.state)
                store.write(record, found.mask)
            if (at + 1) % _CHECKPOINT_EVERY == 0:
                store.save(f"state_{leg.key}", {**follower.state(), "position": np.array(at)})
            yield frame

    def _resume(self, store: MaskStore, leg: Leg, first: int) -> tuple[Follower | None, int]:
        """A follower as it was after some position of a leg before `first`, and the next position."""
        arrays = store.load(f"state_{leg.key}")
        if arrays is not None and int(arrays["position"]) < first:
            return self.segmenter.resumed(arrays), int(arrays["position"]) + 1
        return None, 0

    def _anchor(self, store: MaskStore, leg: Leg) -> np.ndarray:
        arrays = store.load(f"anchor_{leg.key[:-1]}")
        assert arrays is not None
        return arrays["anchor"]

    def _view(self, frame: int) -> FrameView:
        return FrameView(read=self._read, number=frame, length=len(self.frames))

    def _walk(self, numbers: range, begin: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """(position, frame number, frame) from position `begin` on; a few frames at a time are in memory."""
        for start in range(begin, len(numbers), _CHUNK):
            part = numbers[start : start + _CHUNK]
            low, high = min(part[0], part[-1]), max(part[0], part[-1])
            chunk = self.frames.read(low, high + 1)
            for offset, number in enumerate(part):
                yield start + offset, number, chunk[number - low]

    def _read(self, number: int) -> np.ndarray:
        return self.frames.read(number, number + 1)[0]

    def _resolved(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Words as boxes. InputError without anything that finds them."""
        out: list[Prompt] = []
        for prompt in prompts:
            if not isinstance(prompt, TextPrompt):
                out.append(prompt)
                continue
            if self._find_text is None:
                raise InputError(
                    f"--text: expected a box, point or stroke (no model that knows words is there), got {prompt.text!r}"
                )
            boxes = self._find_text(self._read(prompt.frame), prompt.text)
            if not boxes:
                raise InputError(f"frame {prompt.frame}: expected {prompt.text!r}, found none, in {self.video}")
            out += [BoxPrompt(frame=prompt.frame, x0=a, y0=b, x1=c, y1=d) for a, b, c, d in boxes]
        return out

    # -- what came of it

    def masks(self, numbers: Sequence[int] | None = None) -> SessionMasks:
        """The masks of some objects (all) over the session's frames, united; a MaskSource."""
        wanted = self.objects if numbers is None else {number: self.object(number) for number in numbers}
        stores = {number: self.store(number) for number in wanted}
        return SessionMasks(dict(wanted), stores, self.span, self.frames.height, self.frames.width)

    def made(self, number: int) -> dict[int, FrameRecord]:
        """The frames of the span whose masks are those that the prompts ask for, and how they were made."""
        records = self.store(number).records
        legs = plan_legs(self._anchors(self.object(number)), self.span)
        frames = {frame: leg.key for leg in legs for frame in leg.frames if self.span.start <= frame < self.span.stop}
        return {k: records[k] for k, key in sorted(frames.items()) if k in records and records[k].key == key}

    def is_known(self, number: int, frame: int) -> bool:
        """Whether `seen` only reads; else what the frame's prompts say is solved first."""
        if frame not in self.object(number).frames or frame in self.made(number):
            return True
        return self.store(number).has_arrays(f"answer_{self._anchors(self.object(number))[frame].digest}")

    def seen(self, number: int, frame: int) -> np.ndarray | None:
        """An object in a frame as far as it is known, bool (H, W): as tracked, else what the frame's prompts say, else
        as tracked before they changed; None where there is nothing."""
        thing = self.object(number)
        if frame in thing.frames and frame not in self.made(number):
            return self.answer(number, frame)
        known = bool(thing.bands) or frame in self.store(number).records
        return self.masks([number]).ids(frame) > 0 if known else None

    def flagged(self, number: int) -> list[FrameRecord]:
        """Frames to look at: unsure ones, in order."""
        records = self.store(number).records
        return [
            records[k] for k in range(self.span.start, self.span.stop) if k in records and records[k].state == "unsure"
        ]

    def preview(self, frame: int, number: int | None = None) -> np.ndarray:
        """A frame with the masks so far in colour and outlined, uint8 RGB (H, W, 3)."""
        pixels = self._read(frame).copy()
        for k in self.objects if number is None else [number]:
            mask = self.masks([k]).ids(frame) > 0
            colour = np.array(colour_of(k), np.uint8)
            pixels[mask] = (pixels[mask] // 2) + colour // 2
            outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(pixels, outlines, -1, tuple(int(c) for c in colour), 1)
        return pixels


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour in which an object is shown, RGB."""
    return _COLOURS[(number - 1) % len(_COLOURS)]


_COLOURS = [(255, 64, 64), (64, 160, 255), (80, 220, 80), (255, 190, 40), (200, 90, 255), (60, 220, 220)]
