"""What decides a result's pixels (its recipe), and the record that is written beside it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from videopainter.data.clip import Clip
from videopainter.data.crops import CROP_VERSION
from videopainter.files import fingerprint, sha256_text
from videopainter.pipelines.settings import InpaintSettings
from videopainter.propagation.seam import SETTINGS_VERSION
from videopainter.runs.options import InpaintOptions, PropagationOptions
from videopainter.runs.plan import Job, Plan, has_first_frame, step_cache
from videopainter.runs.processes import Precision
from videopainter.runs.results.manifest import Hasher, versions
from videopainter.runs.samples import OWN_FPS, OWN_START, OWN_STOP, source_notes
from videopainter.runs.weights import choosing_clip, file_digests, sampler_name, weight_digests
from videopainter.training.tracking.progress import peak_memory

# Raised when the same recipe would give other pixels than before.
# 2: frames are read and written with exact rounding, HDR is tone-mapped.
RECIPE_VERSION = 2
# What a row says about the clip beside its prompts.
ROW_KEYS = ("path", "Video_Name", "start_frame", "end_frame", "mask_id")


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A job's recipe, its fingerprint, and the hashes of the input files."""

    recipe: dict[str, Any]
    fingerprint: str
    files: dict[str, str]


def make_stamp(job: Job, clip: Clip, precision: Precision, hasher: Hasher) -> Stamp:
    """Hash the inputs and weights of a job (weights are remembered between runs)."""
    plan, prompts, files = job.plan, job.options.prompts, [*clip.files]
    if prompts.first_frame is not None:
        files.append(Path(prompts.first_frame))
    digests = hasher.files(files)
    recipe = {
        "version": RECIPE_VERSION,
        "inputs": _joint_digest(digests),
        "clip": clip_facts(clip, plan.options),
        "prompts": all_prompts(plan, clip),
        "first_frame": _first_frame_recipe(plan, hasher),
        "settings": _settings_recipe(job.settings),
        "scheduler": sampler_name(plan.weights, plan.options.sampling.scheduler),
        "dtype": precision.dtype,
        "quantization": plan.options.model.quantization,
        "weights": weight_digests(plan.weights.roles(), hasher),
        "lossless": plan.options.output.lossless,
        **_cache_recipe(plan),
        **propagation_recipe(plan.options.propagation),
    }
    return Stamp(recipe=recipe, fingerprint=fingerprint(recipe), files=digests)


def _settings_recipe(settings: InpaintSettings) -> dict[str, Any]:
    """Without a crop as if there was no such thing: results from before keep their fingerprint."""
    recipe = asdict(settings)
    if recipe.pop("crop") == "none":
        return recipe
    return recipe | {"crop": {"crop": settings.crop, "version": CROP_VERSION}}


def _cache_recipe(plan: Plan) -> dict[str, Any]:
    """Nothing without a step cache: results from before there were any keep their fingerprint."""
    cache = step_cache(plan.options)
    return {} if cache is None else {"cache": cache.recipe()}


def propagation_recipe(options: PropagationOptions) -> dict[str, Any]:
    """Nothing where nothing is copied, as with step caches."""
    if options.propagate == "off":
        return {}
    return {
        "propagation": {
            "propagate": options.propagate,
            "quality": options.propagation_quality,
            "grown": options.remove,
            "settings": SETTINGS_VERSION,
        }
    }


def all_prompts(plan: Plan, clip: Clip) -> dict[str, Any]:
    """The texts a clip is made with, by use."""
    return {
        "video": clip.prompt,
        "at": {str(frame): text for frame, text in sorted(plan.prompts_at.items())},
        "negative": plan.options.prompts.negative_prompt,
        "image": image_prompt(clip),
    }


def image_prompt(clip: Clip) -> str:
    """What the first frame's hole is filled by: the image prompt, else the video prompt."""
    return clip.image_prompt or clip.prompt


def clip_facts(clip: Clip, options: InpaintOptions) -> dict[str, Any]:
    """How the clip was cut out of its files."""
    return {
        "frames": len(clip),
        "fps": str(clip.fps),
        "height": clip.frames.height,
        "width": clip.frames.width,
        "sound": clip.sound is not None,
        "dilate_size": options.clip.dilate_size,
        # Nothing for what all results had once: those keep their fingerprint.
        **({"mask_shape": options.clip.mask_shape} if options.clip.mask_shape != "exact" else {}),
        "mask_background": options.sampling.mask_background,
        "mask_id": _one_or_several(options.clip.mask_id),
        "resize_to": options.clip.resize_to,
        "down_sample_fps": options.clip.down_sample_fps,
        **_prompted_facts(clip, options),
        "row": {key: clip.details[key] for key in ROW_KEYS if key in clip.details},
    }


def _prompted_facts(clip: Clip, options: InpaintOptions) -> dict[str, Any]:
    """What was pointed at, who made masks of it, and the range; nothing without: fingerprints stay."""
    facts: dict[str, Any] = {}
    if "segmenter" in clip.details:
        facts["masks"] = {**options.objects.given(), "by": clip.details["segmenter"]}
    if options.clip.range is not None:
        facts["range"] = options.clip.range
    if options.clip.four_valued_mask:
        facts["four_valued_mask"] = True
    return facts


def _first_frame_recipe(plan: Plan, hasher: Hasher) -> dict[str, Any]:
    prompts = plan.options.prompts
    if prompts.first_frame is not None or not has_first_frame(prompts):
        return {"filler": "none" if prompts.first_frame is None else "file"}
    model, choice, seed = prompts.img_inpainting_model, prompts.choose_first_frame, plan.options.sampling.seed
    filler = weight_digests({"filler": model}, hasher)["filler"]
    if (folder := choosing_clip(choice)) is not None:
        clip = weight_digests({"clip": str(folder)}, hasher)["clip"]
        return {"filler": filler, "seed": seed, "candidates": prompts.first_frame_candidates, "clip": clip}
    # A candidate is what its seed gives, whatever the number of the others.
    return {"filler": filler, "seed": seed + (int(choice) - 1 if choice else 0)}


def _joint_digest(digests: Mapping[str, str]) -> str:
    """One digest for files wherever they lie."""
    return sha256_text("\n".join(sorted(digests.values())))


def make_record(
    job: Job, clip: Clip, stamp: Stamp, precision: Precision, seconds: Mapping[str, float], hasher: Hasher
) -> dict[str, Any]:
    """The JSON beside a result; its first keys are the public release's."""
    options = job.options
    return {
        **release_keys(options, clip),
        **job.record,
        "result": job.output.name,
        "frames": len(clip),
        "source": source_notes(clip, job.output),
        "result_fps": str(clip.fps),
        "height": clip.frames.height,
        "width": clip.frames.width,
        "fingerprint": stamp.fingerprint,
        "seed": job.seed,
        "recipe": stamp.recipe,
        "options": {group: asdict(values) for group, values in vars(options).items()},
        "inputs": stamp.files,
        "weights": {
            role: {"path": path, "sha256": file_digests(path, hasher)}
            for role, path in job.plan.weights.roles().items()
        },
        "versions": versions(),
        "device": precision.device,
        "dtype": precision.dtype,
        "memory": options.model.memory,
        "compile": options.model.compile,
        "cache": stamp.recipe.get("cache"),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "peak_memory_bytes": _peaks(precision.device),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def release_keys(options: InpaintOptions, clip: Clip) -> dict[str, Any]:
    """`path mask_id start_frame end_frame fps video_inpainting_prompt image_inpainting_prompt`, as the row says them.

    Own files: the whole video or its --range, in frames and at the rate of the file.
    """
    prompts = {"video_inpainting_prompt": clip.prompt, "image_inpainting_prompt": image_prompt(clip)}
    if options.clip.video is not None:
        own = clip.details
        ids = _one_or_several(options.clip.mask_id)
        place = {"mask_id": ids, "start_frame": int(own[OWN_START]), "end_frame": int(own[OWN_STOP])}
        return {"path": options.clip.video, **place, "fps": _short(Fraction(own[OWN_FPS])), **prompts}
    row = clip.details
    place = {key: _number(row.get(key, "")) for key in ("mask_id", "start_frame", "end_frame", "fps")}
    return {"path": row.get("path") or row.get("Video_Name"), **place, **prompts}


def _one_or_several(ids: list[int] | None) -> int | list[int] | None:
    return ids[0] if ids is not None and len(ids) == 1 else ids


def _number(text: str) -> int | float | None:
    return _short(float(text)) if text else None


def _short(value: float | Fraction) -> int | float:
    """A whole number as such."""
    return int(value) if value == int(value) else float(value)


def reset_peak_memory(device: str) -> None:
    """From now on a GPU's peak is counted anew; that of main memory cannot be."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def _peaks(device: str) -> dict[str, int]:
    """Bytes: the largest this process has held, in main memory and (on a GPU) allocated there."""
    return {"process": peak_memory()} | ({"gpu": peak_memory(device)} if device.startswith("cuda") else {})
