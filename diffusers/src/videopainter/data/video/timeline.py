"""When the frames of a video file are shown, and where decoding may begin: told from its packets, without decoding."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np

from videopainter.data.rates import DEFAULT_FPS


class Timeline:
    """Frames by number, in the order in which they are shown.

    Attributes:
        times: int64 (T,), rising, in units of `time_base`; None where frames have none of their own (AVI): those can
            only be counted from the start.
        keys: int64, numbers of the key frames; none without times.
        length: Number of frames.
    """

    def __init__(self, packets: Iterable[av.Packet], time_base: Fraction | None) -> None:
        self.time_base = time_base or Fraction(1, 1000)
        times: list[int | None] = []
        keys: list[int | None] = []
        for packet in packets:
            if packet.size == 0 or packet.is_discard:
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        self.length = len(times)
        self.times = None if None in times or len(set(times)) < len(times) else np.array(times, np.int64)
        self.keys = np.zeros(0, np.int64)
        if self.times is not None:
            self.times.sort()
            self.keys = np.searchsorted(self.times, np.sort(np.array(keys, np.int64)))

    def begin_at(self, pts: int | None) -> None:
        """What lies before the time of the first frame that decodes is not shown."""
        if self.times is not None and pts is not None:
            skipped = int(np.searchsorted(self.times, pts))
            self.times = self.times[skipped:]
            self.keys = self.keys[self.keys >= skipped] - skipped
            self.length = len(self.times)

    @property
    def start(self) -> Fraction:
        """When the first frame is shown, in seconds of the file."""
        return Fraction(0) if self.times is None else int(self.times[0]) * self.time_base

    def number_of(self, pts: int | None, counted: int) -> int:
        """The frame shown at that time; `counted` where times tell nothing."""
        return counted if self.times is None or pts is None else int(np.searchsorted(self.times, pts))

    def entries(self, number: int) -> list[int]:
        """Frames to start decoding from, nearest first: some key frames do not lead to every frame after them."""
        if self.times is None:
            return [0]
        before = [int(k) for k in self.keys[self.keys <= number][-2:]]
        return [*dict.fromkeys([*reversed(before), 0])]

    def rate(self, said: Fraction | None) -> Fraction:
        """The container's mean rate, or the one its times show where it says otherwise."""
        rate = Fraction(said) if said else None
        if self.times is not None and self.length > 1:
            span = int(self.times[-1] - self.times[0]) * self.time_base
            measured = (self.length - 1) / span
            if rate is None or abs(rate / measured - 1) > Fraction(2, 100):
                rate = measured
        if not rate:
            rate = Fraction(DEFAULT_FPS)  # one frame without a rate: any will do
        return rate.limit_denominator(1001) or rate

    def uneven(self, fps: Fraction) -> np.ndarray | None:
        """Seconds from the first frame to each, where that is ever half a frame or more from an even rate."""
        if self.times is None:
            return None
        times = (self.times - self.times[0]) * float(self.time_base)
        even = np.arange(self.length) / float(fps)
        return times if np.abs(times - even).max() >= 0.5 / fps else None
