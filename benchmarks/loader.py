"""How many training clips per second come from files, next to decoding whole clips first.

All give the same masks (checked) and frames that are as close as two Lanczos resizes of the same pictures are (their
least PSNR is printed, and is above 45 dB), from the same files, in one process and thread, taking turns clip by clip:

- ours: `TrainingSet`. Frames that are neither needed nor serve others are not decoded, only needed ones are resized,
  as the codec stores them, and become RGB; masks are inflated up to the last needed one. Once with the files'
  structure (frame times, no pixels) known, as from the second epoch on, and once with every file opened anew.
- pick: every frame of the file is decoded to RGB and the whole mask array loaded and compared with the id; the
  needed frames are picked then, and only these are resized (Pillow's Lanczos).
- all: as the release does: the same, but the whole clip is resized before frames are picked.
- decord (where it is installed): `--video_reader decord`; of its frames the mean difference in levels is printed.
  Files are compared with PyAV when they are opened: in every epoch without the index.

Files come from the disk's cache (all are read once beforehand). Prints clips per second by wall clock and by CPU time
(which other programs on the machine disturb less).
    python benchmarks/loader.py --meta_file_path data/pexels_videovo_train_dataset.csv
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np

from videopainter.data.reshape import resize_frames, resize_masks
from videopainter.data.training.file_index import FileIndex
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.data.video.conversion import RgbConverter
from videopainter.data.video.reader import VideoFrames

CASES: dict[str, dict[str, Any]] = {
    "49 frames of 480x720 at 8 fps": {"max_num_frames": 49, "height": 480, "width": 720, "fps": 8},
    "49 frames of 480x720 at 10 fps": {"max_num_frames": 49, "height": 480, "width": 720, "fps": 10},
    "17 frames of 64x96 at 8 fps": {"max_num_frames": 17, "height": 64, "width": 96, "fps": 8},
    "9 frames of 64x96 at 8 fps": {"max_num_frames": 9, "height": 64, "width": 96, "fps": 8},
}


class WholeVideo:
    """Every frame of a file in memory; what `TrainingSet` asks of a video."""

    def __init__(self, path: Path, fps: Fraction, size: tuple[int, int] | None) -> None:
        self.path, self.fps = path, fps
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count, converter = 1, RgbConverter()
            self.frames = np.stack([converter.convert(frame) for frame in container.decode(stream)])
        if size is not None:
            self.frames = resize_frames(self.frames, *size)
        self.height, self.width = self.frames.shape[1:3]

    def __len__(self) -> int:
        return len(self.frames)

    def pick(self, numbers: list[int], size: tuple[int, int] | None = None):
        for frame in self.frames[numbers]:
            yield frame if size is None else resize_frames(frame[None], *size)[0]

    def close(self) -> None:
        pass


class WholeMasks:
    """Every mask of an array in memory."""

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        self.path, self.size = path, size
        self.ids = np.load(path)["arr_0"]
        self.height, self.width = size or self.ids.shape[1:]

    def __len__(self) -> int:
        return len(self.ids)

    def pick(self, numbers: list[int], mask_id: int):
        masks = self.ids == mask_id
        if self.size is not None:
            masks = resize_masks(masks, *self.size)
        yield from masks[numbers]


class WholeFiles(FileIndex):
    """Decodes whole clips, each time anew; `size`: resizes them whole, too. Frame rates are known beforehand."""

    def __init__(self, rates: dict[str, Fraction], size: tuple[int, int] | None) -> None:
        super().__init__(0)
        self.rates, self.whole_size = rates, size

    def video(self, path: Path):
        return WholeVideo(path, self.rates[path.name], self.whole_size)

    def masks(self, path: Path):
        return WholeMasks(path, self.whole_size)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 pixels, in dB."""
    error = float(np.square(one.astype(np.float32) - other.astype(np.float32)).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


class Measured(NamedTuple):
    """rates: clips per second of every way to read, by wall clock and by CPU time. least: PSNR between their frames.

    levels: mean difference of decord's frames, the worst sample; None where it is not installed.
    inexact: files that PyAV read though decord was asked for.
    """

    rates: dict[str, tuple[float, float]]
    least: float
    levels: float | None
    inexact: set[str]


def measure(options: TrainingSetOptions, rounds: int) -> Measured:
    """Read all clips `rounds` times in all ways, taking turns."""
    known = TrainingSet(options)
    known_rates = {path.name: VideoFrames(path).fps for path in Path(known.data_roots[0]).rglob("*.mp4")}
    sets = {
        "ours": known,
        "ours, no index": TrainingSet(options, files=FileIndex(0)),
        "pick": TrainingSet(options, files=WholeFiles(known_rates, None)),
        "all": TrainingSet(options, files=WholeFiles(known_rates, (options.height, options.width))),
    }
    if importlib.util.find_spec("decord") is not None:
        by_decord = replace(options, video_reader="decord")
        sets["decord"] = TrainingSet(by_decord)
        sets["decord, no index"] = TrainingSet(by_decord, files=FileIndex(0, "decord"))
    levels, inexact = [], set()
    spent = {name: np.zeros(2) for name in sets}
    least = math.inf
    for epoch in range(rounds + 1):
        for row in known.rows:
            key = SampleKey(epoch, row, False)
            samples = {}
            for name, clips in sets.items():
                began = np.array([time.perf_counter(), time.process_time()])
                samples[name] = clips[key]
                # The first round warms caches up: the disk's, and ours.
                if epoch:
                    spent[name] += np.array([time.perf_counter(), time.process_time()]) - began
            for name, sample in samples.items():
                assert not sample.replaced
                np.testing.assert_array_equal(sample.masks, samples["ours"].masks)
                if name.startswith("decord"):
                    difference = np.abs(sample.frames.astype(np.int16) - samples["ours"].frames)
                    levels.append(float(difference.mean()))
                    inexact.add(sample.inexact)
                else:
                    least = min(least, psnr(sample.frames, samples["ours"].frames))
    assert least > 45, f"frames differ, PSNR {least:.1f} dB"
    count = rounds * len(known.rows)
    rates = {name: (count / float(wall), count / float(cpu)) for name, (wall, cpu) in spent.items()}
    return Measured(rates, least, max(levels, default=None), inexact - {""})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meta_file_path", required=True, help="CSV of the clips")
    parser.add_argument("--instance_data_root", help="data folder; default: the CSV's own")
    parser.add_argument("--rounds", type=int, default=3, help="how often every clip is read")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    for title, case in CASES.items():
        options = TrainingSetOptions(
            meta_file_path=arguments.meta_file_path, instance_data_root=arguments.instance_data_root, **case
        )
        rows = len(TrainingSet(options).rows)
        found = measure(options, arguments.rounds)
        print(f"{title}: {rows} clips long enough, frames within {found.least:.1f} dB")
        for name, (wall, cpu) in found.rates.items():
            ratios = [found.rates["ours"][k] / rate for k, rate in enumerate((wall, cpu))]
            print(
                f"  {name:16} {wall:7.2f} clips/s ({cpu:7.2f} by CPU)   ours is {ratios[0]:5.2f}x ({ratios[1]:5.2f}x)"
            )
        if found.levels is not None:
            print(f"  decord: frames within {found.levels:.2f} levels, {len(found.inexact)} files read by PyAV instead")


if __name__ == "__main__":
    main()
