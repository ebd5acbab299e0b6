"""Fillers for the first frame: what a window's image condition shows inside the hole.

"opencv" needs no weights; any diffusers inpainting pipeline (FLUX.1-Fill, Stable Diffusion inpainting, ...) works by
its folder or id; "backbone" is the video model with a clip of one frame; "none" leaves the hole
to the windows. Importing this module loads neither torch nor diffusers.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.errors import InputError, one_line
from videopainter.pipelines.memory import filler_mode
from videopainter.pipelines.placement import offload_blocks, offload_layers
from videopainter.pipelines.settings import InpaintSettings
from videopainter.vision.fillers import continue_colours

# As the release calls FLUX.1-Fill.
_FLUX_FILL = {"guidance_scale": 30.0, "num_inference_steps": 50, "max_sequence_length": 512}
# Others: 50 steps, their own guidance, and a hole that is painted anew (some keep 40 % of it by default).
_OTHERS = {"num_inference_steps": 50, "strength": 1.0}
_MULTIPLE = 16
# Image pipelines are made for about one megapixel and repeat themselves far above it.
_MOST_PIXELS = 2**21


# The video model itself.
VIDEO_MODEL = "backbone"


class FirstFrameFiller(Protocol):
    """Paints the hole of one image. `reads_caption`: its prompt is the video's own, not the image prompt."""

    reads_caption: bool

    def fill(self, image: np.ndarray, mask: np.ndarray, *, prompt: str, seed: int) -> np.ndarray | None:
        """The image, uint8 RGB (H, W, 3), with `mask` (bool (H, W), True = hole) painted and the rest untouched.

        None where this filler leaves the frame as it is.
        """
        ...

    def close(self) -> None:
        """Frees what the filler holds; a later `fill` loads it again."""
        ...


def reads_prompts(name: str) -> bool:
    """Whether the filler of that name paints what a prompt says."""
    return name not in ("opencv", "none")


def is_image_model(name: str) -> bool:
    """Whether the filler of that name is a model of its own, with image prompts of its own."""
    return name not in ("opencv", "none", VIDEO_MODEL)


def check_filler(name: str) -> None:
    """Whether a filler can be expected to work: InputError, in one line, for what is missing. Loads no model."""
    if is_image_model(name):
        _pipeline_class(name)


def make_filler(name: str, *, dtype: Any = None, device: Any = None) -> FirstFrameFiller:
    """A filler by name: "opencv", "none", or the folder or id of a diffusers inpainting pipeline.

    `dtype` (torch.dtype) and `device` are those of the pipeline; None: bfloat16 on a GPU if there is one, else float32
    on the CPU. The pipeline is loaded by the first `fill`. Raises InputError as `check_filler` does.
    """
    if name == "opencv":
        return OpenCVFiller()
    if name == "none":
        return NoFiller()
    return DiffusersFiller(name, dtype=dtype, device=device)


class NoFiller:
    """Leaves the first frame's hole to the video model."""

    reads_caption = False

    def fill(self, image: np.ndarray, mask: np.ndarray, *, prompt: str, seed: int) -> None:
        return None

    def close(self) -> None:
        pass


class OpenCVFiller:
    """Continues the surrounding colours into the hole, smoothly; prompt and seed play no part.

    From coarse to fine, because OpenCV's own methods (Telea, Navier-Stokes) draw streaks through large holes and
    overshoot in brightness.
    """

    reads_caption = False

    def fill(self, image: np.ndarray, mask: np.ndarray, *, prompt: str = "", seed: int = 0) -> np.ndarray:
        _check_pair(image, mask)
        if mask.all():
            return np.full_like(image, 127)  # nothing to continue
        filled = continue_colours(image.astype(np.float32), mask)
        return _only_hole(image, mask, np.rint(filled).astype(np.uint8))

    def close(self) -> None:
        pass


class DiffusersFiller:
    """A diffusers inpainting pipeline as filler."""

    reads_caption = False

    def __init__(self, name: str, *, dtype: Any = None, device: Any = None) -> None:
        self.name, self.dtype, self.device = name, dtype, device
        self.class_name = _pipeline_class(name)
        self._pipe: Any = None

    def fill(self, image: np.ndarray, mask: np.ndarray, *, prompt: str, seed: int) -> np.ndarray:
        _check_pair(image, mask)
        if not mask.any():
            return image.copy()
        import torch

        pipe = self._load()
        width, height = _working_size(image.shape[1], image.shape[0])
        options = _FLUX_FILL if type(pipe).__name__ == "FluxFillPipeline" else _OTHERS
        accepted = inspect.signature(pipe.__call__).parameters
        output = pipe(
            prompt=prompt,
            image=Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS),
            mask_image=Image.fromarray(mask).convert("L").resize((width, height), Image.Resampling.NEAREST),
            height=height,
            width=width,
            generator=torch.Generator("cpu").manual_seed(seed),
            **{key: value for key, value in options.items() if key in accepted},
        )
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise InputError(
                f"first frame: expected a picture, got one that the safety checker of {self.name} "
                "withheld; use another prompt or seed"
            )
        painted = output.images[0].convert("RGB").resize(image.shape[1::-1], Image.Resampling.LANCZOS)
        return _only_hole(image, mask, np.asarray(painted))

    def close(self) -> None:
        if self._pipe is None:
            return
        import gc

        import torch

        self._pipe.maybe_free_model_hooks()
        self._pipe = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self) -> Any:
        if self._pipe is not None:
            return self._pipe
        import torch

        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = self.dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        try:
            pipe = _inpainting_class(self.class_name, self.name).from_pretrained(self.name, torch_dtype=dtype)
        except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
            reason = one_line(error)[:300]
            raise InputError(f"first-frame pipeline: expected one that loads, got {reason}, in {self.name}") from error
        pipe.set_progress_bar_config(desc="first frame", leave=False)
        if device.type != "cuda":
            pipe.to(device)
        else:
            _offload(pipe, device, torch.cuda.mem_get_info(device)[0])
        self._pipe = pipe
        return pipe


class BackboneFiller:
    """Paints a first frame as a clip of one frame, of what the video's own prompt says.

    What a model paints into one frame is often clearer than what it paints into many at once, and the video goes on
    from there.

    Args:
        pipe: A loaded `VideoPainterPipeline`; it stays loaded.
        settings: Of the video: its steps, guidance and size are this frame's, too.
    """

    reads_caption = True

    def __init__(self, pipe: Any, settings: InpaintSettings, negative_prompt: str = "") -> None:
        self._pipe, self._settings, self._negative_prompt = pipe, settings, negative_prompt

    def fill(self, image: np.ndarray, mask: np.ndarray, *, prompt: str, seed: int) -> np.ndarray:
        if not mask.any():
            return image.copy()
        settings = replace(self._settings, num_frames=1, overlap_frames=0, first_frame_gt=False, crop="none", seed=seed)
        from videopainter.pipelines.streaming import inpaint_stream

        frames, masks = ArrayFrames(image[None]), ArrayMasks(mask[None])
        chunks = inpaint_stream(
            self._pipe, frames, masks, settings=settings, prompt=prompt, negative_prompt=self._negative_prompt
        )
        return np.where(mask[..., None], np.concatenate([*chunks])[0], image)

    def close(self) -> None:
        self._pipe.maybe_free_model_hooks()


def _offload(pipe: Any, device: Any, free: int) -> None:
    """One part at a time on the GPU where the largest fits; FLUX's 22 GiB do not on 24 GB: then block by block."""
    import torch

    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    sizes = {name: sum(t.nbytes for t in (*m.parameters(), *m.buffers())) for name, m in parts.items()}
    if filler_mode(sizes, free) == "model_offload":
        pipe.enable_model_cpu_offload(device=device)
        return
    for name, part in parts.items():
        if name != "vae" and hasattr(part, "enable_group_offload"):
            offload_blocks(part, device)
        else:  # encoders, a safety checker
            offload_layers(part, device)
    if hasattr(pipe, "vae") and hasattr(pipe.vae, "enable_tiling"):
        pipe.vae.enable_tiling()


def _pipeline_class(name: str) -> str:
    """The pipeline class a folder's (or id's) model_index.json names."""
    folder = Path(name)
    if name and folder.is_dir():
        index = folder / "model_index.json"
        if not index.is_file():
            raise InputError(f"first-frame pipeline: expected a diffusers pipeline, got no model_index.json, in {name}")
    elif name and folder.exists():
        raise InputError(f"first-frame pipeline: expected a folder or an id, got a file: {name}")
    elif name.count("/") == 1 and name[0] not in "./~":
        index = _index_of_id(name)
        if index is None:
            return ""  # known to the hub; read when it is loaded
    else:
        raise InputError(
            f"img_inpainting_model: expected opencv, backbone, none, or the folder or id of a diffusers pipeline, "
            f"got {name!r}; "
            "img_inpainting_model=opencv (--img_inpainting_model opencv) needs no weights"
        )
    try:
        class_name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"first-frame pipeline: expected the name of a pipeline class, got none, in {index}") from None
    if not isinstance(class_name, str) or not class_name.endswith("Pipeline"):
        raise InputError(f"first-frame pipeline: expected a diffusers pipeline, got {class_name!r}, in {index}")
    return class_name


def _index_of_id(name: str) -> Path | None:
    """model_index.json in the local cache; None where only the hub has it; InputError where neither."""
    from huggingface_hub import constants, get_session, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    cached = try_to_load_from_cache(name, "model_index.json")
    if isinstance(cached, str):
        return Path(cached)
    found = False
    if not constants.HF_HUB_OFFLINE:
        # One short try: the hub client's own would go on for half a minute without a network.
        with contextlib.suppress(Exception):
            url, headers = hf_hub_url(name, "model_index.json"), build_hf_headers()
            found = get_session().head(url, headers=headers, timeout=10, follow_redirects=True).is_success
    if not found:
        raise InputError(f"first-frame pipeline: expected a folder, or an id that can be reached, got {name}")
    return None


def _inpainting_class(class_name: str, name: str) -> Any:
    """The named class if it inpaints; otherwise the inpainting one for the same weights."""
    import diffusers

    if not class_name:
        config: Any = diffusers.DiffusionPipeline.load_config(name)
        class_name = str(config.get("_class_name", ""))
    named = getattr(diffusers, class_name, None)
    if named is None:
        raise InputError(f"a pipeline that diffusers {diffusers.__version__} does not have: {class_name!r}, in {name}")
    if "mask_image" in inspect.signature(named.__call__).parameters:
        return named
    return diffusers.AutoPipelineForInpainting


def _check_pair(image: np.ndarray, mask: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise ValueError(
            f"expected uint8 (H, W, 3) and bool (H, W), {image.dtype} {image.shape} and {mask.dtype} {mask.shape} came"
        )


def _only_hole(image: np.ndarray, mask: np.ndarray, painted: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], painted, image)


def _working_size(width: int, height: int) -> tuple[int, int]:
    """The size to paint at: sides a multiple of 16, about the image's own, at most two megapixels."""
    scale = min(1.0, math.sqrt(_MOST_PIXELS / (width * height)))
    return (
        max(_MULTIPLE, round(width * scale / _MULTIPLE) * _MULTIPLE),
        max(_MULTIPLE, round(height * scale / _MULTIPLE) * _MULTIPLE),
    )
