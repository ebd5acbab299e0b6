"""Examples from clips of our own, where a checkout has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videopainter.app.ui.frames import data_url
from videopainter.app.video import resized_picture
from videopainter.data.masks.opening import open_masks
from videopainter.data.reshape import resize_masks
from videopainter.data.video.reader import open_video
from videopainter.errors import InputError
from videopainter.runs.weights import find_tiny

_WIDTH = 240


@dataclass(frozen=True, kw_only=True)
class Example:
    """A video, a mask where it comes with one, and settings of the controls of step 3."""

    key: str
    label: str
    note: str
    video: Path
    mask: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def find_examples() -> list[Example]:
    """The examples there are: none where the package is used without its repository."""
    try:
        folder = find_tiny().parents[1] / "data" / "demo"
    except InputError:
        return []
    video, mask = folder / "video.mp4", folder / "mask.mp4"
    if not (video.is_file() and mask.is_file()):
        return []
    prompt = (folder / "prompt.txt").read_text(encoding="utf-8")
    return [
        Example(key="video", label="A ball", note="Mark something yourself", video=video),
        Example(
            key="remove",
            label="Remove the ball",
            note="With its mask: press Start",
            video=video,
            mask=mask,
            settings={"task": "remove"},
        ),
        Example(
            key="describe",
            label="Describe the hole",
            note="With its mask and a caption",
            video=video,
            mask=mask,
            settings={"task": "inpaint", "prompt": prompt.strip(), "steps": 8},
        ),
    ]


def tiles(examples: list[Example]) -> dict[str, Any]:
    """The examples as pictures to choose from."""
    items = []
    for k, example in enumerate(examples):
        frames = open_video(example.video)
        at = min(len(frames) - 1, 12 * k)
        picture = resized_picture(frames.read(at, at + 1)[0], _WIDTH)
        if example.mask:
            hole = open_masks(example.mask, frames=frames).read(at, at + 1)[0]
            small = resize_masks(hole[None], *picture.shape[:2])[0]
            picture = picture.copy()
            picture[small] = picture[small] // 2 + 127
        items.append({"key": example.key, "label": example.label, "note": example.note, "src": data_url(picture)})
    return {"label": "Examples", "title": "Or start from an example", "items": items}
