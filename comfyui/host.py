"""What nodes ask of ComfyUI itself: where to work, how far they are, whether to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
from PIL import Image

from videopainter.errors import Interrupted
from videopainter.runs.watch import Watch

_PREVIEW = 512  # pixels of a preview's longer side


def work_folder(given: str) -> Path:
    """Where a node keeps what it works on: the folder given, else ComfyUI's temporary one, which a restart empties."""
    return Path(given) if given else Path(folder_paths.get_temp_directory()) / "videopainter"


class _Bar:
    """The bar on the node that runs, begun anew for every stage, with a picture of what was finished last."""

    def __init__(self) -> None:
        self._stage = ("", 0)
        self._bar: Any = None
        self._preview: tuple[str, Image.Image, int] | None = None

    def show(self, stage: str, done: int, total: int) -> None:
        if total == 0:  # a stage that is not counted
            return
        if self._stage != (stage, total):
            self._stage, self._bar = (stage, total), comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total, self._preview)
        self._preview = None

    def picture(self, frame: np.ndarray) -> None:
        self._preview = ("JPEG", Image.fromarray(frame), _PREVIEW)


@contextmanager
def watched() -> Iterator[Watch]:
    """Shows a run on its node. Where the user presses stop it ends as ComfyUI expects; what is finished is kept.

    Raises:
        InterruptProcessingException: the user stopped it.
    """
    bar = _Bar()
    try:
        yield Watch(
            on_progress=bar.show,
            on_preview=bar.picture,
            interrupted=comfy.model_management.processing_interrupted,
        )
    except Interrupted:
        comfy.model_management.throw_exception_if_processing_interrupted()
        raise
