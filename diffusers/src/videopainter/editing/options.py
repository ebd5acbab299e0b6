"""The flags of `infer/edit.py` (of `infer/inpaint.py`, and what is to be changed) and of `infer/edit_bench.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from videopainter.flags import flag
from videopainter.runs.options import INPAINT_COMMON, INPAINT_OPTIONS, InpaintOptions


@dataclass(kw_only=True)
class EditingOptions:
    """What is changed, in words."""

    _argument_group_name: ClassVar[str] = "editing"

    video_editing_instruction: list[str] | None = flag(  # noqa: RUF009
        None,
        'What to change: "change the red ball to a blue star"; several make a result each. Default: the row\'s '
        "Editing_instruction. edit_bench.py takes `auto`, too: --llm_model invents one.",
        action="extend",
    )


@dataclass(kw_only=True)
class PairOptions:
    """Which instructions are invented, and which pairs are kept."""

    _argument_group_name: ClassVar[str] = "pairs"

    instruction_kinds: str = flag(
        "add:1,remove:1,swap:1,change:2",
        "With --video_editing_instruction auto: how often each kind is invented. A row's kind follows from its number "
        "(that of --video from its name) and --seed.",
    )
    judge_model: str | None = flag(
        None, "Who looks at every pair and says whether the edit shows: as --llm_model. Default: nobody."
    )
    min_background_psnr: float = flag(
        30.0, "Drop pairs whose pixels outside the hole differ by more (dB, of the files).", least=0, most=100
    )
    min_change: float = flag(
        5.0, "Drop pairs whose pixels in the hole differ by less on average (levels of 255).", least=0, most=255
    )
    min_clip_direction: float = flag(
        0.0,
        "Drop pairs whose picture changes otherwise than their caption: cosine of both changes in CLIP, where its "
        "weights and an original caption are there.",
        least=-1,
        most=1,
    )
    ckpt: str | None = flag(None, "Folder of CLIP's weights (evaluate/README.md). Default: the repository's ckpt.")


EDIT_COMMON = ("video_editing_instruction", "llm_model", "image_prompt", "mask_shape", *INPAINT_COMMON)
EDIT_OPTIONS = (EditingOptions, *INPAINT_OPTIONS)


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """All flags of `infer/edit.py`."""

    editing: EditingOptions
    run: InpaintOptions


EDIT_BENCH_COMMON = (
    *("video_editing_instruction", "instruction_kinds", "llm_model", "judge_model"),
    *("min_background_psnr", "min_change", "inpainting_mask_meta", "inpainting_sample_id", "image_or_video_path"),
    *("dilate_size", "mask_shape", "img_inpainting_model", "model_path", "inpainting_branch", "memory"),
    *("id_adapter_resample_learnable_path", "num_inference_steps", "guidance_scale", "seed", "overlap_frames"),
    *("output_path", "overwrite"),
)
EDIT_BENCH_OPTIONS = (PairOptions, *EDIT_OPTIONS)


@dataclass(frozen=True, kw_only=True)
class EditBenchOptions:
    """All flags of `infer/edit_bench.py`."""

    pairs: PairOptions
    edits: EditOptions
