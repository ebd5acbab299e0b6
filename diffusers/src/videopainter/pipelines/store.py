"""Finished windows of a run: in memory, or in a folder so that a killed run goes on where it was."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from videopainter.files import replacing, write_text
from videopainter.models.id_resample import ClipMemory, HoleTokens


class WindowStore:
    """Latents of finished windows, and the ID memory that the next one starts from.

    Args:
        folder: Where to keep them; None keeps them in memory.
        fingerprint: Names the settings and inputs they were made with.

    Raises:
        ValueError: if the folder holds windows with another fingerprint.
    """

    def __init__(self, folder: Path | None = None, fingerprint: str = "") -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self._windows: dict[int, torch.Tensor] = {}
        self._memory: dict[int, ClipMemory] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._check_fingerprint(folder)

    def _check_fingerprint(self, folder: Path) -> None:
        path = folder / "fingerprint.txt"
        if not path.exists():
            write_text(path, self.fingerprint)
        elif path.read_text() != self.fingerprint:
            raise ValueError(
                f"{folder}: expected windows of the same inputs and settings, got those of another run; remove it"
            )

    def __contains__(self, window: int) -> bool:
        return self._path("window", window).exists() if self.folder else window in self._windows

    def save(self, window: int, latents: torch.Tensor, memory: ClipMemory | None) -> None:
        """Keep a window's latents (1, T, 16, h, w) and its memory in main memory or on disk; the memory of earlier
        windows is dropped."""
        latents, memory = latents.cpu(), None if memory is None else memory.to("cpu")
        if self.folder is None:
            self._windows[window] = latents
            self._memory = {window: memory} if memory is not None else self._memory
            return
        # The memory goes first: a window that exists is complete.
        if memory is not None:
            tensors = _memory_tensors(memory)
            _save(self._path("memory", window), tensors)
        _save(self._path("window", window), {"latents": latents.contiguous()})
        if memory is not None:
            for path in self.folder.glob("memory_*.safetensors"):
                if path != self._path("memory", window):
                    path.unlink()

    def latents(self, window: int) -> torch.Tensor:
        if self.folder is None:
            return self._windows[window]
        with safe_open(self._path("window", window), "pt") as file:
            return file.get_tensor("latents")

    def memory(self, before: int) -> ClipMemory | None:
        """The newest memory of the windows before `before`, if any."""
        if self.folder is None:
            return next((m for window, m in sorted(self._memory.items(), reverse=True) if window < before), None)
        for window in reversed(range(before)):
            path = self._path("memory", window)
            if path.exists():
                return _load_memory(path)
        return None

    def _path(self, kind: str, window: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{kind}_{window:05d}.safetensors"


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as partial:
        save_file(tensors, partial)


def _memory_tensors(memory: ClipMemory) -> dict[str, torch.Tensor]:
    tensors = {f"hidden.{i:03d}": h.contiguous() for i, h in enumerate(memory.hidden)}
    tensors["index"] = memory.hole.index.contiguous()
    if memory.hole.valid is not None:
        tensors["valid"] = memory.hole.valid.contiguous()
    return tensors


def _load_memory(path: Path) -> ClipMemory:
    with safe_open(path, "pt") as file:
        names = sorted(name for name in file.keys() if name.startswith("hidden."))  # noqa: SIM118
        valid = file.get_tensor("valid") if "valid" in file.keys() else None  # noqa: SIM118
        return ClipMemory(HoleTokens(file.get_tensor("index"), valid), [file.get_tensor(name) for name in names])
