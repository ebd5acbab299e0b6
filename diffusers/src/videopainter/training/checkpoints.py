"""Checkpoints on disk: written under another name and renamed when whole, found again, checked, pruned.

checkpoint-500/
    branch/ or pytorch_lora_weights.safetensors    the trained weights, as the public release lays them out
    state/                                         optimizer, schedule, random state of every process
    position.json                                  step and samples seen, and the flags of the run
    manifest.json                                  size and SHA-256 of every other file, written last
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import publish_folder, read_json, remove_folder, sha256_file, temporary, write_json

MANIFEST, POSITION, STATE = "manifest.json", "position.json", "state"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Position:
    """Where a training stands: optimizer steps, and samples over all processes."""

    step: int = 0
    samples: int = 0

    @classmethod
    def read(cls, checkpoint: Path) -> Position:
        content = read_json(checkpoint / POSITION, "checkpoint", lenient=True)
        return cls(step=content["step"], samples=content["samples"])


class CheckpointFolder:
    """The checkpoints of one training.

    Args:
        folder: The training's output_dir.
        limit: Keep the latest so many; None: all.
    """

    def __init__(self, folder: Path | str, limit: int | None = None) -> None:
        self.folder, self.limit = Path(folder), limit

    def __iter__(self) -> Iterator[Path]:
        """Whole checkpoints by their names, the latest first; their contents are not looked at."""
        if not self.folder.is_dir():
            return
        found = [(int(match[1]), path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        yield from (path for _, path in sorted(found, reverse=True) if path.is_dir())

    def begin(self, step: int) -> Path:
        """An empty folder to write the checkpoint of `step` into; one process calls this."""
        partial = self.partial(step)
        remove_folder(partial)
        partial.mkdir(parents=True)
        return partial

    def partial(self, step: int) -> Path:
        """That folder, for the other processes."""
        return temporary(self.folder / f"checkpoint-{step}", shared=True)

    def finish(self, step: int, position: dict[str, object]) -> Path:
        """Make what lies in the partial folder the checkpoint of `step`; then remove checkpoints above the limit."""
        partial = self.partial(step)
        write_json(partial / POSITION, position, indent=1)
        write_json(partial / MANIFEST, {"files": _describe(partial)}, indent=1)
        target = self.folder / f"checkpoint-{step}"
        publish_folder(partial, target)
        self._prune()
        return target

    def _prune(self) -> None:
        kept = len(list(self)) if self.limit is None else self.limit
        for old in list(self)[kept:]:
            remove_folder(old)

    def find(self, wanted: str, warn: Callable[[str], None]) -> Path | None:
        """The checkpoint to go on from: `latest` (None if there is none), a folder, or a name in this folder.

        Damaged ones are passed over for `latest`, with a warning; InputError where one was asked for by name.
        """
        if wanted != "latest":
            return self._named(wanted)
        for checkpoint in self:
            damage = damage_of(checkpoint)
            if damage is None:
                return checkpoint
            warn(f"{checkpoint}: passed over, {damage}")
        return None

    def _named(self, wanted: str) -> Path:
        checkpoint = next((p for p in (Path(wanted), self.folder / wanted) if p.is_dir()), None)
        if checkpoint is None:
            raise InputError(f"resume_from_checkpoint: expected `latest` or a checkpoint's folder, found no {wanted}")
        damage = damage_of(checkpoint)
        if damage is not None:
            raise InputError(f"resume_from_checkpoint: {checkpoint}: {damage}")
        return checkpoint


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None; reads all of it."""
    try:
        files = read_json(checkpoint / MANIFEST)["files"]
        Position.read(checkpoint)
    except (ValueError, KeyError, TypeError):
        return f"it has no readable {MANIFEST} and {POSITION}"
    for name, (size, digest) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, {size} were written"
        if sha256_file(path) != digest:
            return f"{name} is not what was written (checksum)"
    return None


def check_processes(checkpoint: Path, processes: int) -> None:
    """InputError where DeepSpeed cut the optimizer's state up among another number of processes; loads nothing."""
    parts = len(list((checkpoint / STATE).rglob("*zero_pp_rank_*_optim_states.pt")))
    if parts not in (0, processes):
        raise InputError(
            f"resume_from_checkpoint: expected {parts} processes (NUM_PROCESSES={parts}), which cut up the optimizer's "
            f"state with DeepSpeed, got {processes}, in {checkpoint}"
        )


def _describe(folder: Path) -> dict[str, tuple[int, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_file(path)) for path in files}
