"""Where batches come from: clips encoded at every step, or a latent cache. Both give the trainer the same thing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from videopainter.data.training.decord_frames import InexactFiles
from videopainter.data.training.sample_order import SampleKey, SampleOrder
from videopainter.data.training.training_set import TrainingSample, TrainingSet
from videopainter.data.workers import begin_worker
from videopainter.models.backbones.protocol import Backbone
from videopainter.training.cache.reader import LatentCache
from videopainter.training.encoding import EncodedBatch, ImageConditioning, encode_captions, encode_pixels

# Captions whose embeddings are kept: 226×4096 bfloat16 numbers are 1.9 MB.
_KEPT_CAPTIONS = 256


class CaptionEncoder:
    """Captions to embeddings; the last ones are kept, since captions come back in every epoch."""

    def __init__(self, backbone: Backbone, tokenizer: Any, text_encoder: Any, max_length: int) -> None:
        self.backbone, self.max_length = backbone, max_length
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __call__(self, captions: Sequence[str], device: torch.device) -> torch.Tensor:
        """Embeddings (B, S, E)."""
        for caption in captions:
            if caption not in self._kept:
                embeds = encode_captions(
                    self.backbone, self.tokenizer, self.text_encoder, [caption], self.max_length, device
                )
                self._kept[caption] = embeds[0]
            self._kept.move_to_end(caption)
        stacked = torch.stack([self._kept[caption] for caption in captions])
        while len(self._kept) > _KEPT_CAPTIONS:
            self._kept.popitem(last=False)
        return stacked


class Encoder:
    """VAE, text encoder and image encoder on the training device."""

    def __init__(
        self, vae: Any, captions: CaptionEncoder, *, seed: int, hole_fill: float, images: ImageConditioning | None
    ) -> None:
        self.vae, self.captions, self.images = vae, captions, images
        self.options = {"seed": seed, "hole_fill": hole_fill, "images": images}

    def __call__(self, samples: Sequence[TrainingSample], device: torch.device) -> EncodedBatch:
        pixels = encode_pixels(self.vae, samples, device=device, **self.options)
        return pixels.with_prompts(self.captions([sample.caption for sample in samples], device))


class _Clips(Dataset):
    """Whole batches of clips, read in a worker."""

    def __init__(self, clips: TrainingSet) -> None:
        self.clips = clips

    def __getitem__(self, keys: list[SampleKey]) -> list[TrainingSample]:
        return [self.clips[key] for key in keys]


class _Cached(Dataset):
    """Whole batches of latents, read in a worker."""

    def __init__(self, cache: LatentCache, clips: TrainingSet) -> None:
        self.cache, self.clips = cache, clips

    def __getitem__(self, keys: list[SampleKey]) -> EncodedBatch:
        return self.cache.batch(keys, [self.clips.caption(key) for key in keys])


class Batches:
    """Endless batches on the device, from any batch on.

    Args:
        order: Which samples, in which order, for this process.
        clips: The training set; its captions are used with a cache, too.
        encode: Makes latents of clips; None: they come from `cache`.
        cache: A latent cache of these clips.
        on_unreadable: Called with the clips that could not be read, and how many were tried.
    """

    def __init__(
        self,
        order: SampleOrder,
        clips: TrainingSet,
        *,
        device: torch.device,
        encode: Encoder | None = None,
        cache: LatentCache | None = None,
        num_workers: int = 0,
        on_unreadable: Callable[[list[Any], int], None] | None = None,
    ) -> None:
        self.order, self.device, self.encode = order, device, encode
        self.on_unreadable = on_unreadable
        assert (encode is None) != (cache is None)
        self.data: Dataset = _Cached(cache, clips) if cache is not None else _Clips(clips)
        self.num_workers = num_workers
        self.inexact = InexactFiles()

    def start(self, batch_number: int) -> Iterator[EncodedBatch]:
        """Batches from `batch_number` on; nothing before it is read."""
        loader = DataLoader(
            self.data,
            batch_size=None,  # the sampler gives whole batches of keys
            sampler=_Keys(self.order, batch_number),
            num_workers=self.num_workers,
            worker_init_fn=begin_worker,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda" and self.encode is None,
        )
        for item in loader:
            yield self._encoded(item) if self.encode is not None else item.to(self.device)

    def _encoded(self, samples: list[TrainingSample]) -> EncodedBatch:
        assert self.encode is not None
        replaced = [clip for sample in samples for clip in sample.replaced]
        if self.on_unreadable is not None:
            self.on_unreadable(replaced, len(samples) + len(replaced))
        self.inexact.add(sample.inexact for sample in samples)
        return self.encode(samples, self.device)


class _Keys:
    """A sampler of whole batches of keys."""

    def __init__(self, order: SampleOrder, start: int) -> None:
        self.order, self.start = order, start

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self.order.batches(self.start)


def _as_it_is(item: Any) -> Any:
    return item
