"""An accelerator that computes shapes, dtypes and devices alone, to run the 5B models' code where there is no GPU.

A PrivateUse1 device written in Python, under `FakeTensorMode` (a fake `cuda` device gets as far as the first
convolution on torch's CPU build). `Watch` sees every operation and notes

- tensors of different devices in one operation (`FakeTensorMode` itself raises there),
- products (matrices, convolutions, attention) in float32,
- waits of the host for the device: `.item()`, `nonzero` and the like, copies to the host, and copies to the device that
  are not both from page-locked memory and asynchronous.

Not covered: streams, page-locked memory as such (`pin_memory` only marks a tensor here), kernels and their numbers.

A registered device stays for the life of a process and changes what libraries do in it, so cases run in processes of
their own (`in_own_process`).
"""

from __future__ import annotations

import multiprocessing
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import call_by_name, clean_process
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
NAME = "fakegpu"

PRODUCTS = {
    aten.mm,
    aten.addmm,
    aten.bmm,
    aten.baddbmm,
    aten.convolution,
    aten.convolution_backward,
    aten._scaled_dot_product_fused_attention_overrideable,
}
ASKS_HOST = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero}
COPIES = {aten._to_copy, aten.copy_}
INDEXED = {aten.index, aten.index_put, aten.index_put_}


def device() -> torch.device:
    """The fake accelerator of this process; registered at the first call."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

        _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
        _register_autocast()
    return torch.device(NAME, 0)


class _Backend:
    """What torch asks a backend's module."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        pass

    @contextmanager
    def device(self, device: Any) -> Iterator[None]:
        yield

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]


class Watch(TorchDispatchMode):
    """Notes what an accelerator would suffer from, as lines with the place in the product that caused it.

    Args:
        count: What the host is told where it asks the device for an integer (how many tokens lie in the hole).

    Attributes:
        waits: Of the host for the device, while `stepping`.
        products: In float32, anywhere.
        stepping: Whether the host must not wait now.
        steps: Counted by whoever runs some.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.stepping = count, False
        self.waits: list[str] = []
        self.products: list[str] = []
        self.steps = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        packet = getattr(func, "overloadpacket", func)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(tensor.device.type == NAME for tensor in tensors)
        if on_device and packet in PRODUCTS and any(tensor.dtype == torch.float32 for tensor in tensors):
            self.products.append(_note(func, tensors))
        if packet in ASKS_HOST:
            if on_device:
                self._waits(func, tensors)
            return self._answer(packet, func, args, kwargs, tensors)
        if packet in COPIES:
            args = self._copies(packet, func, args, kwargs)
        if packet in INDEXED and on_device and any(tensor.device.type != NAME for tensor in tensors if tensor.ndim):
            self._waits(func, tensors)
        return func(*args, **kwargs)

    def _waits(self, func: Any, tensors: list[torch.Tensor]) -> None:
        if self.stepping:
            self.waits.append(_note(func, tensors))

    def _copies(self, packet: Any, func: Any, args: Any, kwargs: Any) -> Any:
        """Note a copy that waits; gives the arguments to copy with."""
        if packet is aten.copy_:
            target, source = args[0].device, args[1]
            overlaps = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        else:
            source = args[0]
            target = torch.device(kwargs.get("device") or source.device)
            overlaps = kwargs.get("non_blocking", False)
        if NAME not in (target.type, source.device.type) or target.type == source.device.type:
            return args
        if target.type != NAME or not (overlaps and getattr(source, "pinned", False)):
            self._waits(func, [source])
        if packet is not aten._to_copy:
            return args
        valueless = source.new_empty(source.shape)
        valueless.constant = None  # CPU tensors that have values would be sent in earnest
        return (valueless, *args[1:])

    def _answer(self, packet: Any, func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor]) -> Any:
        if packet is aten.equal or packet is aten.is_nonzero:
            return True
        if packet is not aten._local_scalar_dense:
            return func(*args, **kwargs)
        constant = getattr(tensors[0], "constant", tensors[0])
        if isinstance(constant, torch.Tensor) and not isinstance(constant, FakeTensor):
            return func(constant)
        if tensors[0].dtype == torch.bool:
            return True
        if tensors[0].dtype.is_floating_point:
            return 0.5
        return self.count if tensors[0].device.type == NAME else 1

    @contextmanager
    def no_waiting(self) -> Iterator[None]:
        """The host must not wait for the device inside."""
        before, self.stepping = self.stepping, True
        try:
            yield
        finally:
            self.stepping = before

    def check(self) -> None:
        """AssertionError that lists what was noted."""
        found = [f"host waits: {line}" for line in self.waits] + [f"float32: {line}" for line in self.products]
        assert not found, "\n".join(f"{found.count(line)} x {line}" for line in dict.fromkeys(found))


def _note(func: Any, tensors: list[torch.Tensor]) -> str:
    """An operation, what it was given, and the innermost lines of the product and of the caller."""
    given = ", ".join(f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}@{t.device.type}" for t in tensors)
    frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and f.filename != __file__]
    ours = [f for f in frames if "/videopainter/" in f.filename or "/tests/" in f.filename][-1:]
    places = dict.fromkeys(f"{Path(f.filename).name}:{f.lineno} {f.line}" for f in [*ours, *frames[-1:]])
    return f"{func} of {given} at {' < '.join(places)}"


def _attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, **options: Any) -> Any:
    """One operation, as on a GPU; torch would write it out in float32 for a device that it does not know."""
    if torch.is_autocast_enabled(NAME):
        query, key, value = (_cast(x, torch.get_autocast_dtype(NAME)) for x in (query, key, value))
    if attn_mask is not None:
        assert attn_mask.device == query.device
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    assert query.dtype == key.dtype == value.dtype, f"attention of {query.dtype}, {key.dtype}, {value.dtype}"
    out, *_ = aten._scaled_dot_product_fused_attention_overrideable(
        query, key, value, attn_mask, dropout_p, options.get("is_causal", False), scale=options.get("scale")
    )
    return out


def _register_autocast() -> None:
    """CUDA's autocast for this device: torch's own lists of what runs in low precision and what in float32."""
    _FALLBACK.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text()
    for macro, lower in (("LOWER_PRECISION_FP", True), ("FP32", False), ("FP32_SET_OPT_DTYPE", False)):
        body = re.search(rf"#define AT_FORALL_{macro}\(_\)(.*?)\n\n", header, re.DOTALL)
        assert body is not None
        for name, overload in re.findall(r"_\((\w+)(?:, (\w+))?\)", body[1]):
            if hasattr(aten, name):
                packet = getattr(aten, name)
                op = getattr(
                    packet, overload or ("default" if "default" in packet.overloads() else packet.overloads()[0])
                )
                _LIBRARY.impl(op, _autocast(op, lower), "AutocastPrivateUse1", with_keyset=True)


# What they register stays as long as they do.
_LIBRARY, _FALLBACK = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")


def _autocast(op: Any, lower: bool) -> Any:
    def call(keys: Any, *args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype(NAME) if lower else torch.float32
        excluded = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            args, kwargs = tree_map_only(torch.Tensor, lambda x: _cast(x, dtype), (args, kwargs))
            return op(*args, **kwargs)

    return call


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() and tensor.device.type == NAME else tensor


def _pinned(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    copy = tensor.clone()
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _numpy(tensor: torch.Tensor, *_: Any, **__: Any) -> np.ndarray:
    assert tensor.device.type == "cpu", f"numpy of a tensor on {tensor.device}"
    kinds = {torch.uint8: np.uint8, torch.float32: np.float32, torch.bool: np.bool_, torch.int64: np.int64}
    return np.zeros(tuple(tensor.shape), kinds[tensor.dtype])


@contextmanager
def accelerator(count: int = 1000) -> Iterator[Watch]:
    """A world of fake tensors with an accelerator in it, watched."""
    device()
    with ExitStack() as stack:
        for owner, name, replacement in (
            (torch.nn.functional, "scaled_dot_product_attention", _attention),
            (torch.Tensor, "pin_memory", _pinned),
            (FakeTensor, "numpy", _numpy),
        ):
            stack.enter_context(mock.patch.object(owner, name, replacement, create=True))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(Watch(count))


def in_own_process(function: Callable[..., None], *args: Any, timeout: float = 300) -> None:
    """Run a module-level function in a process that has the accelerator; what it raises is raised here, as text.

    One process serves all cases: importing everything takes longer than most of them.
    """
    if not _SERVER or not _SERVER[0].is_alive():
        here, there = multiprocessing.get_context("forkserver").Pipe()
        process = clean_process(_serve, there)
        process.daemon = True
        process.start()
        there.close()
        _SERVER[:] = [process, here]
    process, connection = _SERVER
    connection.send((function.__module__.rpartition(".")[2], function.__name__, args))
    try:
        failure = connection.recv() if connection.poll(timeout) else f"took more than {timeout} s"
    except EOFError:
        failure = "the process died"
    if failure is not None:
        process.kill()  # the next case starts afresh
        process.join()
        pytest.fail(f"{function.__name__}{args}: {failure}", pytrace=False)


_SERVER: list[Any] = []


def _serve(connection: Any) -> None:
    while True:
        try:
            call_by_name(*connection.recv())
            connection.send(None)
        except EOFError:
            return
        except BaseException:
            connection.send(traceback.format_exc())
