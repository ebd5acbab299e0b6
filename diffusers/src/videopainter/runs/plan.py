"""From flags to jobs: everything that can be checked before a model library is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from videopainter.captions.backends import asks_somebody, check_backend
from videopainter.data.clip import Clip
from videopainter.data.images import read_image
from videopainter.data.masks.looks import mask_notes
from videopainter.data.reshape import is_same_shape
from videopainter.data.video.pictures import image_name_of
from videopainter.errors import InputError, complain
from videopainter.metrics.catalog import CLIP_SCORE
from videopainter.metrics.networks.downloads import absent
from videopainter.models.checks import check_checkpoints
from videopainter.pipelines.first_frame import check_filler, is_image_model, reads_prompts
from videopainter.pipelines.quantization import check_quantization
from videopainter.pipelines.settings import InpaintSettings, SamplingSettings
from videopainter.pipelines.step_cache import THRESHOLDS, StepCache, read_ratios
from videopainter.runs.options import InpaintOptions, PromptOptions
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.processes import check_device
from videopainter.runs.results.outputs import check_no_input, check_writable, output_paths, sheet_of
from videopainter.runs.results.writers import beside_paths
from videopainter.runs.samples import PromptedMasks, Sample, list_samples, silent, source_notes
from videopainter.runs.weights import (
    Weights,
    check_heads,
    check_lora_fits,
    check_resampling,
    check_tokens,
    choosing_clip,
    find_ckpt,
    resolve_weights,
    sampler_name,
)
from videopainter.segmentation.choosing import BUILTIN

_REPLAY = "replay:"  # an --llm_model that is a file


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked command line: what its results have in common."""

    options: InpaintOptions
    weights: Weights
    prompts_at: dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One result: a sample, a seed, a file, made as the plan says."""

    plan: Plan
    sample: Sample
    seed: int
    output: Path
    label: str
    whole: Sample | None = None  # the sample before anything was copied into its hole, where something was
    record: Mapping[str, Any] = field(default_factory=dict)  # what its JSON says beside what all say

    @property
    def options(self) -> InpaintOptions:
        return self.plan.options

    @property
    def settings(self) -> InpaintSettings:
        """How it is sampled."""
        return build_settings(self.plan.options, self.seed)


def plan_jobs(
    options: InpaintOptions, listing: Callable[[InpaintOptions], Sequence[Sample]] | None = None
) -> list[Job]:
    """Check all flags and name every result. Its samples are those of `samples_of`, or of another such function.

    Raises:
        InputError, ValueError: in one line, for the first thing that does not fit. No video has been opened then.
    """
    build_settings(options, options.sampling.seed)
    check_device(options.model.device)
    _check_counts(options)
    _check_together(options)
    check_quantization(options.model.quantization)
    step_cache(options)
    _check_prompts(options.prompts)
    _check_candidates(options)
    prompts_at = parse_prompts_at(options.prompts.prompt_at or [])
    samples = (listing or samples_of)(options)
    return _jobs(samples, Plan(options=options, weights=_weights(options), prompts_at=prompts_at))


def samples_of(options: InpaintOptions) -> list[Sample]:
    """The samples that the flags ask for, in order; InputError as `list_samples`."""
    samples = list_samples(
        options.clip, options.prompts, options.sampling, options.propagation, _prompted_masks(options)
    )
    return [silent(sample) for sample in samples] if options.output.sound == "drop" else samples


def _prompted_masks(options: InpaintOptions) -> PromptedMasks | None:
    """Who makes the masks that prompts ask for: beside the (first) result, below RESULT.segmentation."""
    if not options.objects.given():
        _check_no_segmenter(options)
        return None
    video, output = Path(options.clip.video or ""), options.output
    seeds = [options.sampling.seed + k for k in range(options.sampling.num_videos_per_prompt)]
    name = video.name if video.is_dir() else video.stem
    result = next(iter(output_paths(output.output_path, [(None, name)], seeds, lossless=output.lossless).values()))
    return PromptedMasks(
        what=options.objects,
        who=options.segmenter,
        folder=result.with_name(f"{result.name}.segmentation"),
        device=options.model.device,
        quiet=output.quiet,
    )


def _check_no_segmenter(options: InpaintOptions) -> None:
    who, what = options.segmenter, options.objects
    given = {
        "segmenter": who.segmenter != BUILTIN,
        "text_model": who.text_model is not None,
        "candidate": what.candidate != 1,
    }
    for name, is_given in given.items():
        if is_given:
            raise InputError(f"--{name}: expected --box, --point, --stroke, --text or --object with it, got none")


def _weights(options: InpaintOptions) -> Weights:
    if options.propagation.propagate == "only":
        return Weights(model_path="")
    weights = resolve_weights(options.model)
    check_checkpoints(weights.model_path, weights.inpainting_branch, weights.id_adapter)
    check_lora_fits(weights)
    sampler_name(weights, options.sampling.scheduler)
    check_resampling(weights, options.sampling.id_resample)
    check_tokens(weights, options.sampling.height, options.sampling.width)
    check_heads(weights, options.model.context_parallel)
    return weights


def build_settings(options: InpaintOptions, seed: int) -> InpaintSettings:
    """The pipeline's settings from the flags; ValueError where a value does not fit."""
    sampling = options.sampling
    shared = {one.name: getattr(sampling, one.name) for one in fields(SamplingSettings)}
    own = {
        "num_frames": options.clip.inpainting_frames,
        "use_dynamic_cfg": not sampling.constant_guidance,
        "first_frame_gt": takes_first_frame(options.prompts),
        "seed": seed,
    }
    return InpaintSettings(**(shared | own))


def step_cache(options: InpaintOptions) -> StepCache | None:
    """The step cache that the flags ask for; ValueError where they do not go together."""
    model, sampling = options.model, options.sampling
    if model.cache == "none":
        for name in ("cache_threshold", "cache_ratios"):
            if getattr(model, name) is not None:
                raise InputError(f"--{name} needs a --cache: {', '.join(THRESHOLDS)}")
        return None
    if model.cache == "mag" and sampling.strength < 1:
        raise InputError(f"--cache mag counts steps from the first: expected --strength 1, got {sampling.strength}")
    return StepCache(
        name=model.cache,
        threshold=model.cache_threshold,
        num_inference_steps=sampling.num_inference_steps,
        ratios=None if model.cache_ratios is None else read_ratios(model.cache_ratios),
    )


def has_first_frame(prompts: PromptOptions) -> bool:
    """Whether the hole of frame 0 is filled before the video model runs."""
    return prompts.first_frame is not None or prompts.img_inpainting_model != "none"


def takes_first_frame(prompts: PromptOptions) -> bool:
    """`--first_frame_gt`, by default wherever there is a filled first frame."""
    return has_first_frame(prompts) if prompts.first_frame_gt is None else prompts.first_frame_gt


def _check_counts(options: InpaintOptions) -> None:
    sampling = options.sampling
    adapter = options.model.id_adapter_resample_learnable_path
    if sampling.prev_clip_weight > 0 and (
        sampling.id_resample == "off" or (sampling.id_resample == "auto" and not adapter)
    ):
        raise InputError(
            f"--prev_clip_weight {sampling.prev_clip_weight} needs ID resampling: "
            "--id_adapter_resample_learnable_path, or --id_resample exact or compact"
        )


def _check_together(options: InpaintOptions) -> None:
    """InputError for what processes that share a video's tokens cannot do."""
    count, model = options.model.context_parallel, options.model
    if count == 1:
        return
    if options.propagation.propagate == "only" or options.propagation.propose_affected is not None:
        raise InputError(f"--context_parallel {count}: expected a model to run, got none (--propagate only)")
    if model.cache == "first_block":  # each would look at its own tokens, and leave out other steps than the others
        raise InputError(f"--context_parallel {count}: expected --cache taylorseer, pab or mag, got first_block")
    if model.compile:
        raise InputError(f"--context_parallel {count}: expected blocks that are not compiled, got --compile")


def _check_prompts(prompts: PromptOptions) -> None:
    if prompts.first_frame is not None:
        read_image(Path(prompts.first_frame))
    else:
        check_filler(prompts.img_inpainting_model)
    if prompts.first_frame_gt and not has_first_frame(prompts):
        raise InputError(
            "--first_frame_gt needs a filled first frame: --first_frame FILE, or an --img_inpainting_model"
        )


def _check_candidates(options: InpaintOptions) -> None:
    prompts, choice = options.prompts, options.prompts.choose_first_frame
    most = prompts.first_frame_candidates
    if most == 1:
        if choice is not None:
            raise InputError(f"--choose_first_frame {choice}: expected --first_frame_candidates with it, got none")
        return
    if prompts.first_frame is not None or options.propagation.propagate == "only":
        other = "--first_frame" if prompts.first_frame is not None else "--propagate only"
        raise InputError(f"--first_frame_candidates: expected a frame to fill, got {other}")
    if not reads_prompts(prompts.img_inpainting_model):
        raise InputError(
            "--first_frame_candidates: expected an --img_inpainting_model that paints otherwise with every seed (a "
            f"diffusers pipeline, backbone), got {prompts.img_inpainting_model}"
        )
    if (folder := choosing_clip(choice)) is not None:
        if not (folder / "config.json").is_file():
            reason = absent(CLIP_SCORE, find_ckpt(None)) if choice == "clip" else f"none in {folder}"
            raise InputError(f"--choose_first_frame: expected a CLIP model, got {reason}")
    elif choice is not None and not (choice.isdecimal() and 1 <= int(choice) <= most):
        raise InputError(f"--choose_first_frame: expected a number from 1 to {most}, clip or clip:FOLDER, got {choice}")


def check_one_frame(prompts: PromptOptions) -> None:
    """InputError where first frames would wait for somebody to choose among them."""
    if prompts.first_frame_candidates > 1 and prompts.choose_first_frame is None:
        raise InputError("--first_frame_candidates: expected --choose_first_frame with it here, got none")


def openable_jobs(jobs: Sequence[Job], outcomes: Outcomes) -> list[Job]:
    """The jobs whose clip opens and has a hole; a clip is opened once, whatever the number of its seeds."""
    opens: dict[tuple[int, int], bool] = {}
    for job in jobs:
        key = id(job.plan), id(job.sample)
        if key not in opens:
            opens[key] = False
            with outcomes.attempt(job.label):
                clip = job.sample.open()
                check_clip(job.plan, clip)
                notes = [*source_notes(clip, job.output), *mask_notes(clip.masks)]
                if notes and not job.options.output.quiet:
                    complain(f"{job.sample.label}: {'; '.join(notes)}")
                opens[key] = True
    return [job for job in jobs if opens[id(job.plan), id(job.sample)]]


def check_clip(plan: Plan, clip: Clip) -> None:
    """InputError where an opened clip does not go with the prompts or the first frame of the command line."""
    prompts = plan.options.prompts
    late = [frame for frame in plan.prompts_at if frame >= len(clip)]
    if late:
        raise InputError(f"--prompt_at {late[0]}: {clip.name} has {len(clip)} frames")
    if prompts.first_frame is not None:
        fitting_image(Path(prompts.first_frame), clip)
    if needs_image_prompt(prompts, clip):
        check_backend(prompts.llm_model or "")


def needs_image_prompt(prompts: PromptOptions, clip: Clip) -> bool:
    """Whether `--llm_model` is to write the image prompt: the first frame's filler reads one, and nobody gave one."""
    fills = prompts.first_frame is None and is_image_model(prompts.img_inpainting_model)
    return fills and asks_somebody(prompts.llm_model) and not clip.image_prompt


def fitting_image(path: Path, clip: Clip) -> np.ndarray:
    """An image at the clip's size, uint8 (H, W, 3); InputError where its shape is another."""
    image = read_image(path)
    height, width = clip.frames.height, clip.frames.width
    if not is_same_shape(image.shape[0], image.shape[1], height, width):
        raise InputError(
            f"first frame of {image.shape[1]}x{image.shape[0]} does not fit a video of {width}x{height}: {path}"
        )
    if image.shape[:2] == (height, width):
        return image
    smaller = image.shape[0] > height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def parse_prompts_at(texts: list[str]) -> dict[int, str]:
    """{frame: prompt} from `FRAME:text`."""
    prompts: dict[int, str] = {}
    for text in texts:
        frame, colon, prompt = text.partition(":")
        if not colon or not frame.strip().isdecimal() or int(frame) < 1:
            raise InputError(f'--prompt_at: expected "FRAME:text" with a frame from 1 on, got {text!r}')
        prompts[int(frame)] = prompt.strip()
    return prompts


def _jobs(samples: Sequence[Sample], plan: Plan) -> list[Job]:
    options, sampling = plan.options, plan.options.sampling
    seeds = [sampling.seed + i for i in range(sampling.num_videos_per_prompt)]
    names = [(sample.row, sample.name) for sample in samples]
    paths = output_paths(options.output.output_path, names, seeds, lossless=options.output.lossless)
    images = bool(options.output.output_path and image_name_of(options.output.output_path))
    inputs = _input_files(options)
    if options.propagation.propose_affected is not None:
        check_no_input(Path(options.propagation.propose_affected), inputs, "--propose_affected")
    beside = [file for path in paths.values() for file in beside_paths(path, options.output).values()]
    if options.prompts.first_frame_candidates > 1:
        beside += map(sheet_of, paths.values())
    check_writable(list(paths.values()), inputs, beside, images=images)
    return [
        Job(
            plan=plan,
            sample=samples[index],
            seed=seed,
            output=path,
            label=samples[index].label if len(seeds) == 1 else f"{samples[index].label} seed {seed}",
        )
        for (index, seed), path in paths.items()
    ]


def _input_files(options: InpaintOptions) -> list[Path]:
    clip, prompts = options.clip, options.prompts
    given = [clip.video, clip.mask, clip.inpainting_mask_meta, options.propagation.affected, prompts.first_frame]
    if (prompts.llm_model or "").startswith(_REPLAY):
        given.append((prompts.llm_model or "").removeprefix(_REPLAY))
    return [Path(path) for path in given if path is not None]
