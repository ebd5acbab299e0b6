"""Writing a latent cache: check everything, encode captions and clips, write the index."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from videopainter.cli.door import parse_options
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions, UnreadableLog
from videopainter.errors import InputError
from videopainter.files import make_folder
from videopainter.flags import check_ranges, flag, switch
from videopainter.locks import held
from videopainter.models.backbones.registry import facts_of
from videopainter.models.checkpoint_files import read_config
from videopainter.models.checks import check_checkpoints
from videopainter.runs.options import ModelOptions
from videopainter.runs.processes import Shard
from videopainter.runs.weights import BACKBONE, find_tiny
from videopainter.training.cache.settings import CacheLayout, CacheSettings, CacheSizes, prepare_folder

if TYPE_CHECKING:
    from videopainter.runs.processes import Precision
    from videopainter.training.cache.writer import CacheWriter, Summary

_DESCRIPTION = "Encode a training set once: clip latents and text embeddings, in a folder for --latent_cache."


@dataclass(kw_only=True)
class CacheOptions:
    """What the cache is made with, and where it goes."""

    _argument_group_name: ClassVar[str] = "latent cache"

    pretrained_model_name_or_path: str | None = flag(
        None, "Backbone folder (CogVideoX-5b-I2V); of it VAE and text encoder are loaded. Default: ckpt/tiny."
    )
    latent_cache: str | None = flag(
        None, "Folder of the cache, as in training; an unfinished one is gone on with.", aliases=["--output_dir"]
    )
    variants: int = flag(
        4,
        "Versions of every clip, with their own crop, mask and first-frame noise: epoch e trains on e mod variants.",
        least=1,
        most=1024,
    )
    batch_size: int = flag(1, "Samples that the VAE encodes at once.", least=1, most=1024)
    hole_fill: float = flag(0.0, "What holes are filled with, from -1 (black) to 1; as in training.", least=-1, most=1)
    max_text_seq_length: int | None = flag(
        None, "Tokens of a caption. Default: the backbone's own.", least=1, most=4096
    )
    dtype: Literal["bfloat16", "float16", "float32"] | None = flag(
        None, "Of encoders and cache, as training's mixed_precision. Default: bfloat16 on a GPU, float32 on a CPU."
    )
    device: str | None = flag(None, "cpu, cuda or cuda:N. Default: a GPU if there is one (one per process).")
    enable_slicing: bool = switch(False, "Encode one sample of a batch at a time.")
    enable_tiling: bool = switch(
        False, "Encode large frames in overlapping tiles: less memory, slightly other latents."
    )
    dataloader_num_workers: int = flag(2, "Processes that read clips; 0 reads in the main one.", least=0, most=256)
    shard_megabytes: float = flag(
        256.0, "Size of one file; as much is held in memory, and lost if the run is killed.", above=0, most=1e6
    )
    max_unreadable_share: float = flag(
        0.05, "Share of clips that may be unreadable before the run ends.", least=0, most=1
    )
    quiet: bool = switch(False, "No progress bars.")

    def __post_init__(self) -> None:
        check_ranges(self)


# What most people need, in the order of `--help`'s groups.
CACHE_COMMON = (
    *("pretrained_model_name_or_path", "latent_cache", "variants", "batch_size", "dtype", "device"),
    *("dataloader_num_workers", "meta_file_path", "instance_data_root", "height", "width", "fps", "max_num_frames"),
    *("mix_train_ratio", "seed"),
)
CACHE_OPTIONS = (CacheOptions, TrainingSetOptions)


def read_options(argv: Sequence[str] | None = None) -> tuple[CacheOptions, TrainingSetOptions]:
    """The flags of `train/cache_latents.py`, from `argv` or the command line."""
    cache, samples = parse_options(CACHE_OPTIONS, argv, description=_DESCRIPTION, common=CACHE_COMMON)
    return cache, samples


@dataclass(kw_only=True)
class CachePlan:
    """What is to be written; nothing heavy is loaded yet."""

    options: CacheOptions
    model_path: Path
    folder: Path
    samples: TrainingSetOptions
    training_set: TrainingSet
    captions: list[str]


def plan_cache(options: CacheOptions, samples: TrainingSetOptions) -> CachePlan:
    """Check folders and read the CSV.

    Raises:
        InputError, ValueError: in one line, for whatever is missing or does not fit.
    """
    if options.latent_cache is None:
        raise InputError("--latent_cache: expected the folder to write to (see --help)")
    given = options.pretrained_model_name_or_path
    model_path = Path(find_tiny() / BACKBONE if given is None else given)
    check_checkpoints(model_path)
    facts_of(read_config(model_path / "transformer")).grid.check_size(samples.height, samples.width)
    # Captions are dropped when training; here each is wanted.
    training_set = TrainingSet(replace(samples, proportion_empty_prompts=0.0))
    captions = dict.fromkeys(["", *(training_set.caption(SampleKey(0, row, False)) for row in training_set.rows)])
    return CachePlan(
        options=options,
        model_path=model_path,
        folder=Path(options.latent_cache),
        samples=samples,
        training_set=training_set,
        captions=list(captions),
    )


def cache_latents(options: CacheOptions, samples: TrainingSetOptions) -> int:
    """Write what is missing of a cache; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start, or too many clips cannot be read.
    """
    plan, shard = plan_cache(options, samples), Shard.from_env()
    # Only now: these import torch, which takes seconds.
    from videopainter.runs.processes import resolve_precision

    precision = resolve_precision(ModelOptions(device=options.device, dtype=options.dtype), shard)
    settings = CacheSettings.make(
        plan.model_path,
        samples,
        hole_fill=options.hole_fill,
        dtype=precision.dtype,
        max_text_seq_length=options.max_text_seq_length,
    )
    make_folder(plan.folder, "the latent cache")
    with held(plan.folder, folder=True) if shard.rank == 0 else nullcontext():
        return _write(plan, settings, precision, shard)


def _write(plan: CachePlan, settings: CacheSettings, precision: Precision, shard: Shard) -> int:
    layout = prepare(plan, settings, shard)
    writer = make_writer(plan, settings, layout, shard)
    started = time.perf_counter()
    encoded = encode_all(plan, writer, precision.device, shard)
    seconds = time.perf_counter() - started
    total = sum(shard.gather(encoded))
    if shard.rank == 0:
        _report(plan, writer.finish(), total, seconds)
    return 0


def prepare(plan: CachePlan, settings: CacheSettings, shard: Shard) -> CacheLayout:
    """Say what will be written, make the folder, and see that there is room.

    Raises:
        InputError: the folder holds something else, or the disk is too small.
    """
    sizes, options = CacheSizes.of(plan.model_path, settings), plan.options
    rows, captions = len(plan.training_set.rows), len(plan.captions)
    layout = CacheLayout.plan(
        sizes, rows=rows, captions=captions, variants=options.variants, shard_megabytes=options.shard_megabytes
    )
    expected = rows * options.variants * sizes.sample + captions * sizes.caption
    if shard.rank == 0:
        dropped = "".join(f"; dropped {n}: {reason}" for reason, n in plan.training_set.dropped.items())
        print(
            f"{rows} clips x {options.variants} variants, {captions} captions: {_size(expected)}{dropped}", flush=True
        )
    layout = prepare_folder(plan.folder, settings, layout, write=shard.rank == 0)
    there = sum(path.stat().st_size for path in plan.folder.glob("*.safetensors"))
    free = shutil.disk_usage(plan.folder).free
    if shard.rank == 0 and expected - there > free:
        raise InputError(
            f"latent cache {plan.folder}: expected {_size(expected - there)} of free disk, got {_size(free)}"
        )
    return layout


def make_writer(plan: CachePlan, settings: CacheSettings, layout: CacheLayout, shard: Shard) -> CacheWriter:
    """This process's writer."""
    from videopainter.training.cache.writer import CacheWriter

    return CacheWriter(
        plan.folder,
        settings,
        layout,
        rows=plan.training_set.rows,
        captions=plan.captions,
        rank=shard.rank,
        size=shard.size,
    )


def encode_all(plan: CachePlan, writer: CacheWriter, device: str, shard: Shard) -> int:
    """Encode captions, then clips: one model in memory at a time, and none where nothing is missing."""
    import torch

    from videopainter.models.backbones.registry import backbone_from
    from videopainter.training.encoding import (
        ImageConditioning,
        encode_captions,
        encode_pixels,
        frozen_image_encoder,
        frozen_text_encoder,
        frozen_vae,
    )

    options, settings = plan.options, writer.settings
    backbone = backbone_from(read_config(plan.model_path / "transformer"))
    dtype, progress = getattr(torch, settings.dtype), not options.quiet and shard.rank == 0
    if writer.pending_texts:
        tokenizer, text_encoder = frozen_text_encoder(plan.model_path, dtype)
        text_encoder.to(device)
        length = settings.max_text_seq_length
        writer.write_texts(
            lambda captions: encode_captions(backbone, tokenizer, text_encoder, captions, length, device),
            progress=progress,
        )
        del text_encoder
    if not writer.pending_latents:
        return 0
    vae = frozen_vae(plan.model_path, dtype, slicing=options.enable_slicing, tiling=options.enable_tiling).to(device)
    encode = partial(
        encode_pixels,
        vae,
        seed=plan.samples.seed,
        hole_fill=settings.hole_fill,
        images=ImageConditioning.of(backbone, frozen_image_encoder(plan.model_path, dtype, device)),
        device=device,
        dtype=dtype,
    )
    return writer.write_latents(
        encode,
        plan.training_set,
        unreadable_log(plan, shard),
        batch_size=options.batch_size,
        num_workers=options.dataloader_num_workers,
        progress=progress,
    )


def unreadable_log(plan: CachePlan, shard: Shard) -> UnreadableLog:
    """Where this process lists clips that it cannot read."""
    name = "unreadable.csv" if shard.size == 1 else f"unreadable-{shard.rank}.csv"
    return UnreadableLog(plan.folder / name, plan.options.max_unreadable_share)


def _report(plan: CachePlan, summary: Summary, encoded: int, seconds: float) -> None:
    """What the cache holds, and how fast it was written."""
    print(
        f"{plan.folder}: {summary.rows} clips x {plan.options.variants} variants, {summary.captions} captions, "
        f"{_size(summary.bytes)}; {summary.unreadable} clips left out as unreadable; "
        f"{encoded} samples encoded in {seconds:.0f} s ({encoded / max(seconds, 1e-9):.2f} per second)"
    )


def _size(count: int) -> str:
    return f"{count / 10**9:.3f} GB"
