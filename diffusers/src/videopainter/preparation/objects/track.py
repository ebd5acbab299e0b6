"""Objects of a clip, found and followed: an array of ids beside it, and what there is to say about each.

Without words: what moves by itself in three frames. With words: their boxes there (Grounding DINO, SAM 3). Either is
followed by the built-in tracker, SAM 2 or SAM 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.data.images import write_image
from videopainter.data.masks.ids import IdArray
from videopainter.data.records import record_paths
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError
from videopainter.files import WriteError, remove_folder, sha256_file
from videopainter.preparation.objects.moving import moving_shares, moving_things
from videopainter.preparation.objects.rules import ObjectRuleOptions, areas_of
from videopainter.preparation.stages.cut import FILES
from videopainter.preparation.stages.stage import Row, RowDropped, Stage, StageResources, weights_told
from videopainter.segmentation.choosing import SegmenterChoice
from videopainter.segmentation.output import write_masks
from videopainter.segmentation.prompts import BoxPrompt, MaskPrompt, Prompt, TrackedObject
from videopainter.segmentation.segmenter import Segmenter, TextBox, TextFinder, WeightsPlace
from videopainter.segmentation.session import Session

_SESSIONS = "sessions"
# Where in a clip objects are looked for: what is seen in the middle is tracked over the shortest ways.
_PLACES = (0.5, 0.25, 0.75)
_LOOKED_AT = 6  # frames, to see whether a track still follows what moves
# What lies so far over another (share of the smaller one) is the same thing.
_SAME = 0.6


class TrackStage(Stage):
    """Finds up to so many objects in a clip and follows each through all of it.

    `objects`: of each (its id is its place, from 1) the word that found it, and its measures (`areas_of`).
    """

    name = "track"
    inputs: tuple[str, ...] = ("path", "clip", "clip_sha256")
    outputs = ("masks", "masks_sha256", "objects")
    files = ("masks",)

    def __init__(self, options: ObjectRuleOptions, choice: SegmenterChoice, work: Path) -> None:
        self.options, self.choice, self._work = options, choice, work
        self._words = options.words
        if options.tagger != "none":
            self.inputs = (*self.inputs, "tags")
        if choice.segmenter is not None or choice.finder is not None:
            self.resources = StageResources(gpus=1)

    def settings(self) -> Mapping[str, Any]:
        return {
            "version": 2,
            "words": self._words,
            "objects": self.options.objects_per_clip,
            "segmenter": _identity(self.choice.segmenter),
            "finder": _identity(self.choice.finder),
        }

    def setup(self) -> None:
        """The segmenter, and who knows words."""
        self._segmenter, self._finder = self.choice.load()

    def teardown(self) -> None:
        """Their weights."""
        del self._segmenter, self._finder
        self.choice.unload()

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        masks = Path(FILES, record_paths(row["path"])[1])
        words = row.get("tags", self._words)
        folder = self._work / _SESSIONS / row["id"]
        frames = VideoFrames(self._work / row["clip"], threads=1, check_end=False)
        try:
            if folder.exists() and not Session.fits(folder, row["clip_sha256"], frames):
                remove_folder(folder)
            # In a session's folder: a run that is killed goes on within the clip.
            masked = self.choice.segmenter is None
            tracker = _ClipTracker(folder, row["clip_sha256"], frames, self._segmenter, masks=masked)
            kept = tracker.track(find_seeds(frames, self._finder, words), self.options.objects_per_clip)
            if not kept:
                remove_folder(folder)
                raise RowDropped("no object", f"no {words}" if words else "nothing moves by itself")
            tracker.write(self._work / masks, [number for number, _ in kept])
            about = areas_of(self._work / masks, len(kept))
            for (number, word), measures in zip(kept, about, strict=True):
                flagged = len(tracker.session.flagged(number))
                measures |= {"word": word, "unsure": round(flagged / len(frames), 4), "moving": None}
            if not words:
                self._add_motion(frames, self._work / masks, about)
            remove_folder(folder)
        finally:
            frames.close()
        return [{"masks": masks.as_posix(), "masks_sha256": sha256_file(self._work / masks), "objects": about}]

    @staticmethod
    def _add_motion(frames: VideoFrames, masks: Path, objects: list[dict[str, Any]]) -> None:
        """What was found because it moves should do so where it was tracked to, too."""
        numbers = np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT + 2)[1:-1].astype(int)).tolist()
        seen = dict(zip(numbers, IdArray(masks).all(numbers), strict=True))
        each = np.arange(1, len(objects) + 1)[:, None, None]
        for measures, share in zip(objects, moving_shares(frames, numbers, lambda k: seen[k] == each), strict=True):
            measures["moving"] = round(float(share), 4)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """Where a thing may be: a box (x0, y0, x1, y1) in a frame; its mask bool (H, W) and its word where known."""

    frame: int
    box: TextBox
    mask: np.ndarray | None = None
    word: str = ""


def find_seeds(frames: VideoFrames, finder: TextFinder | None, words: str) -> list[Seed]:
    """What may be an object, the likeliest first: what words say, or else what moves by itself."""
    numbers = list(dict.fromkeys(int(place * (len(frames) - 1)) for place in _PLACES))
    if not words:
        found = moving_things(frames, numbers)
        return [Seed(frame=thing.frame, box=_box_of(thing.mask), mask=thing.mask) for thing in found]
    assert finder is not None, "words without anybody who knows them"
    each = [word.strip() for word in words.split(",") if word.strip()]
    return [
        Seed(frame=number, box=box, word=word)
        for number in numbers
        for word in each
        for box in finder(frames.read(number, number + 1)[0], word)
    ]


def _box_of(mask: np.ndarray) -> TextBox:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


class _ClipTracker:
    """Follows seeds one after the other; those of what is followed already are left out.

    masks: Whether a seed's mask is what is followed (else its box, in which a model finds the mask).
    """

    def __init__(self, folder: Path, digest: str, frames: VideoFrames, segmenter: Segmenter, *, masks: bool) -> None:
        self.frames, self._masks = frames, masks
        self.session = Session.open(folder, digest, frames, segmenter=segmenter)

    def track(self, seeds: Sequence[Seed], most: int) -> list[tuple[int, str]]:
        """(id, word) of the objects that were followed; their masks are in the session."""
        kept: list[tuple[int, str]] = []
        for seed in seeds:
            if len(kept) == most:
                break
            if any(self._shows(number, seed) for number, _ in kept):
                continue
            thing = TrackedObject(id=len(kept) + 1, prompts=(self._prompt(seed),))
            try:
                self.session.put(thing)
                self.session.track(thing.id)
            except WriteError:  # says nothing of what is there
                raise
            except InputError:  # nothing there after all
                continue
            if not any(self._over(thing.id, number) for number, _ in kept):
                kept.append((thing.id, seed.word))
        return kept

    def write(self, file: Path, numbers: Sequence[int]) -> None:
        """The array of ids; where objects lie over each other the first one counts."""
        masks = self.session.masks(list(reversed(numbers)))
        write_masks(file, masks.ids, len(self.frames), self.frames.fps)

    def _prompt(self, seed: Seed) -> Prompt:
        if seed.mask is None or not self._masks:
            return BoxPrompt(frame=seed.frame, x0=seed.box[0], y0=seed.box[1], x1=seed.box[2], y1=seed.box[3])
        pixels = seed.mask.astype(np.uint8) * 255
        file = self.session.folder / "seeds" / f"{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}.png"
        write_image(file, pixels)
        return MaskPrompt(frame=seed.frame, file=str(file))

    def _shows(self, number: int, seed: Seed) -> bool:
        """Whether the seed is (a part of) a thing that is followed."""
        mask = self.session.store(number).read(seed.frame)
        if not mask.any():
            return False
        if seed.mask is not None:
            return (mask & seed.mask).sum() > _SAME * min(mask.sum(), seed.mask.sum())
        box, other = np.array(_box_of(mask)), np.array(seed.box)
        shared = np.prod(np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0))
        return bool(shared > _SAME * min(np.prod(box[2:] - box[:2]), np.prod(other[2:] - other[:2])))

    def _over(self, number: int, other: int) -> bool:
        one, two = self.session.store(number), self.session.store(other)
        shared = areas = others = 0
        for frame in range(0, len(self.frames), max(1, len(self.frames) // 16)):
            a, b = one.read(frame), two.read(frame)
            shared, areas, others = shared + int((a & b).sum()), areas + int(a.sum()), others + int(b.sum())
        return shared > _SAME * min(areas, others)


def _identity(place: WeightsPlace | None) -> Any:
    return None if place is None else [place.kind, *weights_told(place.place)]
