"""The frames in reach, prepared once: small pictures, masks, and the camera's motion from frame to frame."""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.clip import FrameSource, MaskSource
from videopainter.propagation.own_motion import AWAY, OtherView, own_motion
from videopainter.propagation.settings import PropagationSettings
from videopainter.vision.flow import DenseFlow, pixel_grid, round_trip_error
from videopainter.vision.homographies import apply, camera_step
from videopainter.vision.membrane import membrane

# Lines of a working picture: half of the video's, but no fewer and no more than these.
_FEWEST_LINES, _MOST_LINES = 240, 540
TINY = 4  # a tiny picture's pixel has so many fine ones to a side
CARRIED = 2  # and one of the dense motion between neighbours so many
_READ = 8
# Fine pixels: dense motion that misses its start by more is not known; nor is any so near to a hole.
_ROUND_TRIP, _NEAR_HOLE = 1.0, 4


@dataclass(kw_only=True)
class View:
    """A frame of the video, prepared.

    `frame` uint8 (H, W, 3) and `hole` bool (H, W) are the video's; the others have working size: `picture` uint8
    (h, w, 3), `grey` uint8 (h, w), `blocked` uint8 (h, w), 1 where the hole or its margin is. `open` float32
    (h / TINY, w / TINY) is 1 where all of a tiny pixel is background.
    """

    frame: np.ndarray
    hole: np.ndarray
    picture: np.ndarray
    grey: np.ndarray
    blocked: np.ndarray
    open: np.ndarray


class Footage:
    """A window over a clip: views of the frames in it, and how the camera moved between them.

    A frame's views and motions depend on it and its neighbours alone, whatever was read before. Reading and
    dropping (`move_to`) is one thread's business; the rest may be asked for by several at once.
    """

    def __init__(self, frames: FrameSource, masks: MaskSource, settings: PropagationSettings) -> None:
        self.frames, self.masks, self.settings = frames, masks, settings
        height, width = frames.height, frames.width
        shorter = min(height, width)
        lines = min(shorter, min(max(shorter // 2, _FEWEST_LINES), _MOST_LINES))
        self.scale = lines / shorter
        self.size = (max(1, round(height * self.scale)), max(1, round(width * self.scale)))
        held = self._frames_that_fit(height * width)
        # Frames beyond the reach tell what moves by itself in those within it.
        self._beyond = min(max(AWAY), held // 6)
        self.reach = min(settings.reach, held // 2 - self._beyond)
        self._views: dict[int, View] = {}
        self._steps: dict[int, np.ndarray | None] = {}
        self._flows: dict[tuple[int, int], np.ndarray] = {}
        self._own: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._threads = threading.local()

    def __len__(self) -> int:
        return len(self.frames)

    def _frames_that_fit(self, pixels: int) -> int:
        # Per pixel: three colours and the hole; per fine one: three colours, grey, blocked, own motion, two flows.
        each = pixels * 4 + self.size[0] * self.size[1] * (6 + 16 // CARRIED**2)
        return max(6, int(self.settings.buffer_bytes // each))

    def move_to(self, start: int, stop: int, pool: Executor) -> None:
        """Hold all that filling frames [start, stop) may ask for, and nothing else."""
        around = self.reach + self._beyond
        first, last = max(0, start - around), min(len(self), stop + around)
        with self._lock:
            for kept in (self._views, self._steps, self._own):
                for t in [t for t in kept if not first <= t < last]:
                    del kept[t]
            for pair in [pair for pair in self._flows if not (first <= min(pair) and max(pair) < last)]:
                del self._flows[pair]
        begin = max(self._views, default=first - 1) + 1
        for at in range(max(begin, first), last, _READ):
            self._read(at, min(at + _READ, last), pool)

    def _read(self, start: int, stop: int, pool: Executor) -> None:
        frames, masks = self.frames.read(start, stop), self.masks.read(start, stop)
        # Copies: one frame of a chunk that is kept would keep all of it.
        for t, view in zip(range(start, stop), pool.map(self._prepare, frames, masks)):
            self._views[t] = view
        pairs = [t for t in range(start, stop) if t - 1 in self._views]
        for t, step in zip(pairs, pool.map(self._step, pairs)):
            self._steps[t] = step

    def _prepare(self, frame: np.ndarray, hole: np.ndarray) -> View:
        height, width = self.size
        picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        margin = max(1, round(self.settings.margin * min(hole.shape)))
        grown = cv2.dilate(hole.view(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
        blocked = (cv2.resize(grown.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0).view(
            np.uint8
        )
        tiny = (max(1, width // TINY), max(1, height // TINY))
        covered = cv2.resize(blocked.astype(np.float32), tiny, interpolation=cv2.INTER_AREA)
        return View(
            frame=frame.copy(),
            hole=hole.copy(),
            picture=picture,
            grey=cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY),
            blocked=blocked,
            open=(covered < 0.05).astype(np.float32),
        )

    def _step(self, t: int) -> np.ndarray | None:
        view, before = self._views[t], self._views[t - 1]
        return camera_step(view.grey, before.grey, view.blocked, before.blocked)

    def view(self, t: int) -> View:
        """Frame `t`, which must lie in the window."""
        return self._views[t]

    def motions(self, t: int) -> dict[int, np.ndarray]:
        """For every frame of the same shot in reach: the homography from fine pixels of frame `t` to its own."""
        return self._motions(t, self.reach)

    def _motions(self, t: int, reach: int) -> dict[int, np.ndarray]:
        found = {}
        for direction in (-1, 1):
            motion = np.eye(3)
            for s in range(t + direction, t + direction * (reach + 1), direction):
                if not 0 <= s < len(self):
                    break
                step = self._steps.get(s + 1 if direction < 0 else s)
                if step is None:
                    break
                motion = (step if direction < 0 else np.linalg.inv(step)) @ motion
                motion = motion / motion[2, 2]
                found[s] = motion
        return found

    def own_motion(self, t: int) -> np.ndarray:
        """How likely the pixels of frame `t` (within reach) move by themselves, uint8 (h, w); see `own_motion`."""
        found = self._own.get(t)
        if found is None:
            found = own_motion(self._views[t].grey, self._pairs_around(t))
            with self._lock:
                self._own[t] = found
        return found

    def _pairs_around(self, t: int) -> list[list[OtherView]]:
        """Frames before and after; at the end of a shot, two of the other side."""
        motions = self._motions(t, self._beyond)
        pairs = []
        for away in AWAY:
            if away > self._beyond:
                break
            before, after, nearer = t - away, t + away, (away + 1) // 2
            if before not in motions:
                before = t + nearer
            elif after not in motions:
                after = t - nearer
            if before in motions and after in motions:
                pairs.append([self._other(s, motions[s]) for s in (before, after)])
        return pairs

    def _other(self, s: int, motion: np.ndarray) -> OtherView:
        view = self._views[s]
        return OtherView(grey=view.grey, blocked=view.blocked, motion=motion)

    def neighbour_flow(self, t: int, s: int) -> np.ndarray:
        """Dense motion from frame `t` to its neighbour `s` in fine pixels, one value per CARRIED of them to a side.

        float32 (h / CARRIED, w / CARRIED, 2). Inside the hole, and where it is not sure, a membrane goes on with it.
        """
        found = self._flows.get((t, s))
        if found is None:
            later, earlier = max(t, s), min(t, s)
            flows = self._both_flows(later, earlier)
            with self._lock:
                self._flows[later, earlier], self._flows[earlier, later] = flows
            found = flows[0] if t == later else flows[1]
        return found

    def _both_flows(self, later: int, earlier: int) -> tuple[np.ndarray, np.ndarray]:
        a, b = self._views[later], self._views[earlier]
        camera = self._steps[later]
        assert camera is not None, "flow across a cut"
        # The camera's motion is taken out first: dense flow is best at small ones.
        grid = pixel_grid(*self.size)
        moved = apply(camera, grid)
        seen = cv2.remap(b.grey, moved, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        hidden = a.blocked | cv2.remap(b.blocked, moved, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
        # Where one shows something else both get the same: no motion there, and none leaks out.
        shown = np.where(hidden > 0, seen, a.grey)
        dis = self.dense_flow("fast")
        flow, returned = dis(shown, seen), dis(seen, shown)
        near = np.ones((2 * _NEAR_HOLE + 1, 2 * _NEAR_HOLE + 1), np.uint8)
        sure = (round_trip_error(flow, returned) < _ROUND_TRIP) & (cv2.dilate(hidden, near) == 0)
        total = apply(camera, grid + flow) - grid
        there = self._completed(total, sure, moved - grid)
        # The way back, seen from b: minus the flow of where it comes from.
        inverse = np.linalg.inv(camera)
        from_b = apply(inverse, grid)
        sure_b = cv2.remap(sure.view(np.uint8), from_b, None, cv2.INTER_NEAREST) > 0  # type: ignore[call-overload]
        flow_b = cv2.remap(returned, from_b, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        back = self._completed(from_b + flow_b - grid, sure_b, from_b - grid)
        return there, back

    def _completed(self, total: np.ndarray, sure: np.ndarray, camera: np.ndarray) -> np.ndarray:
        height, width = self.size
        small = (max(1, width // CARRIED), max(1, height // CARRIED))
        known = cv2.resize(sure.astype(np.float32), small, interpolation=cv2.INTER_AREA)
        if known.max() < 0.5:
            return cv2.resize(camera, small, interpolation=cv2.INTER_AREA)
        rest = cv2.resize((total - camera) * sure[..., None], small, interpolation=cv2.INTER_AREA)
        rest = rest / np.maximum(known, 1e-6)[..., None]
        field = membrane(rest, np.where(known > 0.5, np.float32(1), np.float32(0)))
        return field + cv2.resize(camera, small, interpolation=cv2.INTER_AREA)

    def dense_flow(self, preset: str) -> DenseFlow:
        """The calling thread's own: OpenCV's objects are not to be shared."""
        flows = self._threads.__dict__.setdefault("flows", {})
        if preset not in flows:
            flows[preset] = DenseFlow(preset)  # type: ignore[arg-type]
        return flows[preset]
