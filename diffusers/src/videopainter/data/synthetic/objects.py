"""Objects for synthetic clips: shapes as signed distances, simple shading, and how they move.

Lengths are in frame heights, times in frames; a shape's own coordinates have radius about 1, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

COLOURS = {
    "red": (215, 45, 45),
    "orange": (240, 140, 35),
    "yellow": (245, 210, 50),
    "green": (50, 160, 70),
    "blue": (45, 90, 210),
    "purple": (135, 65, 175),
    "pink": (240, 120, 170),
    "white": (240, 240, 240),
    "black": (45, 45, 50),
    "teal": (35, 165, 165),
}
SHAPES = ("ball", "box", "star", "heart", "ring", "cone", "flower", "diamond")
PATTERNS = ("plain", "striped", "spotted")
# Bold objects: shapes and colours that stay apart, slow motions that hardly turn them.
BOLD_SHAPES = tuple(name for name in SHAPES if name != "flower")  # a star with round tips
BOLD_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
GROUND_MOTIONS = ("rolls", "slides", "hops", "stands")
AIR_MOTIONS = ("floats", "drifts")
BOLD_MOTIONS = ("slides", "stands", "floats")
SHORTEST_ABSENCE = 17  # frames, of an object that leaves the picture and comes back


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object and its motion; `x`, `y` is where its centre starts (on the ground: where its foot stands)."""

    shape: str
    colour: str
    pattern: str
    accent: str  # the colour of stripes and spots
    radius: float
    motion: str
    x: float
    y: float
    speed: float  # frame heights per frame, positive: to the right
    phase: float  # radians
    limits: tuple[float, float]  # it turns round at these x
    returns: bool = False  # it leaves the picture and comes back
    steady: bool = False  # it does not turn while it drifts
    settled: bool = False  # its lowest point is on the ground, not that of a ball of its size

    @property
    def grounded(self) -> bool:
        return self.motion in GROUND_MOTIONS


@dataclass(frozen=True)
class Pose:
    """Where an object is in one frame; `lift` is its foot's height above the ground."""

    x: float
    y: float
    angle: float
    lift: float


def sample_object(rng: np.random.Generator, *, horizon: float, aspect: float, taken: set[str]) -> SceneObject:
    """Draw an object that keeps inside a frame of width `aspect`; its colour is not in `taken`."""
    shape = str(rng.choice(SHAPES))
    free = [name for name in COLOURS if name not in taken]
    colour = str(rng.choice(free))
    radius = float(rng.uniform(0.11, 0.2))
    if rng.random() < 0.7:
        motion = "rolls" if shape == "ball" and rng.random() < 0.6 else str(rng.choice(GROUND_MOTIONS[1:]))
        y = float(rng.uniform(horizon + 0.12, 0.95))
        radius *= 0.75 + 0.5 * (y - horizon) / (1 - horizon)  # nearer is larger
    else:
        motion = str(rng.choice(AIR_MOTIONS))
        y = float(rng.uniform(radius + 0.05, horizon))
    limits = (radius * 0.5, aspect - radius * 0.5)
    return SceneObject(
        shape=shape,
        colour=colour,
        pattern=str(rng.choice(PATTERNS)),
        accent="white" if colour != "white" else "red",
        radius=radius,
        motion=motion,
        x=float(rng.uniform(limits[0] + radius, limits[1] - radius)),
        y=y,
        speed=float(rng.uniform(0.012, 0.045) * rng.choice((-1, 1))),
        phase=float(rng.uniform(0, 2 * np.pi)),
        limits=limits,
    )


def sample_bold_object(rng: np.random.Generator, *, horizon: float, aspect: float, taken: set[str]) -> SceneObject:
    """Like `sample_object`, but large, slow, upright, of one colour, and of one that is told from all others."""
    shape = str(rng.choice(BOLD_SHAPES))
    colour = str(rng.choice([name for name in BOLD_COLOURS if name not in taken]))
    radius = float(rng.uniform(0.17, 0.27))
    motion = "rolls" if shape == "ball" and rng.random() < 0.4 else str(rng.choice(BOLD_MOTIONS))
    low, high = (radius + 0.06, horizon + 0.1) if motion == "floats" else (max(horizon + 0.12, 2 * radius + 0.04), 0.95)
    limits = (radius, aspect - radius)
    return SceneObject(
        shape=shape,
        colour=colour,
        pattern="plain",
        accent="white",
        radius=radius,
        motion=motion,
        x=float(rng.uniform(*limits)),
        y=float(rng.uniform(low, high)),
        speed=float(rng.uniform(0.006, 0.02) * rng.choice((-1, 1))),
        phase=float(rng.uniform(0, 2 * np.pi)),
        limits=limits,
    )


def send_away(
    rng: np.random.Generator, item: SceneObject, *, num_frames: int, aspect: float, reach: float, steady: bool = False
) -> SceneObject:
    """The same object, but moving out of a frame of width `aspect` and back again within `num_frames`.

    It is out of sight for at least `SHORTEST_ABSENCE` frames, also if the camera looks up to `reach` to the side, and
    is seen before and after. `steady`: without turning.
    """
    motion = {"stands": "slides", "floats": "drifts"}.get(item.motion, item.motion)
    leaves = rng.uniform(0.22, 0.36) * num_frames  # out of sight from here on
    absence = rng.uniform(max(SHORTEST_ABSENCE, 0.18 * num_frames), max(SHORTEST_ABSENCE + 2, 0.32 * num_frames))
    travel = rng.uniform(0.35, 0.65) * aspect + reach + 1.3 * item.radius  # 1.3: the shadow is wider than the object
    speed = float(travel / leaves)
    turn = 0.5 * speed * absence  # how far beyond the last visible place it goes
    hidden = reach + 1.3 * item.radius
    if item.speed > 0:
        limits, x = (item.limits[0], aspect + hidden + turn), aspect + hidden - travel
    else:
        limits, x, speed = (-hidden - turn, item.limits[1]), travel - hidden, -speed
    return replace(item, motion=motion, x=float(x), speed=speed, limits=limits, returns=True, steady=steady)


def describe_object(item: SceneObject) -> str:
    """Words for the object and what it does, e.g. "a red striped ball rolls to the right"."""
    article = "an" if item.colour[0] in "aeiou" else "a"
    pattern = "" if item.pattern == "plain" else f" {item.pattern}"
    side = "right" if item.speed > 0 else "left"
    action = {"stands": "stands still", "floats": "floats in the air"}.get(item.motion, f"{item.motion} to the {side}")
    if item.returns:
        action = f"{item.motion} away to the {side} and comes back"
    return f"{article} {item.colour}{pattern} {item.shape} {action}"


def pose_at(item: SceneObject, frame: int) -> Pose:
    """Pose of the object in frame `frame` (0, 1, 2, ...)."""
    pose = _move(item, frame)
    if item.settled and item.grounded:
        pose = replace(pose, y=pose.y + item.radius * (1.0 - lowest_point(item.shape, pose.angle)))
    return pose


def lowest_point(shape: str, angle: float) -> float:
    """How far the shape, turned by `angle`, reaches below its centre, in radii."""
    u, v = _inside(shape)
    return float((np.sin(angle) * u + np.cos(angle) * v).max())


@cache
def _inside(shape: str) -> tuple[np.ndarray, np.ndarray]:
    v, u = np.mgrid[-1.3:1.3:131j, -1.3:1.3:131j]
    inside = _distance(shape, u, v) <= 0
    return u[inside], v[inside]


def _move(item: SceneObject, frame: int) -> Pose:
    if item.motion == "stands":
        return Pose(item.x, item.y - item.radius, 0.15 * np.sin(item.phase), 0.0)
    if item.motion == "floats":
        wave = 0.16 * frame + item.phase
        return Pose(item.x + 0.06 * np.sin(wave), item.y + 0.05 * np.sin(1.3 * wave), 0.3 * np.sin(wave), 1.0)
    low, high = item.limits
    x = _reflect(item.x + item.speed * frame, low, high)
    if item.motion == "rolls":
        return Pose(x, item.y - item.radius, x / item.radius, 0.0)
    if item.motion == "hops":
        lift = 0.9 * item.radius * abs(np.sin(0.35 * frame + item.phase))
        return Pose(x, item.y - item.radius - lift, 0.2 * np.sin(0.35 * frame), lift)
    angle = 0.05 * frame + item.phase if item.motion == "drifts" and not item.steady else 0.0
    return Pose(x, item.y - (item.radius if item.grounded else 0.0), angle, 0.0)


def _reflect(value: float, low: float, high: float) -> float:
    span = high - low
    folded = (value - low) % (2 * span)
    return low + min(folded, 2 * span - folded)


def draw_object(item: SceneObject, x: np.ndarray, y: np.ndarray, *, angle: float, pixel: float):
    """Colour and cover of the object at its own coordinates.

    `x`, `y`: (h, w), radius 1, not yet rotated; `pixel`: the size of a pixel in them.
    Returns colour (h, w, 3) in 0..255 and cover (h, w) in 0..1.
    """
    c, s = np.cos(angle), np.sin(angle)
    u, v = c * x + s * y, c * y - s * x
    distance = _distance(item.shape, u, v)
    cover = np.clip(0.5 - distance / pixel, 0.0, 1.0)
    base = np.asarray(COLOURS[item.colour], np.float32)
    accent = np.asarray(COLOURS[item.accent], np.float32)
    share = _pattern(item.pattern, u, v, pixel)[..., None]
    colour = base * (1 - share) + accent * share
    return np.clip(_shade(item.shape, colour, x, y, distance), 0.0, 255.0), cover


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance (roughly) to the outline, negative inside."""
    r = np.hypot(u, v)
    theta = np.arctan2(u, -v)  # 0 is up
    if shape == "box":
        q = np.maximum(np.abs(u), np.abs(v)) - 0.7
        corner = np.hypot(np.maximum(np.abs(u) - 0.7, 0), np.maximum(np.abs(v) - 0.7, 0))
        return np.where(q > 0, corner, q) - 0.15
    if shape == "star":
        fold = np.abs((theta + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)  # 0 at a tip, pi/5 in a notch
        return 0.55 * (r * (np.cos(fold) + 1.05 * np.sin(fold)) - 0.98)
    if shape == "heart":
        p, q = np.abs(u) * 1.15, -v * 1.15 + 0.15
        return 0.42 * (np.sqrt(p * p + (1.25 * q - 0.75 * np.sqrt(p + 1e-6)) ** 2) - 1.0)
    if shape == "ring":
        return np.abs(r - 0.7) - 0.28
    if shape == "cone":
        return np.maximum(0.88 * np.abs(u) - 0.45 * (v + 1.0), v - 0.9)
    if shape == "flower":
        return 0.8 * (r - (0.78 + 0.2 * np.cos(5 * theta)))
    if shape == "diamond":
        return 0.75 * (np.abs(u) * 1.25 + np.abs(v) - 1.0)
    return r - 1.0


def _pattern(pattern: str, u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
    edge = min(0.5 / pixel, 8.0)
    if pattern == "striped":
        return 0.5 + 0.5 * np.tanh(edge * (np.sin(2 * np.pi * v / 0.8) - 0.2))
    if pattern == "spotted":
        return 0.5 + 0.5 * np.tanh(edge * (np.cos(2 * np.pi * u / 0.8) + np.cos(2 * np.pi * v / 0.8) - 1.0))
    return np.zeros_like(u)


def _shade(shape: str, colour: np.ndarray, x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Light from the upper left: a sphere for the ball, a rounded edge for the flat shapes."""
    if shape == "ball":
        z = np.sqrt(np.clip(1.0 - x * x - y * y, 0.0, 1.0))
        lambert = np.clip(-0.45 * x - 0.6 * y + 0.66 * z, 0.0, 1.0)
        gloss = np.exp(-((x + 0.36) ** 2 + (y + 0.45) ** 2) / 0.03)
        return colour * (0.38 + 0.72 * lambert)[..., None] + 110.0 * gloss[..., None]
    light = 0.95 - 0.14 * (x + 1.3 * y)
    rim = np.exp(-np.maximum(-distance, 0.0) / 0.09)
    return colour * (light * (1.0 - 0.45 * rim))[..., None]
