"""One training: read the flags, check what can be checked without models, then build and run the trainer."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videopainter.cli.door import parse_options
from videopainter.cli.running import advise
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.errors import InputError, TrainingFailed, complain
from videopainter.files import make_folder
from videopainter.locks import held, sweep
from videopainter.models.backbones.registry import check_form, facts_of
from videopainter.models.checkpoint_files import read_config
from videopainter.models.checks import check_checkpoints
from videopainter.training.checkpoints import CheckpointFolder, check_processes
from videopainter.training.ema import EMAOptions
from videopainter.training.optimizers import OptimizerOptions, check_optimizer
from videopainter.training.options import (
    AdapterOptions,
    ConditionOptions,
    RunOptions,
    TrainedModelOptions,
    TrainingOptions,
)
from videopainter.training.tracking.trackers import TrackerOptions, check_tracker
from videopainter.training.validation.options import ValidationOptions

if TYPE_CHECKING:
    from videopainter.training.cache.reader import LatentCache

_logger = logging.getLogger("videopainter.training")
Kind = Literal["branch", "id_adapter"]
# By their names in `TrainingOptions`.
GROUPS: dict[str, type] = {
    "data": TrainingSetOptions,
    "model": TrainedModelOptions,
    "condition": ConditionOptions,
    "adapter": AdapterOptions,
    "optimizer": OptimizerOptions,
    "ema": EMAOptions,
    "validation": ValidationOptions,
    "tracker": TrackerOptions,
    "run": RunOptions,
}
# What most people need, in the order of `--help`'s groups.
TRAIN_COMMON = (
    *("meta_file_path", "instance_data_root", "height", "width", "fps", "max_num_frames"),
    *("pretrained_model_name_or_path", "cogvideox_branch_name_or_path", "mixed_precision", "gradient_checkpointing"),
    *("mask_add", "learning_rate", "val_meta_file_path", "validating_steps", "report_to"),
    *("output_dir", "train_batch_size", "max_train_steps", "latent_cache", "checkpointing_steps"),
    *("resume_from_checkpoint",),
)
ADAPTER_COMMON = ("rank", "id_pool_resample_learnable")
DESCRIPTIONS = {
    "branch": "Train the context encoder (branch) of a frozen CogVideoX backbone.",
    "id_adapter": "Train the ID-resample adapter, a LoRA of the backbone, with a trained context encoder.",
}


def train_branch(argv: Sequence[str] | None = None) -> int:
    """What `train_cogvideox_inpainting_i2v_video.py` does; returns the exit code."""
    return train("branch", argv)


def train_id_adapter(argv: Sequence[str] | None = None) -> int:
    """What `train_cogvideox_inpainting_i2v_video_resample.py` does; returns the exit code."""
    return train("id_adapter", argv)


def train(kind: Kind, argv: Sequence[str] | None = None) -> int:
    """Train; InputError or ValueError where nothing could start."""
    options = read_options(kind, argv)
    check_training(kind, options)
    _speak()
    clips = TrainingSet(options.data)
    _tell_dropped(clips)
    if options.validation.enabled:
        TrainingSet(options.validation.set_options(options.data))
    # Only now: these import torch, which takes seconds.
    from videopainter.training.engine import check_engine
    from videopainter.training.tasks import AdapterTask, BranchTask
    from videopainter.training.trainer import Trainer

    task = BranchTask() if kind == "branch" else AdapterTask()
    check_engine(options)
    advise(lambda: _how_to_go_on(options))
    make_folder(options.output_dir, "output_dir")
    try:
        with held(options.output_dir, folder=True) if _is_main() else nullcontext():
            if _is_main():
                sweep(options.output_dir, deep=True, shared=True)
            Trainer(options, task, clips, open_cache(options)).run()
    except TrainingFailed as error:
        complain(f"error: {error}")
        return 1
    return 0


def _how_to_go_on(options: TrainingOptions) -> str:
    """What to say after Ctrl-C: the same command is refused where a checkpoint lies, unless it says to resume."""
    last = next(iter(CheckpointFolder(options.output_dir)), None)
    if last is None:
        return "before the first checkpoint; start the same command again to begin anew"
    if options.run.resume_from_checkpoint == "latest":
        return f"start the same command again to go on from {last}"
    return f"add --resume_from_checkpoint latest to the command to go on from {last}"


def read_options(kind: Kind, argv: Sequence[str] | None = None) -> TrainingOptions:
    """The flags of a training, from `argv` or the command line."""
    groups, common = groups_of(kind)
    found = parse_options(list(groups.values()), argv, description=DESCRIPTIONS[kind], common=common)
    return TrainingOptions(**dict(zip(groups, found, strict=True)))


def groups_of(kind: Kind) -> tuple[dict[str, type], tuple[str, ...]]:
    """A training's options, by their names in `TrainingOptions`, and the flags that its `--help` shows."""
    if kind == "id_adapter":
        return GROUPS, TRAIN_COMMON + ADAPTER_COMMON
    # Flags of an adapter say nothing about a branch.
    return {name: group for name, group in GROUPS.items() if group is not AdapterOptions}, TRAIN_COMMON


def check_training(kind: Kind, options: TrainingOptions) -> None:
    """InputError or ValueError for what no training can start with; loads nothing."""
    options.check()
    check_optimizer(options.optimizer)
    check_tracker(options.tracker)
    branch = options.model.cogvideox_branch_name_or_path
    if kind == "id_adapter" and branch is None:
        raise InputError(
            "cogvideox_branch_name_or_path: expected the context encoder that the adapter is trained with, got none"
        )
    if kind == "id_adapter" and not options.adapter.id_pool_resample_learnable:
        # Inference resamples wherever it is given an adapter.
        raise InputError(
            "id_pool_resample_learnable: expected true, as an ID adapter is trained as it will run, "
            "resampling; got false"
        )
    check_checkpoints(options.model.pretrained_model_name_or_path, branch)
    facts = facts_of(read_config(Path(options.model.pretrained_model_name_or_path) / "transformer"))
    facts.grid.check_size(options.data.height, options.data.width)
    if options.model.branch_layer_num > facts.num_layers:
        raise InputError(
            f"branch_layer_num: expected at most the backbone's {facts.num_layers}, "
            f"got {options.model.branch_layer_num}"
        )
    if options.validation.use_dynamic_cfg and not facts.dynamic_guidance:
        raise InputError(f"use_dynamic_cfg: expected false, {facts.family} is guided alike at every step; got true")
    if kind == "id_adapter":
        check_form(facts, options.adapter.id_resample_form, "id_resample_form")
    if branch is not None:
        _check_same_fill(options, Path(branch))
    wanted = options.run.resume_from_checkpoint
    if wanted and wanted != "latest" and not any(p.is_dir() for p in (Path(wanted), options.output_dir / wanted)):
        raise InputError(f"resume_from_checkpoint: expected `latest` or a checkpoint's folder, found no {wanted}")
    _check_resumed(options)
    _check_fresh(options)


def _check_resumed(options: TrainingOptions) -> None:
    """As many processes as wrote the checkpoint, where DeepSpeed did."""
    wanted = options.run.resume_from_checkpoint
    if not wanted:
        return
    named = (path for path in (Path(wanted), options.output_dir / wanted) if path.is_dir())
    checkpoint = next(iter(CheckpointFolder(options.output_dir)) if wanted == "latest" else named, None)
    if checkpoint is not None:
        check_processes(checkpoint, int(os.environ.get("WORLD_SIZE", "1")))


def _check_same_fill(options: TrainingOptions, branch: Path) -> None:
    trained = float(read_config(branch).get("hole_fill", 0.0))
    if options.model.hole_fill not in (0.0, trained):
        raise InputError(f"hole_fill: expected {trained} as its training, got {options.model.hole_fill}, in {branch}")
    options.model.hole_fill = trained


def _check_fresh(options: TrainingOptions) -> None:
    """A new training does not write over an old one."""
    if options.run.resume_from_checkpoint:
        return
    old = sorted(options.output_dir.glob("checkpoint-*[0-9]"))
    if old:
        raise InputError(
            f"output_dir: expected a folder without a training, got {old[0].name}, in "
            f"{options.output_dir}; give another one, "
            "or --resume_from_checkpoint latest to go on with it"
        )


def open_cache(options: TrainingOptions) -> LatentCache | None:
    """The latent cache that the flags name, after a check that it was made as this training wants it.

    The validation set's cache is checked, too.
    """
    chosen = options.validation
    if chosen.enabled and chosen.val_latent_cache is not None:
        _open_cache(options, chosen.val_latent_cache, chosen.set_options(options.data))
    if options.run.latent_cache is None:
        return None
    cache = _open_cache(options, options.run.latent_cache, options.data)
    _logger.info("latent cache: %d clips, %d variants of each", len(cache.rows), cache.variants)
    return cache


def _open_cache(options: TrainingOptions, folder: str, data: TrainingSetOptions) -> LatentCache:
    from videopainter.training.cache.reader import LatentCache
    from videopainter.training.cache.settings import CacheSettings

    wanted = CacheSettings.make(
        options.model.pretrained_model_name_or_path,
        data,
        hole_fill=options.model.hole_fill,
        dtype="float32",
        max_text_seq_length=options.model.max_text_seq_length,
    )
    # Its tensors are brought to the training's precision.
    return LatentCache(folder, wanted, ignore=("dtype",))


def _tell_dropped(clips: TrainingSet) -> None:
    """One line on what is trained on."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in clips.dropped.items() if count)
    _logger.info("%d clips%s", len(clips), f"; dropped: {reasons}" if reasons else "")


def _speak() -> None:
    """The main process's notes go to stderr, without the names and levels of a log."""
    voice = logging.getLogger("videopainter")
    voice.setLevel(logging.INFO if _is_main() else logging.ERROR)
    if not voice.handlers:
        voice.addHandler(logging.StreamHandler())


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"
