"""Writes a latent cache (see `reader.py`): shard by shard, over several processes, going on where it was killed.

Which rows and captions lie in which shard depends on the settings alone, never on the number of processes. A shard is
written under a temporary name and renamed, so one that is there and as long as its header says is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from videopainter.data.training.decord_frames import InexactFiles
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSample, TrainingSet, UnreadableLog
from videopainter.data.workers import begin_worker
from videopainter.errors import InputError
from videopainter.files import replacing, write_json
from videopainter.models.checkpoint_files import read_safetensors_header
from videopainter.training.cache.settings import (
    IMAGE_TENSORS,
    CacheLayout,
    CacheSettings,
    caption_name,
    caption_shard,
    index_path,
    latent_shard,
    sample_prefix,
    text_shard,
)
from videopainter.training.encoding import EncodedPixels

Encode = Callable[[list[TrainingSample]], EncodedPixels]
Embed = Callable[[list[str]], torch.Tensor]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a finished cache holds."""

    rows: int
    unreadable: int
    captions: int
    bytes: int


class CacheWriter:
    """One process's part of writing a cache.

    Args:
        folder: Prepared by `settings.prepare_folder`.
        rows: All rows of the training set, in its order.
        captions: All different captions, and the empty one.
        rank, size: This process among all that write; each takes every `size`-th shard.
    """

    def __init__(
        self,
        folder: Path,
        settings: CacheSettings,
        layout: CacheLayout,
        *,
        rows: Sequence[int],
        captions: Sequence[str],
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self.folder, self.settings, self.layout = folder, settings, layout
        self.rank, self.size = rank, size
        self._inexact = InexactFiles()
        step = layout.shard_rows
        self._rows = [list(rows[start : start + step]) for start in range(0, len(rows), step)]
        self._captions: list[dict[str, str]] = [{} for _ in range(layout.text_shards)]
        for caption in captions:
            name = caption_name(caption)
            self._captions[caption_shard(name, layout.text_shards)][name] = caption

    @cached_property
    def pending_texts(self) -> list[int]:
        """Own text shards that are not there, or damaged, when first asked for."""
        return self._pending(text_shard, len(self._captions))

    @cached_property
    def pending_latents(self) -> list[int]:
        """Own shards of clips that are not there, or damaged, when first asked for."""
        return self._pending(latent_shard, len(self._rows))

    def _pending(self, name: Callable[[int], str], shards: int) -> list[int]:
        own = range(self.rank, shards, self.size)
        return [number for number in own if _tensor_names(self.folder / name(number)) is None]

    def write_texts(self, embed: Embed, *, progress: bool = True) -> None:
        """Embed the captions of every pending text shard; `embed` gives (B, S, E)."""
        total = sum(len(self._captions[number]) for number in self.pending_texts)
        with tqdm(total=total, desc="captions", unit="caption", disable=not progress) as bar:
            for number in self.pending_texts:
                tensors = {}
                for name, caption in self._captions[number].items():
                    tensors[name] = embed([caption])[0].to("cpu", _dtype(self.settings), copy=True).contiguous()
                    bar.update()
                _save(self.folder / text_shard(number), tensors)

    def write_latents(
        self,
        encode: Encode,
        training_set: TrainingSet,
        log: UnreadableLog,
        *,
        batch_size: int = 1,
        num_workers: int = 0,
        progress: bool = True,
    ) -> int:
        """Encode the samples of every pending shard; returns how many.

        Raises:
            InputError: more clips cannot be read than `log` allows.
        """
        keys = [key for number in self.pending_latents for key in self._keys(number)]
        # One loader for all shards, so that reading goes on while a shard is written.
        loader = DataLoader(
            _Reader(training_set),
            batch_size=None,
            sampler=keys,
            num_workers=num_workers,
            worker_init_fn=begin_worker,
            collate_fn=_as_it_is,
        )
        samples = map(_or_raise, loader)
        with tqdm(total=len(keys), desc="clips", unit="sample", disable=not progress) as bar:
            for number in self.pending_latents:
                tensors = self._encode_shard(number, samples, encode, log, batch_size, bar)
                _save(self.folder / latent_shard(number), tensors)
        return len(keys)

    def _keys(self, number: int) -> list[SampleKey]:
        """A shard's samples: all clips, then all single frames."""
        kinds = (False, True) if self.settings.single_frames else (False,)
        variants = range(self.layout.variants)
        return [SampleKey(v, row, single) for single in kinds for row in self._rows[number] for v in variants]

    def _encode_shard(
        self,
        number: int,
        samples: Iterator[TrainingSample],
        encode: Encode,
        log: UnreadableLog,
        batch_size: int,
        bar: Any,
    ) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        unreadable: set[int] = set()
        for keys in _batches(self._keys(number), batch_size):
            batch = [next(samples) for _ in keys]
            for sample in batch:
                log.add(sample.replaced, 1 + len(sample.replaced))
                if sample.replaced:
                    unreadable.add(sample.key.row)
            self._inexact.add(sample.inexact for sample in batch)
            batch = [sample for sample in batch if sample.key.row not in unreadable]
            if batch:
                tensors |= _named_tensors(encode(batch), _dtype(self.settings))
            bar.update(len(keys))
        # A row is there with all its variants, or not at all.
        return {name: tensor for name, tensor in tensors.items() if _row_of(name) not in unreadable}

    def finish(self) -> Summary:
        """Write the index, once all processes are done (one process does it).

        Raises:
            InputError: a shard is missing, or no row is left.
        """
        texts = [text_shard(number) for number in range(len(self._captions))]
        shards = [latent_shard(number) for number in range(len(self._rows))]
        names = {name: _tensor_names(self.folder / name) for name in (*texts, *shards)}
        missing = [name for name, there in names.items() if there is None]
        if missing:
            raise InputError(
                f"latent cache: expected all shards, got {len(missing)} too few, such as {missing[0]}, in {self.folder}"
            )
        rows = {name: sorted({_row_of(tensor) for tensor in names[name] or ()}) for name in shards}
        sizes = {name: (self.folder / name).stat().st_size for name in names}
        cached, total = sum(map(len, rows.values())), sum(map(len, self._rows))
        if not cached:
            raise InputError(
                f"latent cache: expected one of {total} clips that can be read, got none, in {self.folder}"
            )
        index = {"unreadable": total - cached, "texts": len(texts), "rows": rows, "bytes": sizes}
        write_json(index_path(self.folder), index)
        captions = sum(map(len, self._captions))
        return Summary(rows=cached, unreadable=total - cached, captions=captions, bytes=sum(sizes.values()))


def _tensor_names(path: Path) -> list[str] | None:
    """What a shard holds; None if it is not there, or damaged, which is reported."""
    if not path.is_file():
        return None
    try:
        return list(read_safetensors_header(path))
    except ValueError as error:
        _logger.warning("latent cache: a damaged shard is made again: %s", error)
        return None


def _batches(keys: Sequence[SampleKey], size: int) -> Iterator[list[SampleKey]]:
    """Runs of up to `size` keys, clips and single frames apart."""
    for _, run in groupby(keys, key=lambda key: key.single):
        alike = list(run)
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def _named_tensors(batch: EncodedPixels, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A batch's tensors, sample by sample, on the CPU and apart from each other."""
    kinds = {"latents": batch.latents, "masked": batch.masked_latents, "mask": batch.mask}
    images = {name: getattr(batch, of) for name, of in IMAGE_TENSORS.items()}
    kinds |= {name: values for name, values in images.items() if values is not None}
    tensors = {}
    for kind, values in kinds.items():
        values = values.to("cpu", torch.uint8 if kind == "mask" else dtype)
        for key, value in zip(batch.keys, values, strict=True):
            tensors[sample_prefix(key.row, key.epoch, key.single) + kind] = value.clone(
                memory_format=torch.contiguous_format
            )
    return tensors


def _row_of(name: str) -> int:
    return int(name.split(".", 1)[0])


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as partial:
        save_file(tensors, partial)


def _dtype(settings: CacheSettings) -> torch.dtype:
    return getattr(torch, settings.dtype)


class _Reader(Dataset):
    """The training set for a loader; a mistake comes back as a value, since the loader would wrap it in a traceback."""

    def __init__(self, training_set: TrainingSet) -> None:
        self._set = training_set

    def __getitem__(self, key: SampleKey) -> TrainingSample | InputError:
        try:
            return self._set[key]
        except InputError as error:
            return error


def _or_raise(sample: TrainingSample | InputError) -> TrainingSample:
    if isinstance(sample, InputError):
        raise sample
    return sample


def _as_it_is(sample: Any) -> Any:
    return sample
