"""Read → denoise → decode → write, window by window: memory does not depend on the video's length.

Denoising comes first, for all windows; their latents (small) go to a store. Then all latents are decoded in one pass,
so that the decoder's temporal cache runs through the whole video. A killed run finds its finished windows in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videopainter.data.clip import FrameSource, MaskSource
from videopainter.data.crops import READ_AT_ONCE, CropPath
from videopainter.data.reshape import resize_frames, resize_masks
from videopainter.models.backbones.protocol import EncodedImage
from videopainter.models.backbones.registry import check_form
from videopainter.models.finite import check_result
from videopainter.pipelines.conditioning import WindowConditions, make_conditions, to_uint8_frames, to_video_tensor
from videopainter.pipelines.denoise import WindowRun, denoise_window
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.windows import Window, WindowPlan, blend_weights, plan_windows
from videopainter.vision.pasting import pasted


@dataclass
class StreamJob:
    """One video to inpaint, or a crop of it. `first_frame` is a filled first frame, uint8 (H, W, 3) at the video's
    size, or None; `height` and `width` are what the model works at."""

    frames: FrameSource
    masks: MaskSource
    prompts: PromptTrack
    settings: InpaintSettings
    plan: WindowPlan
    height: int
    width: int
    seeds: list[int]
    crop: CropPath | None = None  # what the model sees of the frames; None: all
    first_frame: np.ndarray | None = None
    paste_masks: MaskSource | None = None  # what is pasted into the video, where it is not what the model paints
    noise: Sequence[torch.Tensor] | None = None  # of each window
    on_step: Callable[[Window, int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    interrupted: Callable[[], bool] = field(default=lambda: False)


def make_job(
    pipe: Any,
    frames: FrameSource,
    masks: MaskSource,
    *,
    settings: InpaintSettings,
    prompts: PromptTrack,
    first_frame: np.ndarray | None = None,
    paste_masks: MaskSource | None = None,
    crop: CropPath | None = None,
    generator: torch.Generator | None = None,
    noise: Sequence[torch.Tensor] | None = None,
) -> StreamJob:
    """Check the parts against each other and plan the windows.

    Args:
        crop: What the model is to see; None: what `settings.crop` says.

    Raises:
        ValueError: for parts that do not fit (lengths, sizes, number of noises, image condition for a T2V backbone).
    """
    size, mask_size = (frames.height, frames.width), (masks.height, masks.width)
    if len(frames) != len(masks) or size != mask_size:
        raise ValueError(
            f"masks: expected {len(frames)} of {size[1]}x{size[0]} pixels as the frames, "
            f"got {len(masks)} of {mask_size[1]}x{mask_size[0]}"
        )
    if first_frame is not None and first_frame.shape != (*size, 3):
        raise ValueError(f"first frame: expected {size[1]}x{size[0]} pixels, got shape {first_frame.shape}")
    if settings.first_frame_gt and first_frame is None:
        raise ValueError("first_frame_gt: expected a filled first frame to take as known, got none")
    plan = plan_windows(len(frames), settings.num_frames, settings.overlap_frames, pipe.backbone.grid)
    if noise is not None and len(noise) != len(plan.windows):
        raise ValueError(f"latents: expected noise for each of {len(plan.windows)} windows, got {len(noise)}")
    crop = crop or settings.crop_path(pipe.backbone.facts, masks)
    height, width = settings.working_size(pipe.backbone.facts, crop.height, crop.width)
    return StreamJob(
        frames,
        masks,
        prompts,
        settings,
        plan,
        height,
        width,
        _window_seeds(settings, generator, plan),
        None if crop.covers(*size) else crop,
        first_frame,
        paste_masks,
        noise,
    )


def _window_seeds(settings: InpaintSettings, generator: torch.Generator | None, plan: WindowPlan) -> list[int]:
    """A seed for every window, so that a resumed run draws what the uninterrupted one would have drawn."""
    generator = generator or torch.Generator().manual_seed(settings.seed)
    draws = torch.randint(2**62, (len(plan.windows),), generator=generator, device=generator.device)
    return draws.tolist()


def denoise_windows(pipe: Any, job: StreamJob, store: WindowStore) -> Iterator[Window]:
    """Denoise the windows that the store does not hold yet; yields each window when its latents are stored."""
    form = resample_form(pipe, job.settings)
    for window in job.plan.windows:
        if window.index not in store:
            _denoise_one(pipe, job, store, window, form)
        yield window


def resample_form(pipe: Any, settings: InpaintSettings) -> str | None:
    """The form of ID resampling of a run: ``auto`` follows the adapter, and is off without one."""
    if settings.id_resample == "auto":
        adapter = getattr(pipe, "id_adapter", None)
        return adapter.form if adapter is not None else None
    if settings.id_resample == "off":
        return None
    check_form(pipe.backbone.facts, settings.id_resample)
    return settings.id_resample


def _denoise_one(pipe: Any, job: StreamJob, store: WindowStore, window: Window, form: str | None) -> None:
    frames, masks = read_window(job, window)
    branch, transformer = pipe.branch, pipe.transformer
    conditions = make_conditions(
        pipe.codec,
        frames,
        masks,
        hole_fill=branch.config.hole_fill if branch is not None else 0.0,
        dtype=transformer.dtype,
    )
    if job.settings.replace_gt and conditions.empty:
        # Nothing to paint: the original latents are the result, and the memory of earlier windows stays.
        store.save(window.index, conditions.video_latents, None)
        return
    if pipe.image_conditioned:
        conditions = _with_image(pipe, conditions, _image(pipe, job, store, window, (frames, masks)))
    run = WindowRun(
        prompt_embeds=job.prompts.at(window),
        generator=torch.Generator().manual_seed(job.seeds[window.index]),
        noise=None if job.noise is None else job.noise[window.index],
        form=form,
        previous=store.memory(before=window.index) if job.settings.prev_clip_weight > 0 else None,
        remember=form is not None and job.settings.prev_clip_weight > 0 and job.plan.follows(window) is not None,
        on_step=None if job.on_step is None else partial(job.on_step, window),
        interrupted=job.interrupted,
    )
    latents, memory = denoise_window(pipe, conditions, job.settings, run)
    check_result(latents, f"latents of frames {window.start} to {window.stop}")
    # An object that has left keeps the memory of when it was last seen.
    seen = memory is not None and memory.hole.index.shape[1] > 0
    store.save(window.index, latents, memory if seen else None)


def read_window(job: StreamJob, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """A window's frames (F, H, W, 3) and masks (F, H, W) at the working size; the last frame fills what is missing."""
    stop = min(window.stop, len(job.frames))
    pieces = [_read_seen(job, at, min(at + READ_AT_ONCE, stop)) for at in range(window.start, stop, READ_AT_ONCE)]
    frames, masks = (np.concatenate(parts) for parts in zip(*pieces))
    missing = window.stop - stop
    if missing:
        frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
        masks = np.concatenate([masks, np.repeat(masks[-1:], missing, axis=0)])
    return frames, masks


def _read_seen(job: StreamJob, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and masks [start, stop) of what the model sees, at the working size."""
    frames, masks = read_range(job, start, stop)
    if job.crop is not None:
        frames, masks = job.crop.cut(frames, start), job.crop.cut(masks, start)
    return resize_frames(frames, job.height, job.width), resize_masks(masks, job.height, job.width)


def read_range(job: StreamJob, start: int, stop: int, *, paste: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Frames and masks [start, stop) at the video's size, with the filled first frame in its place.

    With `paste` the masks are those of what is pasted, not of what the model paints.
    """
    source = job.paste_masks if paste and job.paste_masks is not None else job.masks
    frames, masks = job.frames.read(start, stop), source.read(start, stop)
    if start == 0 and job.first_frame is not None:
        frames = np.concatenate([job.first_frame[None], frames[1:]])
        if job.settings.first_frame_gt:
            masks = np.concatenate([np.zeros_like(masks[:1]), masks[1:]])
    return frames, masks


def _image(
    pipe: Any, job: StreamJob, store: WindowStore, window: Window, clip: tuple[np.ndarray, np.ndarray]
) -> EncodedImage | None:
    """The filled first frame; later what the previous window has made of this one's first frame. None: no image."""
    backbone, (frames, masks) = pipe.backbone, clip
    if window.index > 0 and not backbone.facts.image_from_pixels:
        latent = _previous_latents(job, store, window)[:, -1:]
        return EncodedImage(pipe.codec.as_image_condition(latent))
    if window.index == 0 and job.first_frame is None:
        return None
    frame = frames[:1] if window.index == 0 else _handed_on(pipe, job, store, window, (frames[:1], masks[:1]))
    return backbone.encode_image(pipe.codec, pipe.images, to_video_tensor(frame), len(frames))


def _with_image(pipe: Any, conditions: WindowConditions, image: EncodedImage | None) -> WindowConditions:
    latents = None if image is None else image.latents
    embeds = None if image is None or image.embeds is None else image.embeds.to(conditions.video_latents)
    condition = pipe.backbone.image_condition(latents, conditions.video_latents)
    return replace(conditions, image_latents=condition, image_embeds=embeds)


def _previous_latents(job: StreamJob, store: WindowStore, window: Window) -> torch.Tensor:
    """The previous window's latents up to the one that ends with this window's first frame."""
    previous = job.plan.windows[window.index - 1]
    return store.latents(previous.index)[:, : window.latent_start - previous.latent_start + 1]


def _handed_on(
    pipe: Any, job: StreamJob, store: WindowStore, window: Window, first: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """This window's first frame (1, H, W, 3) out of the previous window; its background is the video's own where
    settings say so. `first`: the video's frame and mask there."""
    frame, mask = first
    if job.settings.replace_gt and not mask.any():
        return frame
    latents = _previous_latents(job, store, window)
    *_, last = pipe.codec.decode_stream(latents.split(1, dim=1), latents.shape[1])
    made = to_uint8_frames(last[:, :, -1:])
    return np.where(mask[..., None], made, frame) if job.settings.replace_gt else made


def blended_latents(plan: WindowPlan, store: WindowStore, mode: str) -> Iterator[torch.Tensor]:
    """The video's latents in order, one latent frame (1, 1, 16, h, w) at a time, overlaps blended in float32."""
    weights = blend_weights(plan, mode)
    loaded: dict[int, torch.Tensor] = {}
    first = 0
    for latent in range(plan.num_latents):
        while plan.windows[first].latent_stop <= latent:
            loaded.pop(first, None)
            first += 1
        total = None
        for window in plan.windows[first:]:
            if window.latent_start > latent:
                break
            if window.index not in loaded:
                loaded[window.index] = store.latents(window.index)
            place = latent - window.latent_start
            part = loaded[window.index][:, place : place + 1].float() * float(weights[window.index][place])
            total = part if total is None else total + part
        assert total is not None
        yield total


def finished_frames(pipe: Any, job: StreamJob, store: WindowStore) -> Iterator[np.ndarray]:
    """Decode the stored windows: uint8 (t, H, W, 3) in order, at the video's size, as many as the video has."""
    latents = blended_latents(job.plan, store, job.settings.blend)
    start = 0
    for video in pipe.codec.decode_stream(latents, job.plan.num_latents):
        check_result(video, f"decoded frames from {start} on")
        decoded = to_uint8_frames(video)
        stop = min(start + len(decoded), job.plan.num_frames)
        if stop > start:
            yield paste_background(job, decoded[: stop - start], start)
        start = stop


def paste_background(job: StreamJob, decoded: np.ndarray, start: int) -> np.ndarray:
    """Bring decoded frames to the video's size; pixels outside the hole become the input's own where settings say so.

    A feathered edge lies inside the hole.
    """
    if not (job.settings.replace_gt and job.settings.paste_background):
        return resize_frames(decoded, job.frames.height, job.frames.width)
    original, masks = read_range(job, start, start + len(decoded), paste=True)
    if not masks.any():
        return original
    how = {"matched": job.settings.match_edges, "feather": job.settings.feather}
    if job.crop is None:
        return pasted(resize_frames(decoded, *original.shape[1:3]), original, masks, **how)
    # What the model never saw stays what it is.
    frames, decoded = original.copy(), resize_frames(decoded, job.crop.height, job.crop.width)
    job.crop.put(frames, pasted(decoded, job.crop.cut(original, start), job.crop.cut(masks, start), **how), start)
    return frames


def inpaint_stream(
    pipe: Any,
    frames: FrameSource,
    masks: MaskSource,
    *,
    settings: InpaintSettings,
    prompt: str | Mapping[int, str],
    negative_prompt: str = "",
    first_frame: np.ndarray | None = None,
    paste_masks: MaskSource | None = None,
    crop: CropPath | None = None,
    work_dir: Path | None = None,
    fingerprint: str = "",
    on_window: Callable[[torch.Tensor], None] | None = None,
    on_steps: Callable[[int, int], None] | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> Iterator[np.ndarray]:
    """Inpaint a video of any length.

    Args:
        prompt: For the whole video, or a mapping from the frame on which a prompt comes into force.
        first_frame: Filled first frame, uint8 (H, W, 3) at the video's size. None drops the image condition.
        paste_masks: Which of the painted pixels go into the video; None: all of the hole.
        crop: What the model sees, where that is known already; None: what `settings.crop` says.
        work_dir: Keeps finished windows; the same call started again goes on with the first unfinished one.
        fingerprint: Names inputs and settings; a work folder with another one is refused.
        on_window: Called with the latents (1, T, C, h, w) of each window that was denoised.
        on_steps: Called after each step with the number of steps behind it, and that of all windows together.
        interrupted: Asked before each step.

    Yields:
        uint8 (t, H, W, 3), in order, together as many frames as came in.

    Raises:
        ValueError: see `make_job` and `WindowStore`.
        Interrupted: `interrupted` said so; finished windows are in `work_dir`.
    """
    store = WindowStore(work_dir, fingerprint)
    prompts = PromptTrack.encode(pipe, prompt, negative_prompt, guidance=settings.guidance)
    job = make_job(
        pipe,
        frames,
        masks,
        settings=settings,
        prompts=prompts,
        first_frame=first_frame,
        paste_masks=paste_masks,
        crop=crop,
    )
    job.interrupted = interrupted or job.interrupted
    missing = {window.index for window in job.plan.windows if window.index not in store}
    with pipe.denoising_progress(job, store, None if on_steps is None else _counting(job, on_steps)) as progress:
        job.on_step = progress
        for window in denoise_windows(pipe, job, store):
            if on_window is not None and window.index in missing:
                on_window(store.latents(window.index))
    yield from finished_frames(pipe, job, store)


def _counting(job: StreamJob, on_steps: Callable[[int, int], None]) -> Callable[..., dict]:
    """A step's callback that tells its number among all steps."""
    total = job.settings.num_denoising_steps * len(job.plan.windows)

    def tell(pipe: Any, number: int, t: torch.Tensor, values: Mapping[str, Any]) -> dict:
        on_steps(number + 1, total)
        return {}

    return tell
