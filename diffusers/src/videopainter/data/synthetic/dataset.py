"""A data set of synthetic clips in VPData's layout: which clips it has, and writing one of them.

Every clip is a scene of its own with one hole, in one of two kinds:

- completion: the whole scene; the hole is over one object, and the caption names it.
- removal: the scene drawn without that object; the hole is where it would have been. Seen through the hole there is
  background, so a model that is trained on both learns to put there what the caption says.

`all_masks.npz` has one id per pixel, but what two objects change (edges, shadows) can overlap. The object under the
hole goes first: its id covers every pixel that it changes, to the bit; of the others each pixel has the foremost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import av
import numpy as np

from videopainter.data.rates import parse_fps
from videopainter.data.records import record_paths
from videopainter.data.synthetic.scenes import SHORTEST_RETURN, SyntheticClip, render_clip
from videopainter.data.video.writer import VideoWriter
from videopainter.data.workers import begin_worker
from videopainter.errors import InputError
from videopainter.files import replacing
from videopainter.flags import MAX_SIDE, check_ranges, check_size, flag, switch

# Sets of different seeds, and their parts, share no scene. Scenes below the first are for tests and evaluation.
SCENES_PER_SEED = 10_000_000
FIRST_SCENE = {"train": 0, "val": 7_000_000, "test": 8_000_000, "long": 9_000_000, "long_test": 9_500_000}
# A clip is held whole while it is drawn.
_MOST_NUMBERS = 2**28
# A hole that is worth learning from: this share of the picture in half of the frames.
_VISIBLE_AREA, _VISIBLE_FRAMES = 0.004, 0.5


@dataclass(frozen=True, kw_only=True)
class SyntheticLook:
    """What decides the clips' pixels: clips of one set are of one look."""

    _argument_group_name: ClassVar[str] = "what the clips look like"

    seed: int = flag(0, "Sets of different seeds have no scene in common.", least=0, most=10**9)
    num_frames: int = flag(49, "Frames of a clip.", least=1, most=10_000)
    long_frames: int = flag(97, "Frames of a long clip, 41 or more.", least=SHORTEST_RETURN, most=10_000)
    height: int = flag(240, "Height in pixels, even.", least=16, most=MAX_SIDE)
    width: int = flag(360, "Width in pixels, even.", least=16, most=MAX_SIDE)
    fps: str = flag("8", "Frames per second: a number, or a fraction like 24000/1001.")
    removal_share: float = flag(
        0.5, "Share of clips, 0 to 1, in which the object of the hole is not there.", least=0, most=1
    )
    camera_speed: float = flag(1.0, "How fast the camera moves: 0 stands still, 1 is slow.", least=0, most=20)
    rich: bool = switch(
        False, "Fine textures, and objects that touch the ground. The tiny checkpoint was trained without."
    )
    bold: bool = switch(
        False,
        "One or two large, slow objects of one colour each, and short captions: as the tiny checkpoint was trained.",
    )
    crf: int = flag(
        12,
        "Quality of the H.264 files: 0 is the best, 12 suits small clips, 18 large ones, 51 the worst.",
        least=0,
        most=51,
    )
    chroma: Literal["444", "420"] = flag(
        "444", "Colours at full or at half resolution; with 444 small clips lose much less, but few phones play it."
    )
    subset: Literal["pexels", "videovo"] = flag("pexels", "Whose folders and file names are used.")

    def check(self) -> None:
        """Raises InputError for the first value that cannot be."""
        check_ranges(self)
        for name in ("height", "width"):
            _expect(getattr(self, name) % 2 == 0, self, name, "an even number")
        check_size("--height, --width", self.height, self.width)
        for name in ("num_frames", "long_frames"):
            most = _MOST_NUMBERS // (self.height * self.width)
            _expect(getattr(self, name) <= most, self, name, f"at most {most} frames of {self.width}x{self.height}")
        _expect(1 <= parse_fps(self.fps, "--fps") <= 240, self, "fps", "1 to 240")


def _expect(holds: bool, options: Any, name: str, what: str) -> None:
    if not holds:
        raise InputError(f"--{name}: expected {what}, got {getattr(options, name)}")


class SyntheticKey(NamedTuple):
    """A clip of a set: clip `index` of a part, one of the keys of `FIRST_SCENE`."""

    part: str
    index: int

    def number(self) -> int:
        """Its number in the set, whose parts are far apart."""
        return FIRST_SCENE[self.part] + self.index

    def scene(self, seed: int) -> int:
        """The seed of its scene, for `render_clip`."""
        return (seed + 1) * SCENES_PER_SEED + self.number()

    def path(self, look: SyntheticLook) -> str:
        """What the CSV's column `path` says, as the public set names files (see `record_paths`)."""
        scene = self.scene(look.seed)
        return f"{self.number():012d}_{scene}.mp4" if look.subset == "pexels" else f"{scene:012d}.0.mp4"

    def is_removal(self, look: SyntheticLook) -> bool:
        """Evenly spread, so that any run of clips has its share. Long clips keep their objects."""
        if self.part.startswith("long"):
            return False
        return int((self.index + 1) * look.removal_share) > int(self.index * look.removal_share)


def keys_of(counts: dict[str, int]) -> Iterator[SyntheticKey]:
    """All clips of a set with so many clips in each part."""
    for part in FIRST_SCENE:
        for index in range(counts.get(part, 0)):
            yield SyntheticKey(part, index)


def files_of(folder: Path, key: SyntheticKey, look: SyntheticLook) -> tuple[Path, Path]:
    """(video, masks) of a clip in the set at `folder`."""
    video, masks = record_paths(key.path(look))
    return folder / video, folder / masks


@dataclass(frozen=True, kw_only=True)
class DrawnClip:
    """Pixels and words of a clip: `frames` uint8 (T, H, W, 3), `ids` uint8 (T, H, W), the hole is `ids == mask_id`."""

    frames: np.ndarray
    ids: np.ndarray
    mask_id: int
    caption: str
    hole_caption: str  # what is to be seen in the hole


def draw_clip(key: SyntheticKey, look: SyntheticLook) -> DrawnClip:
    """Draw a clip of a set."""
    size: dict[str, Any] = {"height": look.height, "width": look.width, "aspect": look.width / look.height}
    long = key.part.startswith("long")
    size |= {"num_frames": look.long_frames if long else look.num_frames, "pan": look.camera_speed, "returning": long}
    size |= {"rich": look.rich, "bold": look.bold}
    scene = key.scene(look.seed)
    while True:
        clip = render_clip(scene, **size)
        if clip.footprints.any():
            break
        scene += 1_000 * SCENES_PER_SEED  # in a very narrow picture a scene's objects can all be out of sight
    mask_id = clip.returning or _pick_object(clip, np.random.default_rng((scene, 1)))
    shown = render_clip(scene, **size, without=mask_id) if key.is_removal(look) else clip
    ids = shown.masks.copy()
    for other in range(len(shown.footprints), 0, -1):  # the nearest first
        ids[shown.footprint(other) & (ids == 0)] = other
    ids[clip.footprint(mask_id)] = mask_id
    inside = clip.background_caption if shown is not clip else _sentence(clip.object_captions[mask_id - 1])
    return DrawnClip(frames=shown.frames, ids=ids, mask_id=mask_id, caption=shown.caption, hole_caption=inside)


def _pick_object(clip: SyntheticClip, rng: np.random.Generator) -> int:
    """One of the objects that are seen well; the best seen one if there is none."""
    areas = clip.footprints.mean(axis=(2, 3))
    seen = (areas >= _VISIBLE_AREA).mean(axis=1)
    good = np.flatnonzero(seen >= _VISIBLE_FRAMES)
    return 1 + int(rng.choice(good) if good.size else areas.sum(axis=1).argmax())


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def write_clip(folder: Path, key: SyntheticKey, look: SyntheticLook) -> dict[str, Any]:
    """Draw a clip and write its two files, each whole or not at all; returns its row for the CSVs.

    The same key and look give the same bytes. InputError where the files cannot be written.
    """
    begin_worker()
    clip = draw_clip(key, look)
    video, masks = files_of(folder, key, look)
    with replacing(masks) as partial:
        np.savez_compressed(partial, clip.ids)
    fps = parse_fps(look.fps)
    with _SetWriter(video, chroma=look.chroma, fps=fps, crf=look.crf) as writer:
        writer.write(clip.frames)
    return {
        "path": key.path(look),
        "start_frame": 0,
        "end_frame": len(clip.frames),
        "fps": round(fps),
        "mask_id": clip.mask_id,
        "caption": clip.caption,
        "video_inpainting_prompt": clip.caption,
        "image_inpainting_prompt": clip.hole_caption,
    }


class _SetWriter(VideoWriter):
    """Colours at the resolution that is asked for; the same file on every machine."""

    def __init__(self, path: Path, *, chroma: str, fps: Fraction, crf: int) -> None:
        super().__init__(path, fps=fps, crf=crf, threads=1)
        self.chroma = chroma

    def _add_video(self, height: int, width: int) -> av.VideoStream:
        stream = super()._add_video(height, width)
        stream.pix_fmt = f"yuv{self.chroma}p"
        return stream


def settings_of(look: SyntheticLook) -> dict[str, Any]:
    """What the settings file of a set says; a set whose file says something else has other clips."""
    settings = asdict(look)
    if not look.bold:
        del settings["bold"]  # sets that were made before there was a choice are the same
    # 2: the writer rounds exactly, and puts colour where H.264 says.
    return {"format": 2, **settings}
