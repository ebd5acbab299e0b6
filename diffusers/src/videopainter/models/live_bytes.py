"""How much memory a computation needs at its peak, found without doing it: live storages are added up.

Inside torch's FakeTensorMode tensors have shapes and no storage, so the sizes of published models are counted on any
machine, in seconds. What the CUDA context, the allocator's fragments, cuDNN's workspaces and cuBLAS's take is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Sum of the storages that operations inside this mode made and that are alive, and its peak, in bytes.

    Args:
        known: Tensors that do not count, such as weights.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: dict[int, Any] = {tensor.untyped_storage()._cdata: tensor for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        self._seen[key] = weakref.ref(storage, lambda _: self._gone(key, size))

    def leave(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage no longer: it stands for one in main memory."""
        key = tensor.untyped_storage()._cdata
        if key in self._seen:
            self.live -= tensor.untyped_storage().nbytes()
            self._seen[key] = tensor.untyped_storage()

    def _gone(self, key: int, size: int) -> None:
        self.live -= size
        self._seen.pop(key, None)


def weights_of(*modules: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers, for `LiveBytes(known=...)`."""
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention as GPUs run it: the fused kernel, which keeps query, key, value, output and one number per row.

    On tensors without storage torch would choose the form that writes out the attention matrix.
    """
    plain = torch.nn.functional.scaled_dot_product_attention

    def fused(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, **options: Any
    ) -> torch.Tensor:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return kernel(query, key, value, 0.0, False, attn_mask=attn_mask)[0]

    torch.nn.functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = plain
