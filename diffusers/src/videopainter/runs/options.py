"""The flags of `infer/inpaint.py`: one keyword-only dataclass per question a user has.

Names keep the public release's spelling. Reading them needs neither torch nor diffusers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from videopainter.flags import MAX_DILATION, MAX_INT, flag, same_flag, switch
from videopainter.pipelines.settings import InpaintSettings, SamplingSettings
from videopainter.segmentation.choosing import SegmenterOptions
from videopainter.segmentation.prompts import ObjectOptions


@dataclass(kw_only=True)
class ClipOptions:
    """What is inpainted: one's own files, or rows of a benchmark CSV."""

    _argument_group_name: ClassVar[str] = "what to inpaint (your own files, or rows of a benchmark CSV)"

    video: str | None = flag(None, "Your own video: a file, or a folder of images. Every frame is processed.")
    mask: str | None = flag(
        None,
        "Its mask, white = hole: a video, a folder of PNGs (one per frame), one image for all frames, "
        "or all_masks.npz. Or say what the hole is by --box, --point or --text.",
    )
    four_valued_mask: bool = switch(
        False,
        "The --mask has VOID's four values: 0 the object, 63 overlap, 127 what it affects, 255 what is kept; all but "
        "the last is painted.",
    )
    mask_id: list[int] | None = flag(  # noqa: RUF009
        None,
        "Which ids of an all_masks.npz (or of a mask of ids) are the hole: one or several.",
        least=0,
        most=MAX_INT,
    )
    range: str | None = flag(
        None, "START:STOP: these frames of the --video alone, counted from 0. The mask has as many frames as either."
    )
    video_fps: str = flag("24", "Frames per second of a --video (or DAVIS row) that is a folder of images.")
    inpainting_mask_meta: str | None = flag(
        None, "Benchmark CSV with the columns path, start_frame, end_frame, fps, mask_id, caption."
    )
    inpainting_sample_id: list[str] | None = flag(  # noqa: RUF009
        None, "Rows of that CSV, from 0: numbers, ranges and lists (0 5 7-12), or `all`."
    )
    image_or_video_path: str | None = flag(
        None,
        "Where the rows' videos lie: .../videovo/raw_video as in the release, or the data folder itself. "
        "Default: the CSV's folder.",
    )
    inpainting_frames: int = same_flag(
        InpaintSettings, "num_frames", "Frames in one window, 4k+1; without --long_video a row is cut to as many."
    )
    long_video: bool = switch(False, "Process every frame of a benchmark row, not only the first window.")
    down_sample_fps: str | None = flag(
        None,
        "Resample to this rate (8, 23.976, 24000/1001); 0 keeps the source's. Lower rates are kept. "
        "Default: 8 for benchmark rows, 0 for --video.",
    )
    resize_to: str | None = flag(
        None, "Bring video and mask to HEIGHTxWIDTH first, whatever their shape; the result has that size, too."
    )
    mask_shape: Literal["exact", "hull", "box"] = flag(
        "exact",
        "Hole of every frame: the mask's, or the convex hull or bounding box of all of it at once, of several parts "
        "with what lies between them. The wider ones hide the shape of what was there from what is painted instead.",
    )
    dilate_size: int = flag(
        0,
        "Grow the hole by a square of this many pixels (release: 32 to inpaint, 48 to edit).",
        least=0,
        most=MAX_DILATION,
    )


@dataclass(kw_only=True)
class PromptOptions:
    """What the result shows, and who fills the first frame."""

    _argument_group_name: ClassVar[str] = "prompts and first frame"

    prompt: str | None = flag(
        None,
        "Describes the whole resulting video. Default: the row's, or --llm_model's to edit.",
    )
    negative_prompt: str = flag("", "What the result should not show.")
    prompt_at: list[str] | None = flag(  # noqa: RUF009
        None,
        'Another prompt from a frame on: "FRAME:text" (frames of the result, from 0); as often as you like.',
        action="extend",
    )
    image_prompt: str | None = flag(
        None,
        "Describes what belongs in the hole of the first frame. Default: the row's image_inpainting_prompt, "
        "else the video prompt.",
    )
    llm_model: str | None = flag(
        None,
        "Who writes captions that are missing (to edit, all; to inpaint, the image prompt where --img_inpainting_model "
        "reads one): a model of an OpenAI-compatible server (gpt-4o; OPENAI_API_KEY, OPENAI_BASE_URL), a folder or "
        "transformers:ID of a vision-language model, replay:RESULT.json, template (rules), or none.",
    )
    img_inpainting_model: str = flag(
        "opencv",
        "Fills the first frame's hole: a diffusers inpainting pipeline (folder or id, such as ../ckpt/flux_inp), "
        "`opencv` (built in, no weights), `backbone` (the video model, one frame alone), or `none`.",
    )
    first_frame_candidates: int = flag(
        1,
        "Fill the first frame so many times, with the seeds seed, seed+1, ..., and show them under their numbers in "
        "RESULT_first_frames.png; the run ends there until one is chosen.",
        least=1,
        most=16,
    )
    choose_first_frame: str | None = flag(
        None,
        "Of those: the number of one, or `clip` (clip:FOLDER): the one most alike to the image prompt; its weights: "
        "evaluate/README.md.",
    )
    first_frame: str | None = flag(None, "Your own filled first frame (an image), taken as it is.")
    first_frame_gt: bool | None = switch(
        None,
        "The filled first frame is final: it replaces frame 0 and the mask there becomes empty. "
        "Default: yes where a first frame is filled or given.",
    )


@dataclass(kw_only=True)
class ModelOptions:
    """Which weights, and how they are held in memory."""

    _argument_group_name: ClassVar[str] = "models and memory"

    model_path: str | None = flag(
        None, "Backbone folder (CogVideoX-5b-I2V). Default: ckpt/tiny of the repository, with its branch."
    )
    inpainting_branch: str | None = flag(None, "Context encoder folder (VideoPainter/checkpoints/branch).")
    id_adapter_resample_learnable_path: str | None = flag(
        None,
        "ID-resample adapter: its folder (VideoPainterID/checkpoints) or its safetensors file.",
        aliases=["--id_pool_resample_learnable_path"],
    )
    lora_path: str | None = flag(None, "One more LoRA for the backbone: its folder or safetensors file.")
    lora_rank: int | None = flag(
        None, "Rank those adapters are expected to have; checked against the files.", least=1, most=65_536
    )
    dtype: Literal["bfloat16", "float16", "float32"] | None = flag(
        None, "Precision of the weights. Default: bfloat16 on a GPU, float32 on a CPU."
    )
    device: str | None = flag(None, "cpu, cuda or cuda:N. Default: a GPU if there is one (one per process).")
    memory: Literal["auto", "full", "model_offload", "group_offload", "sequential"] = flag(
        "auto", "Where weights wait: all on the GPU, or offloaded by model, by group of layers, or layer by layer."
    )
    quantization: Literal["none", "int8", "fp8", "nf4"] = flag(
        "none", "Weights of backbone and text encoder: int8, fp8 (torchao), or nf4 (bitsandbytes, GPU)."
    )
    compile: bool = switch(False, "Compile the repeated blocks (slow first step, faster ones after).")
    context_parallel: int = flag(
        1,
        "Processes that share the tokens of one video, each on a GPU of its own: start as many (or a multiple) by "
        "accelerate launch or torchrun. With 1, several processes share out the videos.",
        least=1,
        most=64,
    )
    cache: Literal["none", "first_block", "taylorseer", "pab", "mag"] = flag(
        "none",
        "Leave out work where denoising steps are alike: blocks after the first (first_block), blocks of steps in "
        "between (taylorseer), attention of steps in between (pab), or blocks by measured ratios (mag).",
    )
    cache_threshold: float | None = flag(
        None,
        "More leaves out more. first_block: relative change of the first block (default 0.05); mag: accumulated error "
        "(0.06); taylorseer, pab: one step in so many is computed (3, 2).",
        above=0,
        most=1e9,
    )
    cache_ratios: str | None = flag(
        None, "For mag: a JSON list of the ratios that diffusers' MagCacheConfig(calibrate=True) prints for this model."
    )


@dataclass(kw_only=True)
class SamplingOptions(SamplingSettings):
    """How the denoising runs."""

    _argument_group_name: ClassVar[str] = "sampling"

    generate_type: Literal["i2v_inpainting"] = flag("i2v_inpainting", "Kind of generation; there is this one.")
    constant_guidance: bool = switch(
        False, "Keep the guidance constant over the steps; without it, it grows as in CogVideoX."
    )
    scheduler: Literal["auto", "dpm", "ddim", "unipc", "euler"] = flag(
        "auto", "Sampler: dpm or ddim with CogVideoX, unipc or euler with Wan; auto: the first."
    )
    num_videos_per_prompt: int = flag(1, "Results per clip, with the seeds seed, seed+1, ...", least=1, most=1000)
    mask_background: bool = switch(False, "Paint the background and keep what the mask shows, instead.")


@dataclass(kw_only=True)
class OutputOptions:
    """Where results go and what is written beside them."""

    _argument_group_name: ClassVar[str] = "output"

    output_path: str | None = flag(
        None,
        "A file for one result (.mp4, .mov, .mkv, .gif, or images as in folder/%05d.png); for several a folder, or a "
        "name with {name}, {id} or {seed} in it. Default: output.mp4, for several the folder outputs.",
    )
    sound: Literal["auto", "drop"] = flag(
        "auto", "The source's sound: copied, or AAC with the same channels where the file cannot hold it; or left out."
    )
    lossless: bool = switch(False, "Write FFV1 in .mkv, equal to the bit, instead of H.264.")
    overwrite: bool = switch(False, "Replace results that were made with other settings.")
    save_comparison: bool = switch(False, "Also write original | masked | mask | result side by side.")
    contact_sheet: bool = switch(False, "Also write a PNG with a few frames of all four.")
    quiet: bool = switch(False, "No progress bars.")


@dataclass(kw_only=True)
class PropagationOptions:
    """What is copied from other frames before anything is painted."""

    _argument_group_name: ClassVar[str] = "copying what other frames show"

    remove: bool = switch(
        False,
        "Remove what the mask covers: copy what other frames show, with a mask grown over the object's edge "
        "(--dilate_size for another width, 1 for none), matched edges and a feather for what is painted. Needs no "
        "prompt, and without --model_path no model.",
    )
    propagate: Literal["off", "first_frame", "all", "only"] = flag(
        "off",
        "Copy into the hole what other frames show there: in the first frame, in all (the model paints the rest), or "
        "only that (no model is loaded; the rest is closed from around it). For removing; it is wrong for adding or "
        "changing objects, and for benchmarks of reconstruction.",
    )
    propagation_quality: Literal["fast", "default", "high"] = flag("default", "More sources, and more time.")
    affected: str | None = flag(
        None, "A second mask of a --video: what the object changes beside it, as its shadow or reflection; goes, too."
    )
    propose_affected: str | None = flag(
        None,
        "Instead of a result, write a mask video of what changes beside the mask of a --video and touches it. Look at "
        "it; if that is to go, too, give it to --affected.",
    )


# What most people need, in the order of `--help`'s groups.
INPAINT_COMMON = (
    *("video", "mask", "box", "text"),
    *("inpainting_mask_meta", "inpainting_sample_id", "image_or_video_path", "dilate_size"),
    *("prompt", "img_inpainting_model", "model_path", "inpainting_branch", "id_adapter_resample_learnable_path"),
    *("memory", "num_inference_steps", "guidance_scale", "seed", "overlap_frames", "match_edges"),
    *("output_path", "overwrite", "save_comparison"),
    *("remove", "propagate"),
)
INPAINT_OPTIONS = (
    *(ClipOptions, PromptOptions, ModelOptions, SamplingOptions, OutputOptions, PropagationOptions),
    *(ObjectOptions, SegmenterOptions),
)


@dataclass(frozen=True, kw_only=True)
class InpaintOptions:
    """All flags of `infer/inpaint.py`, by group."""

    clip: ClipOptions
    prompts: PromptOptions
    model: ModelOptions
    sampling: SamplingOptions
    output: OutputOptions
    propagation: PropagationOptions = field(default_factory=PropagationOptions)
    objects: ObjectOptions = field(default_factory=ObjectOptions)
    segmenter: SegmenterOptions = field(default_factory=SegmenterOptions)

    @classmethod
    def of(cls, groups: Sequence[Any]) -> InpaintOptions:
        """From what was read for `INPAINT_OPTIONS`, in their order."""
        return cls(**dict(zip([one.name for one in fields(cls)], groups, strict=True)))
