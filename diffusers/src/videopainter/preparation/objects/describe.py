"""What can be said of a clip and an object in it without seeing: light, colours, size, place and motion, measured."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.clip import Clip

_LOOKED_AT, _SIDE = 8, 160
_DARK, _BRIGHT = 70, 150  # grey levels
_SMALL, _LARGE = 0.03, 0.15  # shares of the picture
_MOVED = 0.08  # of the picture's width or height
_CALM, _LIVELY = 8.0, 60.0  # percent of the height per second
_NEUTRAL, _BLACK, _WHITE = 45, 60, 190  # of 255: saturation, and value where that is less
_HUES = ((8, "red"), (22, "orange"), (34, "yellow"), (85, "green"), (130, "blue"), (155, "purple"), (172, "pink"))


@dataclass(frozen=True, kw_only=True)
class Described:
    """A sentence or two about the clip, and one about the object."""

    video: str
    region: str


def describe(clip: Clip, motion: float, word: str = "") -> Described:
    """Plain sentences from measurements. `motion`: percent of the height per second; `word`: what the object is."""
    frames, masks = _looks(clip)
    light = _word(float(frames.mean()), (_DARK, "dark "), (_BRIGHT, ""), "bright ")
    speed = _word(motion, (_CALM, "little"), (_LIVELY, "some"), "much")
    seconds = float(len(clip) / clip.fps)
    thing, where, moves = _object(frames, masks, word)
    behind = _colour(frames[~masks]) if (~masks).any() else "hidden"
    return Described(
        video=f"A {light}video of {seconds:.1f} seconds with {speed} motion and a mostly {behind} background. "
        f"{thing} is seen {where} and {moves}.",
        region=f"{thing} that {moves}, {where}.",
    )


def _looks(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Some frames, uint8 (n, h, w, 3), and their masks, bool (n, h, w), small."""
    scale = min(1.0, _SIDE / max(clip.frames.height, clip.frames.width))
    size = max(1, round(clip.frames.width * scale)), max(1, round(clip.frames.height * scale))
    numbers = np.unique(np.linspace(0, len(clip) - 1, _LOOKED_AT).round().astype(int)).tolist()
    frames = [cv2.resize(clip.frames.read(k, k + 1)[0], size, interpolation=cv2.INTER_AREA) for k in numbers]
    masks = [
        cv2.resize(clip.masks.read(k, k + 1)[0].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
        for k in numbers
    ]
    return np.stack(frames), np.stack(masks)


def _object(frames: np.ndarray, masks: np.ndarray, word: str) -> tuple[str, str, str]:
    """(what it is, where it is, what it does)."""
    seen = [mask for mask in masks if mask.any()]
    if not seen:
        return f"A small {word or 'thing'}", "somewhere", "is hardly in sight"
    size = _word(float(np.mean([mask.mean() for mask in seen])), (_SMALL, "small "), (_LARGE, ""), "large ")
    height, width = masks.shape[1:]
    places = np.array([[np.mean(axis) for axis in np.nonzero(mask)] for mask in seen]) / (height, width)
    down, across = places.mean(axis=0)
    row = _word(float(down), (1 / 3, "at the top"), (2 / 3, "in the middle"), "at the bottom")
    column = _word(float(across), (1 / 3, " on the left"), (2 / 3, ""), " on the right")
    what = f"{size}{_colour(frames[masks])} {word or 'object'}"
    return f"{'An' if what[0] in 'aeiou' else 'A'} {what}", row + column, _moves(places[-1] - places[0])


def _moves(way: np.ndarray) -> str:
    down, across = way
    if max(abs(down), abs(across)) < _MOVED:
        return "stays about where it is"
    if abs(across) >= abs(down):
        return "moves to the right" if across > 0 else "moves to the left"
    return "moves down" if down > 0 else "moves up"


def _colour(pixels: np.ndarray) -> str:
    """The name of most pixels' colour, uint8 RGB (n, 3)."""
    hsv = cv2.cvtColor(pixels.reshape(-1, 1, 3), cv2.COLOR_RGB2HSV).reshape(-1, 3)
    hue, saturation, value = (hsv[:, k].astype(int) for k in range(3))
    names = np.full(len(hsv), "red", "U6")
    for limit, name in reversed(_HUES):
        names[hue < limit] = name
    names[(names == "orange") & (value < 160)] = "brown"
    plain = (saturation < _NEUTRAL) | (value < _BLACK)
    names[plain] = np.where(value < _BLACK, "black", np.where(value > _WHITE, "white", "grey"))[plain]
    found, counts = np.unique(names, return_counts=True)
    return str(found[counts.argmax()])


def _word(value: float, low: tuple[float, str], middle: tuple[float, str], high: str) -> str:
    return low[1] if value < low[0] else middle[1] if value < middle[0] else high
