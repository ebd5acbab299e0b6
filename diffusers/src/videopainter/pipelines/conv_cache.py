"""The temporal cache of CogVideoX's decoder, kept small: it is used up as it is read, and may wait in main memory.

Upstream holds the old cache until a chunk is decoded, while the new one grows beside it, and half of each is a copy of
what its pointwise convolutions saw, which nobody reads. At 480×720 in bfloat16 that is 9 GiB; here it is 1.1 to 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d


def to_main_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Where it waits for its tile's next turn. Not page-locked: pinning gigabytes takes longer than the copy."""
    return tensor.cpu()


def fetch(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Back to where the decoder runs."""
    return tensor.to(device)


class UsedUpCache(dict):
    """A cache whose entries leave it when they are read, onto `device`.

    Upstream's blocks read every entry once, with `get`.
    """

    def __init__(self, cache: dict[str, Any], device: torch.device) -> None:
        super().__init__(cache)
        self.device = device

    def get(self, key: str, default: Any = None) -> Any:
        value = self.pop(key, default)
        if isinstance(value, dict):
            return UsedUpCache(value, self.device)
        return fetch(value, self.device) if isinstance(value, torch.Tensor) else value


@contextmanager
def small_cache(decoder: torch.nn.Module, *, park: bool) -> Iterator[None]:
    """Inside, `decoder` gives back a cache without what nobody reads; in main memory where `park` says so."""

    def keep(conv: Any, inputs: Any, result: tuple[torch.Tensor, Any]) -> tuple[torch.Tensor, Any]:
        output, cache = result
        if cache is None or conv.time_kernel_size == 1:
            return output, None
        return output, to_main_memory(cache) if park else cache

    convs = [module for module in decoder.modules() if isinstance(module, CogVideoXCausalConv3d)]
    handles = [conv.register_forward_hook(keep) for conv in convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
