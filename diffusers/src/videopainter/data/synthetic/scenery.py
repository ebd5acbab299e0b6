"""Backgrounds for synthetic clips: a textured canvas a little larger than what the camera sees.

Lengths are in frame heights, so the same scenery can be drawn at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MARGIN = 0.3  # how far the canvas goes beyond the frame on each side, in frame heights

SKIES = {
    "a pale blue sky": ((120, 175, 235), (215, 232, 245)),
    "a deep blue sky": ((35, 85, 180), (140, 190, 235)),
    "an orange evening sky": ((225, 120, 80), (250, 210, 140)),
    "a pink morning sky": ((190, 140, 200), (250, 205, 200)),
    "a grey sky": ((130, 140, 150), (200, 205, 210)),
    "a dark night sky": ((15, 20, 50), (60, 65, 110)),
}
GROUNDS = {
    "green grass": ("noise", (75, 140, 55), (125, 180, 75)),
    "yellow sand": ("ripples", (215, 185, 120), (235, 210, 155)),
    "white snow": ("noise", (222, 230, 240), (248, 250, 252)),
    "a grey stone floor": ("checker", (130, 130, 135), (165, 165, 168)),
    "a brown field": ("furrows", (115, 80, 50), (150, 110, 70)),
    "blue water": ("ripples", (40, 100, 155), (85, 150, 195)),
    "a red and white checkered floor": ("checker", (190, 60, 55), (232, 222, 212)),
    "a green striped floor": ("furrows", (60, 135, 90), (130, 190, 130)),
    "a wooden floor": ("planks", (150, 100, 60), (185, 130, 80)),
    "a purple carpet": ("noise", (95, 60, 125), (125, 85, 155)),
}
WALLS = {
    "a plain cream wall": ("plain", (225, 210, 180), (240, 228, 202)),
    "a blue striped wall": ("stripes", (120, 155, 200), (160, 190, 222)),
    "a brick wall": ("bricks", (160, 85, 65), (205, 175, 155)),
    "a green dotted wall": ("dots", (130, 170, 135), (200, 220, 190)),
    "a pink striped wall": ("stripes", (215, 150, 165), (240, 195, 200)),
}
INDOOR_GROUNDS = ("a wooden floor", "a purple carpet", "a red and white checkered floor", "a grey stone floor")
HILLS = {
    "dark hills": (60, 85, 75),
    "blue mountains": (95, 120, 165),
    "red hills": (165, 95, 70),
}


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """What stands behind the objects. `horizon` is measured from the top of the frame, in frame heights."""

    above: str  # a key of SKIES or WALLS
    ground: str  # a key of GROUNDS
    hills: str | None  # a key of HILLS
    clouds: bool
    horizon: float
    texture_scale: float
    texture_seed: int
    grain: float = 0.0  # contrast of a fine texture on ground and walls; 0 = none


def sample_scenery(rng: np.random.Generator) -> Scenery:
    """Draw a scenery from `rng`."""
    indoors = rng.random() < 0.35
    above = str(rng.choice(list(WALLS if indoors else SKIES)))
    outdoor_grounds = [name for name in GROUNDS if name not in INDOOR_GROUNDS[:3]]
    return Scenery(
        above=above,
        ground=str(rng.choice(INDOOR_GROUNDS if indoors else outdoor_grounds)),
        hills=str(rng.choice(list(HILLS))) if not indoors and rng.random() < 0.45 else None,
        clouds=not indoors and above != "a dark night sky" and rng.random() < 0.6,
        horizon=float(rng.uniform(0.42, 0.6)),
        texture_scale=float(rng.uniform(0.8, 1.25)),
        texture_seed=int(rng.integers(2**31)),
    )


def describe_scenery(scenery: Scenery, *, short: bool = False) -> str:
    """Words for the scenery, e.g. "green grass and dark hills under a pale blue sky with white clouds".

    `short` leaves out hills and clouds.
    """
    if scenery.above in WALLS:
        return f"{scenery.ground} in front of {scenery.above}"
    hills = f" and {scenery.hills}" if scenery.hills and not short else ""
    clouds = " with white clouds" if scenery.clouds and not short else ""
    return f"{scenery.ground}{hills} under {scenery.above}{clouds}"


def draw_scenery(scenery: Scenery, *, pixels_per_height: int, aspect: float) -> np.ndarray:
    """Draw the canvas: float32 (h, w, 3) in 0..255, h = (1 + 2·MARGIN)·pixels_per_height.

    The point (x, y) of the frame, in frame heights, lies at pixel ((x + MARGIN), (y + MARGIN))·pixels_per_height.
    """
    height = round((1 + 2 * MARGIN) * pixels_per_height)
    width = round((aspect + 2 * MARGIN) * pixels_per_height)
    y = ((np.arange(height, dtype=np.float32) + 0.5) / pixels_per_height - MARGIN)[:, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5) / pixels_per_height - MARGIN)[None, :]
    rng = np.random.default_rng(scenery.texture_seed)
    pixel = 1.0 / pixels_per_height
    if scenery.above in WALLS:
        canvas = _draw_wall(scenery, x, y, rng)
    else:
        canvas = _draw_sky(scenery, x, y, rng)
        if scenery.hills:
            ridge = _ridge(x, rng, height=scenery.horizon)
            light = 1.0 + 0.25 * _noise(rng, y.size, x.size, cells=(6, 8))
            canvas = _over(canvas, light[..., None] * _rgb(HILLS[scenery.hills]), (y - ridge) / pixel + 0.5)
    canvas = _over(canvas, _draw_ground(scenery, x, y, rng), (y - scenery.horizon) / pixel + 0.5)
    if scenery.grain:
        canvas *= 1.0 + scenery.grain * _grain(scenery, x, y)[..., None]
    # Soft light from one side.
    lean = rng.uniform(-0.18, 0.18)
    canvas *= (1.0 + lean * (x / max(aspect, 1e-6) - 0.5))[..., None]
    return np.clip(canvas, 0.0, 255.0).astype(np.float32)


def _rgb(colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(colour, np.float32)


def _over(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = np.broadcast_to(np.clip(alpha, 0.0, 1.0), below.shape[:2])[..., None]
    return below * (1.0 - alpha) + above * alpha


def _mix(low: tuple[int, int, int], high: tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0.0, 1.0)[..., None]
    return _rgb(low) * (1.0 - share) + _rgb(high) * share


def _noise(rng: np.random.Generator, height: int, width: int, *, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of about -1..1: three octaves, the coarsest with `cells` (rows, columns)."""
    total = np.zeros((height, width), np.float32)
    for octave in range(3):
        rows, columns = cells[0] * 2**octave, cells[1] * 2**octave
        grid = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.55**octave
    return total * 0.7


def _draw_sky(scenery: Scenery, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, bottom = SKIES[scenery.above]
    share = np.broadcast_to((y + 0.1) / (scenery.horizon + 0.1), (y.size, x.size))
    sky = _mix(top, bottom, share)
    if scenery.above == "a dark night sky":
        for _ in range(25):
            distance2 = (x - rng.uniform(-0.3, 2.0)) ** 2 + (y - rng.uniform(-0.3, scenery.horizon)) ** 2
            sky += 150.0 * np.exp(-distance2 / 0.006**2)[..., None]
    if scenery.clouds:
        clouds = np.clip(_noise(rng, y.size, x.size, cells=(5, 3)) * 1.6 - 0.15, 0.0, 0.85)
        sky = _over(sky, _rgb((252, 250, 248)), clouds)
    return sky


def _draw_wall(scenery: Scenery, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pattern, low, high = WALLS[scenery.above]
    scale = scenery.texture_scale
    flat = np.zeros((y.size, x.size), np.float32)
    if pattern == "stripes":
        share = 0.5 + 0.5 * np.tanh(3.0 * np.sin(2 * np.pi * x / (0.22 * scale))) + flat
    elif pattern == "dots":
        u, v = np.cos(2 * np.pi * x / (0.24 * scale)), np.cos(2 * np.pi * y / (0.24 * scale))
        share = 0.5 + 0.5 * np.tanh(6.0 * (u + v - 1.1))
    elif pattern == "bricks":
        rows = y / (0.13 * scale)
        columns = x / (0.28 * scale) + 0.5 * (np.floor(rows) % 2)
        joint = np.minimum(_distance_to_line(rows) * 0.13, _distance_to_line(columns) * 0.28)
        share = 1.0 - np.clip(joint * scale / 0.014, 0.0, 1.0)
    else:
        share = 0.5 + flat
    wall = _mix(low, high, share) * (1.0 + 0.06 * _noise(rng, y.size, x.size, cells=(3, 4)))[..., None]
    skirting = np.clip((y - scenery.horizon + 0.05) / 0.006, 0.0, 1.0) + flat
    return _over(wall, 0.8 * _rgb(high) + 20.0, skirting)


def _distance_to_line(position: np.ndarray) -> np.ndarray:
    """Distance to the nearest whole number, 0..0.5."""
    return np.abs(position - np.round(position))


def _draw_ground(scenery: Scenery, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The ground in perspective: patterns shrink and fade towards the horizon."""
    pattern, low, high = GROUNDS[scenery.ground]
    depth = 1.0 / (np.maximum(y - scenery.horizon, 0.0) + 0.12)  # 1.5 (near) .. 8 (at the horizon)
    across, along = (x - 0.75) * depth / scenery.texture_scale, depth * 1.6 / scenery.texture_scale
    contrast = np.clip(6.5 / depth - 0.6, 0.0, 1.0)
    cloudy = 0.5 * _noise(rng, y.size, x.size, cells=(7, 6))
    if pattern == "checker":
        wave = np.tanh(5 * np.sin(np.pi * across * 1.2)) * np.tanh(5 * np.sin(np.pi * along * 1.2)) + 0.2 * cloudy
    elif pattern == "planks":
        wave = np.tanh(3 * np.sin(np.pi * across * 2.2)) + 0.5 * cloudy
    elif pattern == "furrows":
        wave = np.tanh(1.5 * np.sin(np.pi * (along * 2.0 + 0.15 * cloudy))) + 0.3 * cloudy
    elif pattern == "ripples":
        wave = 0.7 * np.sin(np.pi * (along * 3.0 + 0.9 * cloudy)) + 0.8 * cloudy
    else:
        grain = cv2.GaussianBlur(rng.uniform(-1, 1, (48, 64)).astype(np.float32), (3, 3), 0)
        grain = cv2.resize(grain, (x.size, y.size), interpolation=cv2.INTER_CUBIC)
        wave = 1.2 * cloudy + 0.8 * grain
    return _mix(low, high, 0.5 + 0.5 * wave * contrast)


def _grain(scenery: Scenery, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A fine texture of about -1..1: in perspective on the ground, flat on walls, none in the sky."""
    rng = np.random.default_rng((scenery.texture_seed, 1))
    tile = np.zeros((512, 512), np.float32)
    for sigma in (0.8, 2.5, 7.0):
        smooth = cv2.GaussianBlur(rng.normal(size=tile.shape).astype(np.float32), (0, 0), sigma)
        tile += smooth / smooth.std()
    depth = 1.0 / (np.maximum(y - scenery.horizon, 0.0) + 0.12)
    ground = np.broadcast_to(y > scenery.horizon, (y.size, x.size))
    across = np.where(ground, (x - 0.75) * depth, x)
    along = np.where(ground, depth * 1.6, y)
    # Far away the texture is finer than a pixel.
    strength = np.where(ground, np.clip(4.5 / depth - 0.6, 0.0, 1.0), 0.4 * (scenery.above in WALLS))
    texels = 110.0  # for one frame height on a wall
    column, row = ((texels * place + 256.0).astype(np.float32) for place in (across, along))
    grain = cv2.remap(tile, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.clip(grain / 3.0, -1.0, 1.0) * strength


def _ridge(x: np.ndarray, rng: np.random.Generator, *, height: float) -> np.ndarray:
    """Height of the hill line for every x, shape (1, w)."""
    line = np.zeros_like(x)
    for wave in (0.7, 1.5, 3.1):
        line += np.sin(2 * np.pi * (wave * x + rng.random())) / wave
    return height - 0.14 - 0.05 * line
