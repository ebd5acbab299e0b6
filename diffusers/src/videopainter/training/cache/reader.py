"""Clip latents and text embeddings, encoded once: training then needs neither VAE nor text encoder in memory.

What is cached, and why it trains the same:

- Of every row, `variants` versions: its samples of epochs 0, 1, ..., variants−1, exactly as training on the fly makes
  them: crop in time and space, flip, mask and its deformation and the noise on the first frame are functions of seed,
  epoch and row. Epoch e reads variant e mod variants. So the first `variants` epochs are those of training on the fly
  (bit for bit in float32 with equal batches), and later ones repeat them. With `mix_train_ratio`, one-frame versions
  lie beside them.
- Every different caption, and the empty one, looked up by its text.
- Not cached, but drawn at every step, so that they never repeat: timesteps, the diffusion's noise, dropouts of the
  image condition and of the caption, which samples are single frames, and the order of the rows.
- Rows whose clip cannot be read are not in the cache: `rows` lists those that are. On the fly another row stands in,
  so there the equality holds for sets without such rows.

A folder holds `settings.json` (see `settings.CacheSettings`), `latents-*.safetensors` with tensors
`ROW.VARIANT[.single].{latents,masked,mask}` and those of `IMAGE_TENSORS`, `text-*.safetensors` with tensors named by
the caption's hash, and `index.json`, written last. `writer.py` makes it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from videopainter.data.training.sample_order import SampleKey
from videopainter.errors import InputError
from videopainter.training.cache.settings import (
    IMAGE_TENSORS,
    CacheSettings,
    caption_name,
    caption_shard,
    check_settings,
    index_path,
    read_cache_json,
    read_settings,
    sample_prefix,
    text_shard,
)
from videopainter.training.encoding import EncodedBatch

# Shards a process keeps open; each is a memory map, of which only what is read is loaded.
OPEN_SHARDS = 64


class LatentCache:
    """Random access to a finished cache. Can be pickled, for workers of a DataLoader.

    Args:
        folder: What `train/cache_latents.py` wrote.
        wanted: Settings of this training; None takes the cache as it is.
        ignore: Names of settings that may differ.

    Raises:
        InputError: for a cache that is missing, unfinished or damaged, or made with other settings (naming them).
    """

    def __init__(self, folder: str | Path, wanted: CacheSettings | None = None, *, ignore: Sequence[str] = ()) -> None:
        self.folder = Path(folder)
        self.settings, layout = read_settings(self.folder)
        self.variants = layout.variants
        if wanted is not None:
            check_settings(self.folder, self.settings, wanted, ignore=ignore)
        index = read_cache_json(index_path(self.folder))
        self._check_sizes(index["bytes"])
        self.unreadable: int = index["unreadable"]  # rows left out
        self._texts: int = index["texts"]
        self._shards: dict[int, str] = {row: name for name, rows in index["rows"].items() for row in rows}
        self.rows: list[int] = sorted(self._shards)  # rows of the CSV to train on
        self._open: dict[str, Any] = {}

    def _check_sizes(self, expected: dict[str, int]) -> None:
        there = {entry.name: entry.stat().st_size for entry in os.scandir(self.folder)}
        for name, size in expected.items():
            if there.get(name) != size:
                raise InputError(
                    f"latent cache: {self.folder / name}: expected {size} bytes, got {there.get(name, 'no file')}; "
                    "start cache_latents.py again to repair it"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}}

    def batch(self, keys: Sequence[SampleKey], captions: Sequence[str]) -> EncodedBatch:
        """The samples of `keys` (all single frames, or none) with their captions, on the CPU in the cache's dtype.

        Raises:
            InputError: for a row or caption that is not in the cache, or a shard that cannot be read.
        """
        samples = [self._sample(key) for key in keys]
        stacked = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        return EncodedBatch(
            keys=list(keys),
            latents=stacked["latents"],
            masked_latents=stacked["masked"],
            mask=stacked["mask"].to(stacked["latents"].dtype),
            **{of: stacked.get(name) for name, of in IMAGE_TENSORS.items()},
            prompt_embeds=torch.stack([self._text(caption) for caption in captions]),
        )

    def _sample(self, key: SampleKey) -> dict[str, torch.Tensor]:
        shard = self._shards.get(key.row)
        if shard is None:
            raise InputError(f"latent cache: expected row {key.row}, got none, in {self.folder}")
        names = ["latents", "masked", "mask", *self.settings.image_tensors(single=key.single)]
        prefix = sample_prefix(key.row, key.epoch % self.variants, key.single)
        return {name: self._tensor(shard, prefix + name) for name in names}

    def _text(self, caption: str) -> torch.Tensor:
        name = caption_name(caption)
        return self._tensor(text_shard(caption_shard(name, self._texts)), name, f" (caption {caption[:60]!r})")

    def _tensor(self, shard: str, name: str, what: str = "") -> torch.Tensor:
        try:
            return self._file(shard).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise InputError(f"latent cache: expected {name}{what}, got {error}, in {self.folder / shard}") from None

    def _file(self, shard: str) -> Any:
        file = self._open.pop(shard, None)
        if file is None:
            file = safe_open(self.folder / shard, framework="pt")
            while len(self._open) >= OPEN_SHARDS:
                del self._open[next(iter(self._open))]
        self._open[shard] = file  # the last of the dict is the one used last
        return file
