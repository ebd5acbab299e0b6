"""Synthetic clips: a few moving objects in front of a textured scene, with exact masks and captions.

A seed stands for one scene. The scene can be drawn at any size and length, and without one of its objects,
which is the ground truth for removing that object:

    clip = render_clip(7, num_frames=17, height=64, width=96)
    empty = render_clip(7, num_frames=17, height=64, width=96, without=1)
    # clip.frames == empty.frames wherever not clip.footprint(1)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from videopainter.data.synthetic.objects import (
    Pose,
    SceneObject,
    describe_object,
    draw_object,
    pose_at,
    sample_bold_object,
    sample_object,
    send_away,
)
from videopainter.data.synthetic.scenery import MARGIN, Scenery, describe_scenery, draw_scenery, sample_scenery
from videopainter.errors import InputError

_SUPERSAMPLING = 2
_ASPECT = 1.5  # scenes are laid out for 3:2 frames unless told otherwise; wider frames show more of the background
_NARROWEST = 0.8  # objects need room to move: scenes are not laid out for narrower frames
SHORTEST_RETURN = 41  # frames; in fewer an object cannot be seen, be away long enough, and be seen again
_GRAIN = 0.13  # contrast of the fine textures of rich scenes
_CAMERA_REACH = 0.5 * MARGIN  # the pan swings back before it leaves the canvas


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that is random about a clip. Object id k is `objects[k - 1]`, farther objects first."""

    scenery: Scenery
    objects: tuple[SceneObject, ...]
    pan: tuple[float, float]  # frame heights per frame
    zoom: float  # per frame, 0 = none
    bold: bool = False  # its captions are short


@dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """A drawn scene.

    `frames`: uint8 (T, H, W, 3) RGB. `masks`: uint8 (T, H, W), the id of the foremost object a pixel shows, 0 = none.
    `footprints`: bool (N, T, H, W), every pixel that object id k = 1..N changes: soft edge and shadow included, and
    so a pixel can belong to two. `object_captions`: words for each object (also one left out).
    `caption`: names what is in the picture; `background_caption`: the scene without objects.
    `returning`: id of the object that leaves the picture and comes back, if there is one.
    """

    frames: np.ndarray
    masks: np.ndarray
    footprints: np.ndarray
    object_captions: tuple[str, ...]
    caption: str
    background_caption: str
    returning: int | None = None

    def footprint(self, object_id: int) -> np.ndarray:
        """All pixels that object `object_id` changes: bool (T, H, W)."""
        return self.footprints[object_id - 1]


def sample_scene(
    seed: int,
    *,
    aspect: float = _ASPECT,
    pan: float = 1.0,
    rich: bool = False,
    bold: bool = False,
    returning_within: int | None = None,
) -> Scene:
    """The scene of a seed: scenery, 1 to 3 objects of different colours, slow camera motion.

    `aspect`: width / height of the frames it is laid out for. `pan`: how much faster the camera moves.
    `rich`: fine textures, and objects that touch the ground that they stand on. `bold`: 1 or 2 large, slow objects of
    one colour each, and captions without hills, clouds and camera. `returning_within`: one object leaves
    the picture and comes back within so many frames; what else there is does not change.
    """
    rng = np.random.default_rng(seed)
    aspect = max(aspect, _NARROWEST)
    scenery = sample_scenery(rng)
    objects: list[SceneObject] = []
    shares, draw = ((0.7, 0.3, 0.0), sample_bold_object) if bold else ((0.45, 0.4, 0.15), sample_object)
    for _ in range(int(rng.choice((1, 2, 3), p=shares))):
        taken = {item.colour for item in objects}
        objects.append(draw(rng, horizon=scenery.horizon, aspect=aspect, taken=taken))
    objects.sort(key=lambda item: (item.grounded, item.y))
    pan_x, pan_y = rng.uniform(-1, 1, 2) * (0.006, 0.002)
    zoom = float(rng.uniform(-0.002, 0.002))
    if returning_within is not None:
        k = int(rng.integers(len(objects)))
        way = {"num_frames": returning_within, "aspect": aspect, "reach": _CAMERA_REACH, "steady": bold}
        objects[k] = send_away(rng, objects[k], **way)
    if rich:
        scenery = replace(scenery, grain=_GRAIN)
        objects = [replace(item, settled=True) for item in objects]
    speed = (float(pan * pan_x), float(pan * pan_y))
    return Scene(scenery=scenery, objects=tuple(objects), pan=speed, zoom=pan * zoom, bold=bold)


def describe_scene(scene: Scene, *, without: int | None = None) -> str:
    """A caption of more than 50 characters that names the objects (all but `without`) and the scenery."""
    place = describe_scenery(scene.scenery, short=scene.bold)
    phrases = [describe_object(item) for k, item in enumerate(scene.objects, start=1) if k != without]
    phrases.reverse()  # the nearest first
    camera = "" if scene.bold else f", the camera pans to the {'right' if scene.pan[0] > 0 else 'left'}"
    if not phrases:
        return f"An empty scene with {'nothing but ' if scene.bold else ''}{place}{camera}."
    listed = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return f"{listed[0].upper()}{listed[1:]} over {place}{camera}."


def render_clip(
    seed: int,
    *,
    num_frames: int,
    height: int,
    width: int,
    without: int | None = None,
    aspect: float = _ASPECT,
    pan: float = 1.0,
    rich: bool = False,
    bold: bool = False,
    returning: bool = False,
) -> SyntheticClip:
    """Draw the scene of `seed`; with `without`, that object (id from 1) is left out of frames, masks and caption.

    `aspect`: width / height of the frames the scene is laid out for, 3:2 unless given: give width / height for frames
    of quite another shape. `pan`: how much faster than usual the camera moves. `rich`: fine textures, and objects that
    touch the ground that they stand on. `bold`: 1 or 2 large, slow objects of one colour each, and short captions.
    `returning`: one object leaves the picture for at least 17 frames and comes
    back; the scene then depends on `num_frames`.

    Raises InputError if a size is not positive, the scene has no such object, or the clip is too short (41 frames)
    for an object to return.
    """
    if min(num_frames, height, width) < 1:
        raise InputError(f"expected positive num_frames, height, width, got {num_frames}, {height}, {width}")
    if returning and num_frames < SHORTEST_RETURN:
        raise InputError(f"expected at least {SHORTEST_RETURN} frames for an object to return, got {num_frames}")
    within = num_frames if returning else None
    scene = sample_scene(seed, aspect=aspect, pan=pan, rich=rich, bold=bold, returning_within=within)
    if without is not None and not 1 <= without <= len(scene.objects):
        raise InputError(f"expected an object id in 1..{len(scene.objects)} for seed {seed}, got {without}")
    return render_scene(scene, num_frames=num_frames, height=height, width=width, without=without)


def render_scene(
    scene: Scene, *, num_frames: int, height: int, width: int, without: int | None = None
) -> SyntheticClip:
    """Draw a scene; see `render_clip`."""
    scale = _SUPERSAMPLING * height
    canvas = _canvas(scene.scenery, scale, width / height)
    count = len(scene.objects)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    covers = np.empty((count, num_frames, height, width), np.float32)
    for t in range(num_frames):
        camera = _camera(scene, t)
        large = _view(canvas, camera, scale=scale, size=(_SUPERSAMPLING * width, _SUPERSAMPLING * height))
        large_covers = np.zeros((count, *large.shape[:2]), np.float32)
        for k, item in enumerate(scene.objects):
            if k + 1 != without:
                _composite(large, large_covers, k, item, pose_at(item, t), camera, scale)
        frames[t] = np.rint(_shrink(large, width, height))
        for k in range(count):
            covers[k, t] = _shrink(large_covers[k], width, height)
    foremost = np.where(covers.max(axis=0) > 0.35, covers.argmax(axis=0) + 1, 0).astype(np.uint8)
    nothing = describe_scene(replace(scene, objects=()))
    return SyntheticClip(
        frames=frames,
        masks=foremost,
        footprints=covers > 0,
        object_captions=tuple(describe_object(item) for item in scene.objects),
        caption=describe_scene(scene, without=without),
        background_caption=nothing,
        returning=next((k for k, item in enumerate(scene.objects, start=1) if item.returns), None),
    )


@lru_cache(maxsize=1)
def _canvas(scenery: Scenery, scale: int, aspect: float) -> np.ndarray:
    """The scenery; kept, because a scene is often drawn once more, without an object."""
    canvas = draw_scenery(scenery, pixels_per_height=scale, aspect=aspect)
    canvas.flags.writeable = False
    return canvas


def _camera(scene: Scene, t: int) -> tuple[float, float, float]:
    """Offset (x, y) of the view and zoom in frame t."""
    x, y = (_CAMERA_REACH * np.sin(speed * t / _CAMERA_REACH) for speed in scene.pan)
    return x, y, 1.08 + 0.06 * np.sin(scene.zoom * t / 0.06)


def _view(canvas: np.ndarray, camera: tuple[float, float, float], *, scale: int, size: tuple[int, int]):
    """What the camera sees of the canvas, float32 at `size` (width, height)."""
    x, y, zoom = camera
    # Output pixel p shows canvas pixel (p - centre) / zoom + centre + (offset + MARGIN) * scale.
    matrix = np.array([[1 / zoom, 0, 0], [0, 1 / zoom, 0]], np.float32)
    for axis, (length, offset) in enumerate(zip(size, (x, y), strict=True)):
        centre = (length - 1) / 2
        matrix[axis, 2] = centre - centre / zoom + (offset + MARGIN) * scale
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(canvas, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)


def _shrink(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _composite(
    image: np.ndarray,
    covers: np.ndarray,
    k: int,
    item: SceneObject,
    pose: Pose,
    camera: tuple[float, float, float],
    scale: int,
) -> None:
    """Draw object k with its shadow into `image`, and into `covers` what it covers and hides, in place."""
    if item.grounded:
        foot = item.y + 0.02
        size = item.radius * max(0.5, 1.0 - pose.lift)
        x, y, window = _local_grid(image.shape, pose.x, foot, size, camera, scale, reach=(1.3, 0.4))
        fade = np.clip(1.0 - (x / 1.2) ** 2 - (y / 0.3) ** 2, 0.0, 1.0)
        shadow = 0.55 * fade * max(0.3, 1.0 - 2.0 * pose.lift)
        _blend(image, covers, k, window, np.array([12, 12, 18], np.float32), shadow)
    x, y, window = _local_grid(image.shape, pose.x, pose.y, item.radius, camera, scale, reach=(1.3, 1.3))
    pixel = 1.0 / (item.radius * scale * camera[2])
    colour, cover = draw_object(item, x, y, angle=pose.angle, pixel=pixel)
    _blend(image, covers, k, window, colour, cover)


def _local_grid(shape, x, y, radius, camera, scale, *, reach):
    """Coordinates relative to (x, y) in units of `radius`, and the window of the image they belong to."""
    height, width = shape[:2]
    offset_x, offset_y, zoom = camera
    unit = radius * scale * zoom
    centre_x = ((x - offset_x) * scale - width / 2) * zoom + width / 2
    centre_y = ((y - offset_y) * scale - height / 2) * zoom + height / 2
    columns = np.arange(max(0, int(centre_x - reach[0] * unit)), min(width, int(centre_x + reach[0] * unit) + 2))
    rows = np.arange(max(0, int(centre_y - reach[1] * unit)), min(height, int(centre_y + reach[1] * unit) + 2))
    local_x = ((columns + 0.5 - centre_x) / unit).astype(np.float32)[None, :]
    local_y = ((rows + 0.5 - centre_y) / unit).astype(np.float32)[:, None]
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if rows.size and columns.size else None
    return *np.broadcast_arrays(local_x, local_y), window


def _blend(image: np.ndarray, covers: np.ndarray, k: int, window, colour: np.ndarray, alpha: np.ndarray) -> None:
    if window is None:  # outside the picture
        return
    image[window] += alpha[..., None] * (colour - image[window])
    for farther in range(k):
        covers[farther][window] *= 1.0 - alpha
    covers[k][window] = 1.0 - (1.0 - covers[k][window]) * (1.0 - alpha)
