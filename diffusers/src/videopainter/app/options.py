"""The flags of `app/app.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from videopainter.flags import MAX_SIDE, flag, same_flag, switch
from videopainter.runs.options import ModelOptions, PromptOptions
from videopainter.segmentation.choosing import SegmenterOptions

_MODELS, _PROMPTS, _MASKS = ModelOptions, PromptOptions, SegmenterOptions


@dataclass(kw_only=True)
class AppOptions:
    """Models, where the app listens, and what its users may ask for."""

    _argument_group_name: ClassVar[str] = "app"

    model_path: str | None = same_flag(_MODELS, "model_path")
    inpainting_branch: str | None = same_flag(_MODELS, "inpainting_branch")
    id_adapter: str | None = flag(None, "ID-resample adapter: its folder (VideoPainterID/checkpoints) or its file.")
    img_inpainting_model: str = same_flag(_PROMPTS, "img_inpainting_model")
    llm_model: str | None = same_flag(_PROMPTS, "llm_model")
    segmenter: str = same_flag(_MASKS, "segmenter")
    text_model: str | None = same_flag(_MASKS, "text_model")
    dtype: Literal["bfloat16", "float16", "float32"] | None = same_flag(_MODELS, "dtype")
    device: str | None = same_flag(_MODELS, "device")
    memory: Literal["auto", "full", "model_offload", "group_offload", "sequential"] = same_flag(_MODELS, "memory")
    quantization: Literal["none", "int8", "fp8", "nf4"] = same_flag(_MODELS, "quantization")

    host: str = flag("127.0.0.1", "Address to listen at; 0.0.0.0 lets other machines in (give --auth then).")
    port: int = flag(12346, "Port to listen at.", least=0, most=65_535)
    open: bool = switch(False, "Open the page in this machine's browser.")
    auth: str | None = flag(None, "File with a line NAME:PASSWORD for everybody who may use the app.")
    root_path: str | None = flag(None, "Path below which a proxy serves the app, such as /videopainter.")
    work_dir: str | None = flag(None, "Folder of all projects. Default: videopainter/app in the user's cache.")
    max_upload_mb: int = flag(500, "Largest file that may be uploaded, in megabytes.", least=1, most=1_000_000)
    max_frames: int = flag(3000, "Most frames of a video.", least=1, most=10_000_000)
    max_side: int = flag(4096, "Longest side of a video in pixels.", least=16, most=MAX_SIDE)
    queue_size: int = flag(20, "Most jobs that wait or run at once.", least=1, most=10_000)
    idle_hours: float = flag(48, "After so many hours without use a project is removed.", above=0, most=1e6)
