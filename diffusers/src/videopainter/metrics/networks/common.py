"""What the networks of metrics share: how their files are read, and arithmetic that is the same on every device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import nn

from videopainter.errors import InputError

_POINTER = b"version https://git-lfs"


def reject_pointer(path: Path) -> None:
    """InputError where `path` cannot be read, or holds git-lfs's note on a file instead of the file."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError as error:
        raise InputError(f"weights: expected a file that can be read, got {error.strerror}, in {path}") from None
    if start == _POINTER:
        raise InputError(
            f"weights: expected the file itself, got a git-lfs pointer (run `git lfs pull` beside it), in {path}"
        )


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU; InputError for a file that is something else. Runs no code of the file."""
    reject_pointer(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"expected weights saved by torch, got an unreadable file ({_kind(error)}): {path}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"expected weights (tensors by name), got a {type(state).__name__} of other things: {path}")
    return state


def load_network(model: nn.Module, state: dict[str, torch.Tensor], what: str, path: Path) -> None:
    """Put `state` into `model`; InputError, in one line, where a name or a shape does not fit."""
    own = model.state_dict()
    for key, value in state.items():
        if key in own and own[key].shape != value.shape:
            shapes = f"{tuple(own[key].shape)}, got {tuple(value.shape)}"
            raise InputError(f"expected weights of {what}, {key} of shape {shapes}: {path}")
    # Counts of batches, which files from before torch 0.4.1 lack, are not missing for torch either.
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing:
        raise InputError(f"expected weights of {what}, {len(missing)} are missing ({missing[0]}, ...): {path}")
    if unexpected:
        raise InputError(f"expected weights of {what}, got {len(unexpected)} others ({unexpected[0]}, ...): {path}")


def exact_convolutions() -> AbstractContextManager[None]:
    """Convolutions in full float32 on GPUs too, where torch's default is TF32 (10 bits), and the same in every run."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def _kind(error: Exception) -> str:
    return type(error).__name__
