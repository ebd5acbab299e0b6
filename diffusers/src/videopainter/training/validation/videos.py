"""Videos inpainted with the models as they are at a step of the training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.data.panels import side_by_side
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.files import write_bytes
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.id_adapter import IDAdapter
from videopainter.pipelines.inpaint import PIPELINES, InpaintingPipeline
from videopainter.pipelines.settings import InpaintSettings
from videopainter.training.validation.clips import ValidationClips, on_device


@dataclass(frozen=True, kw_only=True)
class LiveModels:
    """The modules that videos are made with, unwrapped, as the trainer holds them.

    Args:
        scheduler: The backbone's own; its noise schedule goes into a DPM scheduler, which inference uses.
        branch: None: the bare backbone.
        id_adapter: How the backbone's LoRA is being trained; its form of ID resampling is used.
    """

    transformer: Any
    scheduler: Any
    branch: Any = None
    id_adapter: IDAdapter | None = None

    @property
    def modules(self) -> list[Any]:
        return [module for module in (self.transformer, self.branch) if module is not None]


def comparison_video(
    models: LiveModels, clips: ValidationClips, key: SampleKey, settings: InpaintSettings
) -> np.ndarray:
    """Inpaint one clip: original | masked | mask | result, uint8 (T, H, W, 3), with a line of names on top.

    Backbones that take a first frame are given the true one, as in training.

    Args:
        settings: Size and windows are set here, to the clip's.
    """
    sample = clips.sample(key)
    frames, masks = sample.frames, sample.masks
    with _pipeline(models, clips) as pipe:
        (result,) = pipe(
            video=frames,
            masks=masks,
            image=frames[0] if pipe.image_conditioned else None,
            prompt_embeds=clips.embeds(sample.caption),
            negative_prompt_embeds=clips.embeds("") if settings.guidance else None,
            settings=replace(settings, height=frames.shape[1], width=frames.shape[2], num_frames=len(frames)),
            output_type="np",
            return_dict=False,
        )[0]
    return side_by_side(frames, masks, result, labels=True)


@contextmanager
def _pipeline(models: LiveModels, clips: ValidationClips) -> Iterator[InpaintingPipeline]:
    """A pipeline around the live models; they stay where they are, the VAE comes to them."""
    backbone = backbone_of(models.transformer)
    scheduler, make = backbone.sampling_scheduler(models.scheduler), PIPELINES[backbone.facts.pipeline]
    with clips.encoders() as encoders, on_device(encoders.vae, models.transformer.device):
        pipe: Any = make(None, None, encoders.vae, models.transformer, scheduler, models.branch)
        pipe.id_adapter = models.id_adapter
        if encoders.images is not None:
            pipe.register_modules(image_processor=encoders.images.processor, image_encoder=encoders.images.model)
        pipe.set_progress_bar_config(disable=True)
        yield pipe


def encode_mp4(frames: np.ndarray, fps: int | Fraction) -> bytes:
    """An mp4 file's content, from uint8 (T, H, W, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with VideoWriter(path, fps=fps) as writer:
            writer.write(frames)
        return path.read_bytes()


def write_videos(folder: Path, videos: Sequence[tuple[str, bytes]]) -> list[np.ndarray]:
    """Write mp4 files by name and give their frames, uint8 (T, H, W, 3), for a tracker."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for name, content in videos:
        path = folder / f"{name}.mp4"
        write_bytes(path, content)
        frames = open_video(path)
        shown.append(frames.read(0, len(frames)))
    return shown
