"""What a stage is: a function of one row, with declared inputs, outputs, resources and models.

A row is a flat dict of what JSON holds, with an `id` of its own. A stage sees the columns that it declares and nothing
else, and adds those that it declares; so its record holds as long as those are the same, wherever it runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageResources:
    """What a process of the stage takes; so many fewer of them work at once. Each has its own GPUs."""

    cpus: int = 1
    gpus: int = 0


class RowDropped(Exception):
    """The row does not go on. `kind` is counted, `detail` listed."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail = kind, detail


class RowDelayed(Exception):
    """Nothing can be said of the row now (a server does not answer): no record is written, the next run tries again."""


class Stage(ABC):
    """One step. Made once per process; `setup` loads what is heavy before the first row.

    files: Outputs that name files below the work folder. Where one is gone, its row is worked on again.
    splits: Whether a row becomes any number of rows (`id-000`, `id-001`, ...), not just itself.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]] = ()
    resources: StageResources = StageResources()
    models: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[bool] = False

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What decides the result beside the row: options, models, a version that changes with the code's meaning."""

    def setup(self) -> None:  # noqa: B027 (most stages have nothing to load)
        """Load models."""

    def teardown(self) -> None:  # noqa: B027 (nor to let go)
        """Let them go: the next stage's may need the room."""

    @abstractmethod
    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        """The outputs of a row, of which only the inputs are there: one mapping, or any number where it `splits`.

        Raises:
            RowDropped: the row does not go on.
            InputError: its files cannot be read; so it does not go on either.
            RowDelayed: nobody knows yet.
        """


class SetStage(ABC):
    """A step that has to see all rows at once. It reads no files: it is quick, and has no records."""

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def drop(self, rows: Sequence[Row]) -> Mapping[str, RowDropped]:
        """{id: why} of the rows that do not go on; the same for the same rows in the same order."""


def weights_told(place: str) -> tuple[str, list[tuple[str, int]]]:
    """What tells weights (a file, a folder, a hub id) from others, without reading them: for a stage's settings."""
    path = Path(place)
    files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
    return path.name if files else place, [(file.name, file.stat().st_size) for file in files]
