"""The clips of a validation: read and encoded once, then kept on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSample, TrainingSet
from videopainter.errors import InputError
from videopainter.models.backbones.protocol import Backbone
from videopainter.models.backbones.wan_video.image_encoder import ImageEncoder
from videopainter.training.cache.reader import LatentCache
from videopainter.training.encoding import EncodedBatch, ImageConditioning, encode_captions, encode_pixels


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What turns pixels and captions into latents and embeddings; without a text encoder only pixels."""

    vae: Any
    images: ImageEncoder | None = None
    tokenizer: Any = None
    text_encoder: Any = None


# Loads encoders that a training from a latent cache does not hold; without `text` the VAE alone.
EncoderLoader = Callable[[bool], Encoders]


class ValidationClips:
    """The first clips of the validation set.

    Args:
        backbone: The adapter of its family: how captions are embedded, whether there is an image condition.
        dataset: The validation set, without augmentation.
        count: How many clips, at most; the first ones of the CSV that passed the rules.
        encoders: Live ones, or a function that loads them for as long as they are needed; None: neither (then `cache`
            must hold the clips).
        cache: The validation set's latent cache; None: clips are encoded.
        seed: Of the noise on first frames.
        hole_fill: As `encode_pixels` takes it.
        max_text_seq_length: Tokens of a caption.
        device: Where encoders run.

    Raises:
        InputError: if the cache holds none of the clips.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: TrainingSet,
        count: int,
        *,
        encoders: Encoders | EncoderLoader | None,
        cache: LatentCache | None = None,
        seed: int = 42,
        hole_fill: float = 0.0,
        max_text_seq_length: int,
        device: torch.device | str = "cpu",
    ) -> None:
        cached = set(dataset.rows if cache is None else cache.rows)
        rows = [row for row in dataset.rows if row in cached]
        if not rows:
            raise InputError(f"val_latent_cache: expected clips of {dataset.options.meta_file_path}, got none of them")
        self.keys = [SampleKey(0, row, False) for row in rows[:count]]
        self.device = torch.device(device)
        self._dataset, self._encoders, self._cache = dataset, encoders, cache
        self._backbone, self._seed, self._hole_fill = backbone, seed, hole_fill
        self._max_length = max_text_seq_length
        self._texts: dict[str, torch.Tensor] = {}
        self._batches: dict[tuple[SampleKey, ...], EncodedBatch] = {}

    @property
    def can_encode(self) -> bool:
        """Whether there is a VAE, or a way to load one."""
        return self._encoders is not None

    @property
    def available(self) -> bool:
        """Whether encoded clips can be had at all."""
        return self.can_encode or self._cache is not None

    def sample(self, key: SampleKey) -> TrainingSample:
        """Frames, masks and caption; of a clip that stands in, where the key's own cannot be read."""
        return self._dataset[key]

    def batch(self, keys: Sequence[SampleKey]) -> EncodedBatch:
        """Encoded clips on the CPU, in the encoders' dtype or the cache's. The same keys are encoded once."""
        name = tuple(keys)
        if name not in self._batches:
            if self._cache is None:
                self._batches[name] = self._encode([self.sample(key) for key in keys])
            else:
                self._batches[name] = self._cache.batch(keys, [self._dataset.caption(key) for key in keys])
        return self._batches[name]

    def _encode(self, samples: Sequence[TrainingSample]) -> EncodedBatch:
        embeds = torch.cat([self.embeds(sample.caption) for sample in samples])
        with self.encoders() as encoders, on_device(encoders.vae, self.device):
            pixels = encode_pixels(
                encoders.vae,
                samples,
                seed=self._seed,
                hole_fill=self._hole_fill,
                images=ImageConditioning.of(self._backbone, encoders.images, halves=False),
                device=self.device,
            )
        return _in_order(pixels.to("cpu").with_prompts(embeds))

    def embeds(self, caption: str) -> torch.Tensor:
        """Embeddings (1, S, E) of a clip's caption or of the empty one, on the CPU."""
        if caption not in self._texts:
            self._texts |= self._embed(caption)
        return self._texts[caption]

    def _embed(self, caption: str) -> dict[str, torch.Tensor]:
        if self._cache is not None:
            return {caption: self._cache.batch(self.keys[:1], [caption]).prompt_embeds}
        # All at once, so that a text encoder is loaded once.
        captions = list(dict.fromkeys([caption, "", *map(self._dataset.caption, self.keys)]))
        with self.encoders(text=True) as encoders:
            embeds = encode_captions(
                self._backbone, encoders.tokenizer, encoders.text_encoder, captions, self._max_length
            )
        return dict(zip(captions, embeds.cpu().split(1), strict=True))

    @contextmanager
    def encoders(self, *, text: bool = False) -> Iterator[Encoders]:
        """The live encoders; or loaded ones, which are dropped after the block."""
        if isinstance(self._encoders, Encoders):
            yield self._encoders
            return
        assert self._encoders is not None, "nothing to encode with"
        loaded = self._encoders(text)
        try:
            yield loaded
        finally:
            del loaded
            free_memory()


def _in_order(batch: EncodedBatch) -> EncodedBatch:
    """Rows one after another in memory, as a cache gives them: sums depend on it in their last bits."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{k: v.contiguous() for k, v in values.items() if isinstance(v, torch.Tensor)})


@contextmanager
def on_device(model: Any, device: torch.device) -> Iterator[None]:
    """The model on another device for the block, and back where it was."""
    before = model.device
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


def free_memory() -> None:
    """What nobody holds any more goes back to the GPU; main memory needs no asking."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
