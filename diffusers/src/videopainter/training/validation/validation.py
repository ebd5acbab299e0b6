"""Validation during a training: a loss that runs can be compared by, and videos to look at. Never ends the training."""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from videopainter.data.rates import parse_fps
from videopainter.errors import TrainingFailed
from videopainter.pipelines.settings import InpaintSettings
from videopainter.training.tracking.trackers import Trackers
from videopainter.training.validation.clips import ValidationClips, free_memory
from videopainter.training.validation.fixed_loss import FixedLoss
from videopainter.training.validation.in_step import InStep
from videopainter.training.validation.options import ValidationOptions
from videopainter.training.validation.videos import LiveModels, comparison_video, encode_mp4, write_videos

Result = TypeVar("Result")
FOLDER, ERRORS = "validation", "errors.log"


class Validation:
    """Validates a training at some of its steps, on all processes together.

        validation = Validation(options.validation, models=..., clips=..., objective=..., accelerator=..., ...)
        if validation.due(step, epoch):
            trackers.log(validation.run(step, model), step)   # on every process

    A run measures `FixedLoss` and makes `num_validation_videos` comparison videos, written to
    `output_dir/validation/step-N/` and given to the tracker. Work is shared out over the processes. It leaves the
    training as it was: modes of the modules, gradients, and every random state. What fails is written with its
    traceback to `output_dir/validation/errors.log`, told in one line, and left out; all processes stay in step. With
    weights sharded by FSDP or ZeRO-3 every pass needs all processes: clips are read and encoded before it, and all
    learn whether that went well. What fails on one process alone in the middle of a pass ends the training, in one line
    on each (`TrainingFailed`): the others wait for it there.

    Args:
        models: The modules that videos are made with.
        clips: At least `options.num_clips` of the validation set. Without encoders no videos are made.
        objective: Has `loss(model, batch, noise, timesteps)`, see `FixedLoss`.
        accelerator: accelerate's.
        settings: Of the videos, see `ValidationOptions.inpaint_settings`.
        fps: Of the clips; 0 (each file's own) shows videos at 8.
        warn: Tells one line.
    """

    def __init__(
        self,
        options: ValidationOptions,
        *,
        models: LiveModels,
        clips: ValidationClips,
        objective: Any,
        accelerator: Any,
        trackers: Trackers,
        output_dir: Path | str,
        settings: InpaintSettings,
        fps: float | Fraction = 8,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.options, self._models, self._clips = options, models, clips
        self._accelerator, self._trackers, self._settings = accelerator, trackers, settings
        self._fps = parse_fps(fps or 8)
        self._folder = Path(output_dir) / FOLDER
        self._tell = warn or (lambda text: tqdm.write(text, file=sys.stderr))
        self._told: set[str] = set()
        self._fixed_loss = FixedLoss(
            objective,
            clips,
            clips.keys[: options.validation_samples],
            timesteps=options.validation_timesteps,
            batch_size=options.validation_batch_size,
            seed=options.validation_seed,
        )
        self._in_step = InStep(accelerator.num_processes) if self._lockstep else None

    def due(self, step: int, epoch: int = 0) -> bool:
        """Whether to validate after optimizer step `step` (0: before the first), in epoch `epoch` (from 0)."""
        if not self.options.enabled:
            return False
        if step == 0:
            return self.options.validation_at_start
        return step % self.options.validating_steps == 0 and epoch % self.options.validation_epochs == 0

    def run(self, step: int, model: Any) -> dict[str, float]:
        """Validate; to be called on all processes.

        Args:
            model: As the trainer gives it to the objective: prepared or not.

        Returns:
            `validation/loss`, `validation/masked_loss`, `validation/loss_t<timestep>`, `validation/seconds`; without
            what failed or could not be measured. The same on all processes, but for the seconds.
        """
        started = time.perf_counter()
        metrics = self._guarded("validation", step, lambda: self._run(step, model)) or {}
        return {**metrics, "validation/seconds": time.perf_counter() - started}

    def _run(self, step: int, model: Any) -> dict[str, float]:
        with ExitStack() as stack:
            stack.enter_context(untouched_randomness())
            stack.enter_context(evaluation_mode([model, *self._models.modules]))
            stack.enter_context(self._accelerator.autocast())
            metrics = self._losses(step, model)
            self._videos(step, model)
        free_memory()
        return metrics

    # ---- loss

    def _losses(self, step: int, model: Any) -> dict[str, float]:
        if not self._fixed_loss.batches:
            return {}
        if not self._clips.available:
            self._warn("validation loss is left out: training from a latent cache has no encoders; give "
                       "--val_latent_cache or --validation_load_models")  # fmt: skip
            return {}
        if self._in_step is not None and not self._together("validation loss", step, self._encode_own):
            return {}
        table = self._together("validation loss", step, lambda: self._own_losses(model))
        failed = torch.tensor([float(table is None)], dtype=torch.float64)
        own = self._fixed_loss.empty_table() if table is None else table
        # Sums with zeros: exact, whatever the number of processes.
        sums = self._accelerator.reduce(torch.cat([own.flatten(), failed]).to(self._accelerator.device), "sum").cpu()
        if sums[-1] > 0:
            if table is not None:
                self._warn(f"validation loss is left out: it failed on {int(sums[-1])} other process(es)")
            return {}
        return self._fixed_loss.metrics(sums[:-1].view_as(own))

    def _own_losses(self, model: Any) -> torch.Tensor:
        # DDP sends buffers to all processes in every pass, of which each makes its own number here.
        bare = model.module if isinstance(model, DistributedDataParallel) else model
        return self._fixed_loss.table(bare, **self._share)

    def _encode_own(self) -> bool:
        self._fixed_loss.encode(**self._share)
        return True

    @property
    def _share(self) -> dict[str, Any]:
        """Which batches are this process's."""
        accelerator = self._accelerator
        count, index = accelerator.num_processes, accelerator.process_index
        return {"num_processes": count, "process_index": index, "lockstep": self._lockstep}

    @property
    def _lockstep(self) -> bool:
        """Whether every forward pass needs all processes, because weights are sharded."""
        kind = str(getattr(self._accelerator.distributed_type, "value", self._accelerator.distributed_type))
        if kind == "DEEPSPEED":
            return self._accelerator.state.deepspeed_plugin.zero_stage == 3
        return kind == "FSDP"

    # ---- videos

    def _videos(self, step: int, model: Any) -> None:
        keys = self._clips.keys[: self.options.num_validation_videos]
        if not keys:
            return
        if not self._clips.can_encode:
            self._warn("validation videos are left out: training from a latent cache holds no VAE; "
                       "--validation_load_models loads it for each validation")  # fmt: skip
            return
        videos = []
        for number, key in enumerate(keys):
            mine = number % self._accelerator.num_processes == self._accelerator.process_index
            if mine or self._lockstep:
                what = f"validation video {number}"
                if self._in_step is not None and not self._together(what, step, lambda key=key: self._encode_clip(key)):
                    continue
                content = self._together(what, step, lambda key=key: self._video(key, model))
                if mine and content is not None:
                    videos.append((number, f"{number}-row{key.row}", content))
        # Files, not frames, travel between processes; the main one writes them all, on whatever node it is.
        videos = gather_object(videos)
        if self._accelerator.is_main_process and videos:
            self._guarded("validation videos", step, lambda: self._show(step, sorted(videos)))

    def _encode_clip(self, key: Any) -> bool:
        """Read a clip and encode its prompt; a video of it then fails only where a pass does."""
        self._clips.embeds(self._clips.sample(key).caption)
        return True

    def _video(self, key: Any, model: Any) -> bytes:
        made = []

        def make() -> None:
            made.append(comparison_video(self._models, self._clips, key, self._settings))

        if self._lockstep:  # sharded weights are there only inside a pass of the module that is wrapped
            with torch.no_grad():
                model(within=make)
        else:
            make()
        return encode_mp4(made[0], self._fps)

    def _show(self, step: int, videos: Sequence[tuple[int, str, bytes]]) -> None:
        frames = write_videos(self._folder / f"step-{step}", [(name, content) for _, name, content in videos])
        self._trackers.log_videos("validation/videos", frames, fps=max(1, round(self._fps)), step=step)

    # ---- what goes wrong

    def _together(self, what: str, step: int, work: Callable[[], Result]) -> Result | None:
        """As `_guarded`; where every pass needs all processes, None where it failed on any of them."""
        result, failure = self._tried(what, step, work)
        if self._in_step is None:
            return result
        failed = [rank for rank, text in enumerate(self._in_step.failures(failure)) if text]
        if failed and not failure:
            self._warn(f"{what} is left out: it failed on process {failed[0]}", everywhere=True)
        return None if failed else result

    def _guarded(self, what: str, step: int, work: Callable[[], Result]) -> Result | None:
        """The result of `work`; None, and a report, where it fails. Ctrl-C and `TrainingFailed` go through."""
        return self._tried(what, step, work)[0]

    def _tried(self, what: str, step: int, work: Callable[[], Result]) -> tuple[Result | None, str]:
        """The result of `work`, or what failed in a line, which is reported."""
        try:
            return work(), ""
        except TrainingFailed:
            raise
        except Exception as error:
            failure = self._report(what, step, error)
        free_memory()  # after the traceback has let go of the tensors
        return None, failure

    def _report(self, what: str, step: int, error: Exception) -> str:
        rank = f" on process {self._accelerator.process_index}" if self._accelerator.num_processes > 1 else ""
        told = f"{what} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        head = f"step {step}{rank}: {told}\n"
        first = told not in self._told
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._errors.open("a", encoding="utf-8") as file:
                file.write(head + ("".join(traceback.format_exception(error)) + "\n" if first else ""))
        except OSError as unwritable:  # a full disk must not end the training either
            self._warn(f"cannot write {self._errors}: {unwritable.strerror}", everywhere=True)
        survived = "" if self._in_step is not None else "training goes on, "
        self._warn(f"{told} (step {step}{rank}; {survived}see {self._errors})", about=told, everywhere=True)
        return f"{told}{rank}"

    @property
    def _errors(self) -> Path:
        return self._folder / ERRORS

    def _warn(self, text: str, *, about: str | None = None, everywhere: bool = False) -> None:
        """Tell one line, once; of what all processes know, by the main one."""
        if (about or text) not in self._told and (everywhere or self._accelerator.is_main_process):
            self._tell(f"warning: {text}")
        self._told.add(about or text)


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Python's, NumPy's and torch's random states after the block are those before it, on all devices."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def evaluation_mode(models: Sequence[Any]) -> Iterator[None]:
    """The models in evaluation mode; every submodule afterwards in the mode it was in."""
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training
