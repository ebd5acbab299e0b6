"""Video inpainting and editing of any length, as an overlay on upstream diffusers.

Exports are lazy: importing the package reads no model code, needs no GPU, no key and no network.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "CogvideoXBranchModel": "videopainter.models.context_branch",
    "VideoPainterTransformer3DModel": "videopainter.models.transformer",
    "VideoPainterPipeline": "videopainter.pipelines.inpaint",
    "load_pipeline": "videopainter.pipelines.loading",
    "Clip": "videopainter.data.clip",
    "InputError": "videopainter.errors",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from videopainter.data.clip import Clip as Clip
    from videopainter.errors import InputError as InputError
    from videopainter.models.context_branch import CogvideoXBranchModel as CogvideoXBranchModel
    from videopainter.models.transformer import (
        VideoPainterTransformer3DModel as VideoPainterTransformer3DModel,
    )
    from videopainter.pipelines.inpaint import VideoPainterPipeline as VideoPainterPipeline
    from videopainter.pipelines.loading import load_pipeline as load_pipeline


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
