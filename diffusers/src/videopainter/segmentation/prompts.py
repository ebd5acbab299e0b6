"""What a user points at: points, boxes, strokes, words and masks, per object; and how flags spell them.

Places are pixels of the video as displayed, x from the left, y from the top; frames count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from videopainter.errors import InputError
from videopainter.flags import flag

# In place of a frame number: a box that stays as it is in every frame (a band of subtitles).
ALL_FRAMES = "all"
_STROKE_WIDTH = 3  # pixels at 432 on the long side
MOST_OBJECTS = 254


@dataclass(frozen=True, kw_only=True)
class PointPrompt:
    """A pixel that belongs to the object, or (`positive` false) does not."""

    frame: int
    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True, kw_only=True)
class BoxPrompt:
    """The object fills this box; x1, y1 are its right and lower edge. `frame` None: the mask is the box, always."""

    frame: int | None
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, kw_only=True)
class StrokePrompt:
    """A line drawn over the object, or (`positive` false) over what is not it; `places` ((x, y), ...)."""

    frame: int
    places: tuple[tuple[float, float], ...]
    positive: bool = True


@dataclass(frozen=True, kw_only=True)
class TextPrompt:
    """What the object is, in words; every such thing that is seen in `frame` belongs to it."""

    frame: int
    text: str


@dataclass(frozen=True, kw_only=True)
class MaskPrompt:
    """An image whose light pixels are the object."""

    frame: int
    file: str


Prompt = PointPrompt | BoxPrompt | StrokePrompt | TextPrompt | MaskPrompt
_KINDS: dict[str, type] = {
    "point": PointPrompt,
    "box": BoxPrompt,
    "stroke": StrokePrompt,
    "text": TextPrompt,
    "mask": MaskPrompt,
}


@dataclass(frozen=True, kw_only=True)
class TrackedObject:
    """One object (`id` 1 to 254 is its number in an array of ids) and all that was said about it."""

    id: int
    prompts: tuple[Prompt, ...] = ()
    name: str = ""

    def at(self, frame: int) -> tuple[Prompt, ...]:
        """The prompts that a frame has."""
        return tuple(prompt for prompt in self.prompts if prompt.frame == frame)

    @property
    def frames(self) -> list[int]:
        """Frames with prompts, rising."""
        return sorted({prompt.frame for prompt in self.prompts if prompt.frame is not None})

    @property
    def bands(self) -> tuple[BoxPrompt, ...]:
        """Boxes that stay as they are."""
        return tuple(prompt for prompt in self.prompts if isinstance(prompt, BoxPrompt) and prompt.frame is None)


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """A prompt as JSON has it: its kind and its fields."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(prompt, cls))
    return {"kind": kind, **asdict(prompt)}


def prompt_from_json(values: dict[str, Any]) -> Prompt:
    """The prompt that `prompt_to_json` wrote."""
    fields = dict(values)
    kind = _KINDS[fields.pop("kind")]
    if kind is StrokePrompt:
        fields["places"] = tuple((float(x), float(y)) for x, y in fields["places"])
    return kind(**fields)


@dataclass(kw_only=True)
class ObjectOptions:
    """What is to be masked: the same flags wherever masks are made."""

    _argument_group_name: ClassVar[str] = "which object (places are pixels of the video; frames count from 0)"

    point: list[str] | None = flag(  # noqa: RUF009
        None, "A pixel of the object: X,Y or X,Y,FRAME; several: after spaces, or the flag again.", action="extend"
    )
    negative_point: list[str] | None = flag(None, "A pixel that is not of it: X,Y[,FRAME].", action="extend")  # noqa: RUF009
    box: list[str] | None = flag(  # noqa: RUF009
        None,
        "A box round the object: X0,Y0,X1,Y1[,FRAME]. With `all` for FRAME the box itself is the mask, in every frame "
        "(subtitles).",
        action="extend",
    )
    stroke: list[str] | None = flag(None, "A line over the object: X,Y-X,Y-X,Y[,FRAME].", action="extend")  # noqa: RUF009
    negative_stroke: list[str] | None = flag(None, "A line over what is not it.", action="extend")  # noqa: RUF009
    text: str | None = flag(None, "What the object is, in words (--text_model, or --segmenter sam3).")
    object: list[str] | None = flag(  # noqa: RUF009
        None,
        'One more object: "ID: KIND VALUES; KIND VALUES", of the kinds above ("2: box 10,20,90,80; point 40,50,12"). '
        "The flags above are those of object 1.",
        action="extend",
    )
    candidate: Literal[1, 2, 3] = flag(1, "Which of the masks that a single click may mean: 1 is the likeliest.")

    def given(self) -> dict[str, Any]:
        """The flags that were given, with their values; empty where nothing was pointed at."""
        prompts = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "candidate"}
        found = {name: value for name, value in prompts.items() if value is not None}
        return found and {**found, "candidate": self.candidate}


@dataclass(frozen=True, kw_only=True)
class FrameRange:
    """Frames `start` to `stop` (exclusive) of a video."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def parse_range(text: str | None, length: int, video: Path | str) -> FrameRange:
    """`a:b`, `a:`, `:b` or None (everything), of a video of `length` frames; InputError where that is not in it."""
    if text is None:
        return FrameRange(start=0, stop=length)
    match = re.fullmatch(r"(\d{0,9}):(\d{0,9})", text.strip())
    if match is None:
        raise InputError(f"--range: expected START:STOP in frames from 0, got {text!r}")
    start, stop = int(match[1] or 0), int(match[2] or length)
    if not 0 <= start < stop <= length:
        raise InputError(f"--range: expected START < STOP within 0:{length}, got {text}, in {video}")
    return FrameRange(start=start, stop=stop)


def parse_objects(options: ObjectOptions, first_frame: int = 0) -> list[TrackedObject]:
    """The objects that the flags ask for; prompts without a frame are of `first_frame`.

    InputError for what is no prompt, or for an object without anything that says where it is.
    """
    given = {
        "point": options.point,
        "negative_point": options.negative_point,
        "box": options.box,
        "stroke": options.stroke,
        "negative_stroke": options.negative_stroke,
    }
    own = [_parse(kind, word, first_frame, f"--{kind}") for kind, values in given.items() for word in _words(values)]
    if options.text is not None:
        own.append(_parse("text", options.text, first_frame, "--text"))
    prompts: dict[int, list[Prompt]] = {1: own} if own else {}
    for text in options.object or []:
        number, parts = _parse_object(text, first_frame)
        prompts.setdefault(number, []).extend(parts)
    if not prompts:
        raise InputError("what is to be masked? expected --box X0,Y0,X1,Y1, --point X,Y, --stroke, --text or --object")
    objects = [TrackedObject(id=number, prompts=tuple(parts)) for number, parts in sorted(prompts.items())]
    for thing in objects:
        _check_located(thing)
    return objects


def _words(values: Iterable[str] | None) -> list[str]:
    return [word for value in values or [] for word in value.split()]


def _parse_object(text: str, first_frame: int) -> tuple[int, list[Prompt]]:
    number, colon, rest = text.partition(":")
    if not colon or not number.strip().isdecimal() or not 1 <= int(number) <= MOST_OBJECTS:
        raise InputError(f'--object: expected "ID: box X0,Y0,X1,Y1; point X,Y" with an ID of 1 to 254, got {text!r}')
    prompts: list[Prompt] = []
    for part in rest.split(";"):
        kind, _, values = part.strip().partition(" ")
        if kind == "text":
            prompts.append(_parse(kind, values, first_frame, "--object"))
        elif kind in ("point", "negative_point", "box", "stroke", "negative_stroke"):
            prompts += [_parse(kind, word, first_frame, "--object") for word in values.split()]
        else:
            known = "box, point, negative_point, stroke, negative_stroke, text"
            raise InputError(f"--object: expected one of {known}, got {kind or 'nothing'!r} in {text!r}")
    return int(number), prompts


def _parse(kind: str, text: str, first_frame: int, source: str) -> Prompt:
    if kind == "text":
        if not text.strip():
            raise InputError(f"{source}: expected words that say what the object is, got nothing")
        return TextPrompt(frame=first_frame, text=text.strip())
    if kind in ("point", "negative_point"):
        x, y, frame = _numbers(text, 2, first_frame, f"{source}: expected X,Y or X,Y,FRAME")
        return PointPrompt(frame=frame, x=x, y=y, positive=kind == "point")
    if kind == "box":
        return _parse_box(text, first_frame, source)
    return _parse_stroke(text, first_frame, source, positive=kind == "stroke")


def _parse_box(text: str, first_frame: int, source: str) -> BoxPrompt:
    always = text.endswith("," + ALL_FRAMES)
    plain = text.removesuffix("," + ALL_FRAMES)
    x0, y0, x1, y1, frame = _numbers(plain, 4, first_frame, f"{source}: expected X0,Y0,X1,Y1 or X0,Y0,X1,Y1,FRAME")
    if x0 >= x1 or y0 >= y1:
        raise InputError(f"{source}: expected X0 < X1 and Y0 < Y1, got {text}")
    return BoxPrompt(frame=None if always else frame, x0=x0, y0=y0, x1=x1, y1=y1)


def _parse_stroke(text: str, first_frame: int, source: str, *, positive: bool) -> StrokePrompt:
    *places, last = text.split("-")
    usage = f"{source}: expected X,Y-X,Y or X,Y-X,Y,FRAME"
    x, y, frame = _numbers(last, 2, first_frame, usage)
    line = [_numbers(place, 2, 0, usage)[:2] for place in places]
    return StrokePrompt(frame=frame, places=tuple((float(a), float(b)) for a, b in [*line, (x, y)]), positive=positive)


def _numbers(text: str, count: int, first_frame: int, usage: str) -> tuple[Any, ...]:
    """`count` numbers and a frame."""
    words = text.split(",")
    try:
        numbers = [float(word) for word in words[:count]]
        frame = int(words[count]) if len(words) == count + 1 else first_frame
    except ValueError:
        raise InputError(f"{usage}, got {text!r}") from None
    if len(words) not in (count, count + 1) or frame < 0 or not np.isfinite(numbers).all():
        raise InputError(f"{usage}, got {text!r}")
    return (*numbers, frame)


def _check_located(thing: TrackedObject) -> None:
    """Something has to say where the object is, and no later than what only corrects it."""
    if thing.bands:
        return
    kinds = [
        p for p in thing.prompts if isinstance(p, (BoxPrompt, TextPrompt, MaskPrompt)) or getattr(p, "positive", 0)
    ]
    if not kinds:
        raise InputError(
            f"object {thing.id}: expected a box, a point or words that say where it is, got exclusions alone"
        )


def check_objects(
    objects: Sequence[TrackedObject], *, width: int, height: int, frames: FrameRange, video: Path | str
) -> None:
    """InputError for a prompt that lies outside of the picture or of the frames."""
    size = f"a picture of {width}x{height}, in {video}"
    for thing in objects:
        for prompt in thing.prompts:
            if prompt.frame is not None and not frames.start <= prompt.frame < frames.stop:
                raise InputError(
                    f"object {thing.id}: expected frames within {frames.start}:{frames.stop}, "
                    f"got {prompt.frame}, in {video}"
                )
            if isinstance(prompt, BoxPrompt):
                if prompt.x0 >= width or prompt.y0 >= height or prompt.x1 <= 0 or prompt.y1 <= 0:
                    got = f"{prompt.x0:g},{prompt.y0:g},{prompt.x1:g},{prompt.y1:g}"
                    raise InputError(f"object {thing.id}: expected a box inside {size}, got {got}")
            elif isinstance(prompt, (PointPrompt, StrokePrompt)):
                places = [(prompt.x, prompt.y)] if isinstance(prompt, PointPrompt) else prompt.places
                for x, y in places:
                    if not (0 <= x < width and 0 <= y < height):
                        raise InputError(f"object {thing.id}: expected points inside {size}, got {x:g},{y:g}")


@dataclass(frozen=True, kw_only=True)
class DrawnPrompts:
    """The prompts of one frame at a picture's size: boxes (x0, y0, x1, y1), clicks (x, y), strokes as bool (H, W)."""

    boxes: list[tuple[int, int, int, int]] = field(default_factory=list)
    inside: list[tuple[int, int]] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)
    strokes_inside: np.ndarray
    strokes_outside: np.ndarray


def draw(prompts: Sequence[Prompt], *, height: int, width: int, scale: float) -> DrawnPrompts:
    """Prompts of one frame brought to a picture of `height` x `width`, `scale` times the video's size."""

    def pixel(x: float, y: float) -> tuple[int, int]:
        return min(width - 1, max(0, int(x * scale))), min(height - 1, max(0, int(y * scale)))

    drawn = DrawnPrompts(
        strokes_inside=np.zeros((height, width), bool), strokes_outside=np.zeros((height, width), bool)
    )
    for prompt in prompts:
        if isinstance(prompt, PointPrompt):
            (drawn.inside if prompt.positive else drawn.outside).append(pixel(prompt.x, prompt.y))
        elif isinstance(prompt, BoxPrompt):
            x0, y0 = pixel(prompt.x0, prompt.y0)
            x1, y1 = (int(np.ceil(v * scale)) for v in (prompt.x1, prompt.y1))
            drawn.boxes.append((x0, y0, min(width, max(x0 + 2, x1)), min(height, max(y0 + 2, y1))))
        elif isinstance(prompt, StrokePrompt):
            canvas = np.zeros((height, width), np.uint8)
            line = np.array([pixel(x, y) for x, y in prompt.places], np.int32)
            cv2.polylines(canvas, [line], isClosed=False, color=1, thickness=_STROKE_WIDTH)
            target = drawn.strokes_inside if prompt.positive else drawn.strokes_outside
            target |= canvas.astype(bool)
    return drawn
