"""Where a training's numbers, images and videos go: `metrics.jsonl` always, wandb or TensorBoard on request.

The libraries are used directly: accelerate's trackers know neither videos nor how to go on with a run.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from videopainter.errors import InputError, complain, one_line
from videopainter.files import to_json, write_errors, write_text
from videopainter.flags import check_installed, check_ranges, flag

METRICS_FILE = "metrics.jsonl"
PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard"}
# A GIF in TensorBoard is made for a look in the browser; the videos themselves lie beside it as files.
GIF_WIDTH = 960


@dataclass(kw_only=True)
class TrackerOptions:
    """Where the curves go."""

    _argument_group_name: ClassVar[str] = "tracking"

    report_to: Literal["none", "wandb", "tensorboard"] = flag(
        "none", "Tracker beside metrics.jsonl, which is always written to output_dir."
    )
    tracker_name: str = flag("videopainter", "Project the run belongs to (wandb).")
    runs_name: str | None = flag(None, "Name of this run. Default: the name of output_dir.")
    logging_dir: str = flag("logs", "Folder of the tracker's files, seen from output_dir.")
    logging_steps: int = flag(10, "Write numbers every this many optimizer steps.", least=1)


# ---- checks, before models load


def check_tracker(options: TrackerOptions) -> None:
    """Whether the tracker can start, without asking anybody anything.

    Raises:
        InputError: where its library is missing, wandb has no API key and is not offline, or logging_steps is below 1.
    """
    check_ranges(options)
    package = PACKAGES.get(options.report_to)
    if package:
        check_installed(f"--report_to {options.report_to}", package, instead="or --report_to none")
    if options.report_to == "wandb" and os.environ.get("RANK", "0") == "0":
        _check_wandb_login()


def _check_wandb_login() -> None:
    wandb = importlib.import_module("wandb")
    # The settings know WANDB_MODE as well as what `wandb offline` wrote.
    if wandb.setup().settings.mode != "online":
        return
    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:  # a key of the wrong form
        raise InputError(f"--report_to wandb: {error}") from None
    if not known:
        raise InputError(
            "--report_to wandb: no API key found: run `wandb login` once, set WANDB_API_KEY, "
            "set WANDB_MODE=offline, or give --report_to none"
        )


# ---- what the trainer uses


class Backend(Protocol):
    """One tracker. Names are `group/name`; steps rise."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def log_videos(self, name: str, videos: Sequence[np.ndarray], fps: int, step: int) -> None: ...
    def close(self, failed: bool) -> None: ...


class Trackers:
    """Everything a run reports. On processes other than the main one every method does nothing.

        with Trackers(options, output_dir=folder, config=flags, start_step=resumed) as trackers:
            trackers.log({"loss": 0.1}, step)

    A resumed run goes on with the same wandb run and the same files; what was logged after `start_step` is taken back,
    so that every step is there once.

    Args:
        output_dir: Of the training.
        config: Flags of the run, shown by the tracker.
        is_main: Whether this process reports.
        start_step: Optimizer steps done before; 0 begins anew.
    """

    def __init__(
        self,
        options: TrackerOptions,
        *,
        output_dir: Path | str,
        config: Mapping[str, Any] | None = None,
        is_main: bool = True,
        start_step: int = 0,
    ) -> None:
        self._backends: list[Backend] = []
        if not is_main:
            return
        folder = Path(output_dir)
        logs = folder / options.logging_dir
        config = {name: _plain(value) for name, value in (config or {}).items()}
        self._backends.append(_JsonLines(folder / METRICS_FILE, start_step))
        if options.report_to == "wandb":
            self._backends.append(_Wandb(options, folder, logs, config, start_step))
        elif options.report_to == "tensorboard":
            self._backends.append(_TensorBoard(logs / (options.runs_name or folder.resolve().name), config, start_step))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Numbers of one step; tensors of one element are fetched here."""
        if self._backends:
            numbers = {name: value if isinstance(value, int) else float(value) for name, value in metrics.items()}
            for backend in self._backends:
                backend.log(numbers, step)

    def log_videos(self, name: str, videos: Sequence[np.ndarray], *, fps: int, step: int) -> None:
        """Videos, each uint8 RGB (T, H, W, 3)."""
        for backend in self._backends:
            backend.log_videos(name, videos, fps, step)

    def close(self, *, failed: bool = False) -> None:
        """Writes out what waits. Calling it twice does no harm."""
        backends, self._backends = self._backends, []
        for backend in backends:
            backend.close(failed)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)


def _plain(value: Any) -> Any:
    """What any tracker can show."""
    return value if isinstance(value, bool | int | float | str) else str(value)


# ---- metrics.jsonl


class _JsonLines:
    """One line of JSON per call, written out at once: a killed run loses at most the line it was writing."""

    def __init__(self, path: Path, start_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _take_back(path, start_step)
        self._file = path.open("a", encoding="utf-8")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        with write_errors(self._file.name):
            self._file.write(to_json({"step": step, **metrics}))
            self._file.flush()

    def log_videos(self, name: str, videos: Sequence[np.ndarray], fps: int, step: int) -> None:
        """Not for a text file."""

    def close(self, failed: bool) -> None:
        self._file.close()


def read_metrics(path: Path | str) -> list[dict[str, float]]:
    """Lines of a `metrics.jsonl`, in order; a last line cut short by a kill is left out.

    Raises:
        InputError: where another line is not what `Trackers` writes.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"metrics: expected lines of JSON, got {one_line(error)}, in {path}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["step"] = int(row["step"])
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            if number == len(lines):
                break
            raise InputError(f'{path}, line {number}: expected {{"step": ...}}, got {line[:40]!r}') from None
        rows.append(row)
    return rows


def _take_back(path: Path, start_step: int) -> None:
    """Drops what was logged after `start_step`; all of it where a run begins anew."""
    if not path.is_file():
        return
    kept = [row for row in read_metrics(path) if start_step and row["step"] <= start_step]
    write_text(path, "".join(map(to_json, kept)))


# ---- wandb


def wandb_mode() -> str | None:
    """`offline`, and a line about it, where there is no key to log in with; None: as wandb decides itself."""
    if os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY"):
        return None
    try:
        key = importlib.import_module("wandb").Api().api_key
    except Exception:  # it raises its own where there is none
        key = None
    if key:
        return None
    complain("wandb: no key found (WANDB_API_KEY, or wandb login): running offline; `wandb sync` sends it later")
    return "offline"


class _Wandb:
    def __init__(
        self, options: TrackerOptions, folder: Path, logs: Path, config: dict[str, Any], start_step: int
    ) -> None:
        self._wandb = wandb = importlib.import_module("wandb")
        logs.mkdir(parents=True, exist_ok=True)
        id_file = folder / "wandb_run_id"
        resumed = id_file.read_text().strip() if start_step and id_file.is_file() else None
        self._run = wandb.init(
            project=options.tracker_name,
            name=options.runs_name or folder.resolve().name,
            dir=str(logs),
            config=config,
            mode=wandb_mode(),
            id=resumed,
            resume="allow" if resumed else None,
        )
        id_file.write_text(self._run.id)
        # wandb's own counter cannot go back to where a run was resumed; a metric called step can.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self._run.log({"step": step, **metrics})

    def log_videos(self, name: str, videos: Sequence[np.ndarray], fps: int, step: int) -> None:
        from videopainter.data.video.writer import VideoWriter

        with tempfile.TemporaryDirectory() as folder:
            shown = []
            for number, frames in enumerate(videos):
                path = Path(folder) / f"{number}.mp4"
                with VideoWriter(path, fps=fps) as writer:
                    writer.write(frames)
                shown.append(self._wandb.Video(str(path), format="mp4"))
            self.log({name: shown}, step)  # copies the files before they go

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


# ---- TensorBoard


class _TensorBoard:
    def __init__(self, folder: Path, config: dict[str, Any], start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start_step + 1 if start_step else None)
        rows = "\n".join(f"| {name} | {value} |" for name, value in config.items())
        self._writer.add_text("flags", f"| flag | value |\n| --- | --- |\n{rows}", start_step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_videos(self, name: str, videos: Sequence[np.ndarray], fps: int, step: int) -> None:
        Summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        # `add_video` would need moviepy only to make a GIF.
        for number, frames in enumerate(videos):
            data, (height, width) = encode_gif(frames, fps)
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
            summary = Summary(value=[Summary.Value(tag=f"{name}/{number}", image=image)])
            self._writer._get_file_writer().add_summary(summary, step)
        self._writer.flush()

    def close(self, failed: bool) -> None:
        self._writer.close()


def encode_gif(frames: np.ndarray, fps: int) -> tuple[bytes, tuple[int, int]]:
    """An endless animated GIF of uint8 RGB (T, H, W, 3), at most `GIF_WIDTH` wide, and its (height, width)."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    width, height = images[0].size
    if width > GIF_WIDTH:
        width, height = GIF_WIDTH, max(1, round(height * GIF_WIDTH / width))
        images = [image.resize((width, height), Image.Resampling.BOX) for image in images]
    buffer = io.BytesIO()
    images[0].save(
        buffer, format="GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, disposal=1
    )
    return buffer.getvalue(), (height, width)
