"""The pipelines: the in-memory call that diffusers users expect, over the same stages as streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)
from diffusers.pipelines.cogvideo.pipeline_output import CogVideoXPipelineOutput
from PIL import Image

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.errors import Interrupted
from videopainter.models.backbones.leading import TokenGroup
from videopainter.models.backbones.protocol import Backbone, Codec
from videopainter.models.backbones.registry import backbone_of, codec_of
from videopainter.models.backbones.wan_video.branch import WanBranchModel
from videopainter.models.backbones.wan_video.facts import WanFacts
from videopainter.models.backbones.wan_video.image_encoder import ImageEncoder
from videopainter.models.backbones.wan_video.transformer import VideoPainterWanTransformer3DModel
from videopainter.models.context_branch import CogvideoXBranchModel
from videopainter.models.id_adapter import IDAdapter
from videopainter.models.transformer import VideoPainterTransformer3DModel
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.streaming import (
    StreamJob,
    blended_latents,
    denoise_windows,
    finished_frames,
    make_job,
)
from videopainter.pipelines.windows import Window

Frames = np.ndarray | Sequence[Image.Image] | torch.Tensor
StepCallback = Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any]]


OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class InpaintingPipeline:
    """Video inpainting of any length, beside the upstream pipeline of a family of backbones, whatever the family."""

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae"
    # The branch runs in every step, before the backbone; it is small and stays where it runs.
    _exclude_from_cpu_offload = ["branch"]
    _optional_components = ["branch"]

    transformer: Any
    vae: Any
    image_processor: Any = None
    image_encoder: Any = None  # of backbones that see the first frame through one
    id_adapter: IDAdapter | None = None
    token_group: TokenGroup | None = None  # the processes that take part in its passes; None: this one alone
    _current_timestep: int | None = None  # upstream's `current_timestep`, which some caches ask

    @property
    def backbone(self) -> Backbone:
        """What is asked about the family of the backbone."""
        return backbone_of(self.transformer)

    @property
    def codec(self) -> Codec:
        """The VAE, where it runs."""
        return codec_of(self.vae, self._execution_device)

    @property
    def images(self) -> ImageEncoder | None:
        """The image encoder, where it runs; None for backbones without."""
        if self.image_encoder is None:
            return None
        return ImageEncoder(self.image_processor, self.image_encoder, self._execution_device)

    @property
    def image_conditioned(self) -> bool:
        """Whether the backbone takes image latents (I2V), or not (T2V)."""
        return self.backbone.facts.image_conditioned

    @property
    def max_sequence_length(self) -> int:
        return self.backbone.facts.text_tokens

    def embed_text(self, text: str) -> torch.Tensor:
        """Embeddings (1, S, E) of a prompt, as the training has them; what upstream's `encode_prompt` gives differs
        from family to family."""
        return self.backbone.embed_text(
            self.tokenizer, self.text_encoder, text, self.max_sequence_length, self._execution_device
        )

    def load_id_adapter(self, path: str) -> IDAdapter:
        """Load an ID-resample LoRA (folder or file); windows then resample in the form it was trained with."""
        self.id_adapter = IDAdapter.load(path, self.transformer)
        return self.id_adapter

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Mapping[int, str] | None = None,
        video: Frames | None = None,
        masks: Frames | None = None,
        image: np.ndarray | Image.Image | None = None,
        negative_prompt: str = "",
        *,
        generator: torch.Generator | None = None,
        latents: Sequence[torch.Tensor] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        settings: InpaintSettings | None = None,
        **options: Any,
    ) -> CogVideoXPipelineOutput | tuple[Any]:
        """Inpaint a video that is in memory.

        Args:
            prompt: Describes the whole video; or a mapping from the frame on which a prompt comes into force.
            video: uint8 (T, H, W, 3), a list of PIL images, or a float tensor (T, 3, H, W) in 0..1. Any length, any
            size.
            masks: Hole: bool or uint8 (> 127) (T, H, W), a list of PIL images, or a tensor (T, H, W).
            image: Filled first frame; None drops the image condition.
            generator: Source of the noise instead of `settings.seed`.
            latents: Noise of each window, (1, T, 16, h, w) each.
            prompt_embeds, negative_prompt_embeds: (1, S, E), instead of texts.
            output_type: ``pil``, ``np`` (uint8 (T, H, W, 3)), ``pt`` (float (T, 3, H, W) in 0..1) or ``latent``
                (blended latents (1, T, 16, h, w)).
            callback_on_step_end: Called as diffusers does, with the step counted over all windows and `latents`.
            settings, options: An `InpaintSettings`, or its fields as keywords.

        Returns:
            `.frames[0]`: the result, as many frames as came in. After `pipe._interrupt = True` the frames of the
            windows that were finished.

        Raises:
            ValueError: in one line, for whatever does not fit.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type: expected {', '.join(OUTPUT_TYPES)}, got {output_type!r}")
        settings = _settings(settings, options)
        frames, mask_source = ArrayFrames(as_frames(video)), ArrayMasks(as_masks(masks))
        self._guidance_scale, self._interrupt = settings.guidance_scale, False
        prompts = self._prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, settings)
        first_frame = (
            None if image is None else as_frames([image] if isinstance(image, Image.Image) else image[None])[0]
        )
        job = make_job(
            self,
            frames,
            mask_source,
            settings=settings,
            prompts=prompts,
            first_frame=first_frame,
            generator=generator,
            noise=latents,
        )
        store = WindowStore()
        self._run(job, store, callback_on_step_end)
        result = self._output(job, store, output_type)
        self.maybe_free_model_hooks()
        return CogVideoXPipelineOutput(frames=[result]) if return_dict else ([result],)

    def _prompts(
        self,
        prompt: str | Mapping[int, str] | None,
        negative_prompt: str,
        embeds: torch.Tensor | None,
        negative_embeds: torch.Tensor | None,
        settings: InpaintSettings,
    ) -> PromptTrack:
        if (prompt is None) == (embeds is None):
            raise ValueError("expected one of prompt and prompt_embeds, got both or neither")
        if prompt is not None:
            return PromptTrack.encode(self, prompt, negative_prompt, guidance=settings.guidance)
        if settings.guidance and negative_embeds is None:
            negative_embeds = self.embed_text(negative_prompt)
        assert embeds is not None
        return PromptTrack.from_embeds(self, embeds, negative_embeds if settings.guidance else None)

    def _run(self, job: StreamJob, store: WindowStore, callback: StepCallback | None) -> None:
        """Denoise all windows; an interruption shortens the plan to those that are finished."""
        job.interrupted = lambda: self._interrupt
        with self.denoising_progress(job, store, callback) as on_step:
            job.on_step = on_step
            finished = 0
            try:
                for window in denoise_windows(self, job, store):
                    finished = window.index + 1
            except Interrupted:
                if finished == 0:
                    raise ValueError("interrupted before the first window was finished: no frame to give") from None
                job.plan = job.plan.head(finished)

    @contextmanager
    def denoising_progress(
        self, job: StreamJob, store: WindowStore, callback: StepCallback | None = None
    ) -> Iterator[Callable[[Window, int, torch.Tensor, torch.Tensor], torch.Tensor]]:
        """One progress bar over all windows and steps, with the time left; gives the function to call after each
        step."""
        steps = job.settings.num_denoising_steps
        missing = [window.index for window in job.plan.windows if window.index not in store]
        with self.progress_bar(total=steps * len(missing)) as bar:

            def on_step(window: Window, step: int, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
                if callback is not None:
                    changed = callback(self, window.index * steps + step, t, {"latents": latents})
                    latents = changed.get("latents", latents)
                # By place, not by count: windows without a hole are passed through and take no step.
                bar.update(missing.index(window.index) * steps + step + 1 - bar.n)
                return latents

            yield on_step
            if all(index in store for index in missing):
                bar.update(bar.total - bar.n)

    def _output(self, job: StreamJob, store: WindowStore, output_type: str) -> Any:
        if output_type == "latent":
            return torch.cat(list(blended_latents(job.plan, store, job.settings.blend)), dim=1)
        frames = np.concatenate(list(finished_frames(self, job, store)))
        if output_type == "pil":
            return [Image.fromarray(frame) for frame in frames]
        return frames if output_type == "np" else torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


class VideoPainterPipeline(InpaintingPipeline, CogVideoXImageToVideoPipeline):
    """Video inpainting of any length with a CogVideoX backbone and a context encoder.

    Loads with `from_pretrained` from what `save_pretrained` wrote; `videopainter.load_pipeline` puts one together from
    a backbone folder, a branch and an ID adapter. Upstream's LoRA loading, offloading, hooks and progress bars work as
    usual.

    Args:
        branch: Context encoder; None runs the bare backbone.
    """

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: Any,
        transformer: VideoPainterTransformer3DModel,
        scheduler: CogVideoXDDIMScheduler | CogVideoXDPMScheduler,
        branch: CogvideoXBranchModel | None = None,
    ) -> None:
        super().__init__(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        self.register_modules(branch=branch)


class VideoPainterWanPipeline(InpaintingPipeline, WanPipeline):
    """The same with a Wan text-to-video backbone, or Wan 2.2's 5B, which takes an image, too.

    Arguments behind `branch` are upstream's: pairs of transformers are refused, `expand_timesteps` is what the
    transformer is made for.
    """

    _optional_components = ["branch", "transformer_2"]

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: Any,
        transformer: VideoPainterWanTransformer3DModel,
        scheduler: UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler,
        branch: WanBranchModel | None = None,
        transformer_2: None = None,
        boundary_ratio: None = None,
        expand_timesteps: bool = False,
    ) -> None:
        expands = WanFacts(transformer.config).times_of_tokens
        if transformer_2 is not None or boundary_ratio is not None or (expand_timesteps and not expands):
            raise ValueError("pipeline: expected Wan 2.1 or Wan 2.2's 5B, got one of Wan 2.2's pairs of transformers")
        super().__init__(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            expand_timesteps=expands,
        )
        self.register_modules(branch=branch)


class VideoPainterWanImageToVideoPipeline(InpaintingPipeline, WanImageToVideoPipeline):
    """The same with a Wan image-to-video backbone.

    Args:
        image_processor, image_encoder: CLIP of Wan 2.1; None for backbones that do not ask it.

    Arguments behind them are upstream's, for Wan 2.2's pairs of transformers; anything but their defaults is refused.
    """

    _optional_components = ["branch", "transformer_2", "image_encoder", "image_processor"]

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: Any,
        transformer: VideoPainterWanTransformer3DModel,
        scheduler: UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler,
        branch: WanBranchModel | None = None,
        image_processor: Any = None,
        image_encoder: Any = None,
        transformer_2: None = None,
        boundary_ratio: None = None,
        expand_timesteps: bool = False,
    ) -> None:
        if transformer_2 is not None or boundary_ratio is not None or expand_timesteps:
            raise ValueError("pipeline: expected one transformer for all noise and tokens, got a kind of Wan 2.2")
        super().__init__(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            image_processor=image_processor,
            image_encoder=image_encoder,
        )
        self.register_modules(branch=branch)


# By name, as `Facts.pipeline` says it.
PIPELINES: Mapping[str, type[InpaintingPipeline]] = {
    cls.__name__: cls for cls in (VideoPainterPipeline, VideoPainterWanPipeline, VideoPainterWanImageToVideoPipeline)
}


def _settings(settings: InpaintSettings | None, options: dict[str, Any]) -> InpaintSettings:
    if settings is not None and options:
        raise ValueError(f"expected settings or its fields as keywords, got both: {', '.join(options)}")
    unknown = options.keys() - InpaintSettings.__dataclass_fields__.keys()
    if unknown:
        raise ValueError(f"unknown option {', '.join(sorted(unknown))}: expected a field of InpaintSettings")
    return settings or InpaintSettings(**options)


def as_frames(video: Frames | None) -> np.ndarray:
    """Whatever the call takes as a video, as uint8 (T, H, W, 3)."""
    if video is None or len(video) == 0:
        raise ValueError("video: expected at least one frame, got none")
    if isinstance(video, torch.Tensor):
        return (video.permute(0, 2, 3, 1).float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    if isinstance(video, np.ndarray):
        return video
    return np.stack([np.asarray(frame.convert("RGB")) for frame in video])


def as_masks(masks: Frames | None) -> np.ndarray:
    """Whatever the call takes as masks, as bool (T, H, W), True = hole."""
    if masks is None or len(masks) == 0:
        raise ValueError("masks: expected one for each frame, got none")
    if isinstance(masks, torch.Tensor):
        masks = masks.cpu().numpy()
    if not isinstance(masks, np.ndarray):
        masks = np.stack([np.asarray(mask.convert("L")) for mask in masks])
    if masks.dtype == np.uint8:
        return masks > 127
    return masks if masks.dtype == np.bool_ else masks > 0.5
