"""What building a set from raw videos costs: drawn scenes joined into videos, built with more processes and clips.

python benchmarks/vpdata.py --output_dir outputs/bench_vpdata                        # six minutes of video, all stages
python benchmarks/vpdata.py --output_dir outputs/bench_growth --scenes 4 --per_video 2 --growth   # 1 and 2 processes
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from videopainter.cli.make_synthetic import make_synthetic
from videopainter.data.video.reader import VideoFrames
from videopainter.data.video.writer import VideoWriter

_DOOR = Path(__file__).parents[1] / "data_utils" / "build_vpdata.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/bench_vpdata"))
    parser.add_argument("--scenes", type=int, default=48, help="Scenes of 7.6 s.")
    parser.add_argument("--per_video", type=int, default=8, help="Scenes of a video, joined by cuts.")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--growth", action="store_true", help="Build scenes and four times as many, by 1 and by 2.")
    options = parser.parse_args()
    counts = (options.scenes, 4 * options.scenes) if options.growth else (options.scenes,)
    drawn = draw_scenes(options.output_dir / "scenes", counts[-1])
    for count in counts:
        raw = options.output_dir / f"raw_{count}"
        join_scenes(drawn[:count], options.per_video, raw)
        for processes in (1, 2) if options.growth else (options.processes,):
            build(raw, options.output_dir / f"set_{count}_{processes}", processes)


def draw_scenes(folder: Path, count: int) -> list[Path]:
    """Videos of one scene each, with rich textures."""
    size = ["--num_frames", "61", "--height", "144", "--width", "216", "--fps", "8", "--rich"]
    none = ["--val_clips", "0", "--test_clips", "0"]
    make_synthetic(["--output_dir", str(folder), "--clips", str(count), *size, *none])
    return sorted(folder.rglob("*.mp4"))


def join_scenes(scenes: list[Path], per_video: int, folder: Path) -> None:
    """Videos of so many scenes."""
    for number, first in enumerate(range(0, len(scenes), per_video)):
        with VideoWriter(folder / f"joined{number:02d}.mp4", fps=8) as writer:
            for scene in scenes[first : first + per_video]:
                frames = VideoFrames(scene)
                writer.write(frames.read(0, len(frames)))


def build(raw: Path, output: Path, processes: int) -> None:
    """The set, its stages and what they cost, printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, str(_DOOR), "--videos", str(raw), "--output_dir", str(output)]
    subprocess.run([*command, "--processes", str(processes)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{output}: {processes} processes, {time.perf_counter() - started:.1f} s, {used:.1f} s of processors")
    for report in json.loads((output / "work" / "stages.json").read_text()):
        dropped = ", ".join(f"{count} {kind}" for kind, count in report["dropped"].items())
        print(f"| {report['stage']} | {report['in']} | {report['out']} | {dropped} | {report['rows_per_second']} |")


if __name__ == "__main__":
    main()
