"""The flags of `evaluate/evaluate.py` and `evaluate/score.py`. Reading them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.errors import InputError
from videopainter.flags import MAX_DILATION, MAX_INT, flag, same_flag, switch
from videopainter.metrics.scorer import ScoreOptions
from videopainter.pipelines.settings import InpaintSettings
from videopainter.runs.options import ModelOptions, PromptOptions, SamplingOptions


@dataclass(kw_only=True)
class BenchmarkOptions:
    """What is evaluated."""

    _argument_group_name: ClassVar[str] = "benchmark"

    sets: list[str] | None = flag(  # noqa: RUF009
        None, "Benchmark CSVs with the names of their sets: standard=FILE long=FILE davis=FILE."
    )
    long_sets: list[str] = flag(  # noqa: RUF009
        None, "Sets whose videos are processed whole; others are cut to one window. Default: long."
    )
    native_fps_sets: list[str] = flag(  # noqa: RUF009
        None, "Sets whose frames are all taken; others are resampled to --down_sample_fps. Default: davis."
    )
    image_or_video_path: str | None = flag(None, "The data folder, or one inside it. Default: each CSV's own.")
    inpainting_sample_id: list[str] | None = flag(  # noqa: RUF009
        None, "Rows of each CSV: numbers, ranges and lists (0 5 7-12), or all. Default: all."
    )
    inpainting_frames: int = same_flag(InpaintSettings, "num_frames", "Frames in one window, 4k+1.")
    down_sample_fps: str = flag("8", "Frames per second that videos are resampled to; lower rates are kept.")
    resize_to: str | None = flag(
        None,
        "Size that videos are brought to first and scored at, HEIGHTxWIDTH (release: 480x720). Default: their own.",
    )
    dilate_sizes: list[int] = flag(  # noqa: RUF009
        None,
        "Sizes in pixels by which holes are grown, one run each (release: 32 16 0). Default: 32.",
        least=0,
        most=MAX_DILATION,
    )
    replace_gts: list[str] = flag(  # noqa: RUF009
        None, "Whether the background is kept, one run each (release: true false). Default: as --replace_gt says."
    )
    output_path: str = flag("outputs/evaluation", "Folder of all runs: SET/dilateN_replace or _generate below it.")
    overwrite: bool = switch(False, "Replace results that were made with other settings.")
    generate: bool = switch(True, "Inpaint what is not there yet; without it, what is there is scored.")
    score: bool = switch(True, "Score the results and write the reports.")
    quiet: bool = switch(False, "No progress bars.")

    def __post_init__(self) -> None:
        self.long_sets = ["long"] if self.long_sets is None else self.long_sets
        self.native_fps_sets = ["davis"] if self.native_fps_sets is None else self.native_fps_sets
        self.dilate_sizes = [32] if self.dilate_sizes is None else self.dilate_sizes


@dataclass(kw_only=True)
class ScoringOptions(ScoreOptions):
    """What is measured, and what is reported."""

    _argument_group_name: ClassVar[str] = "scoring"

    ckpt: str | None = flag(None, "Folder with the metrics' weights. Default: ckpt/ of the repository.")
    ground_truth: str | None = flag(
        None,
        "What truly lies in the holes, for hole metrics: `originals`, or a folder of videos (or of folders of frames) "
        "named as the results. Default: unknown.",
    )
    html: bool = switch(True, "Write an HTML page with players.")
    save_frames: bool = switch(False, "Also save PNGs under comp_frames, ori_frames and masks, as the release does.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ground_truth not in (None, "originals") and not Path(str(self.ground_truth)).is_dir():
            raise InputError(f"--ground_truth: expected `originals` or a folder, got {self.ground_truth}")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """All flags of `evaluate/evaluate.py`, by group."""

    benchmark: BenchmarkOptions
    prompts: PromptOptions
    model: ModelOptions
    sampling: SamplingOptions
    scoring: ScoringOptions


# What most people need.
EVALUATE_COMMON = (
    *("sets", "image_or_video_path", "inpainting_sample_id", "resize_to", "dilate_sizes", "replace_gts"),
    *("img_inpainting_model", "model_path", "inpainting_branch", "id_adapter_resample_learnable_path", "memory"),
    *("num_inference_steps", "guidance_scale", "seed", "output_path", "generate", "score", "protocol", "ground_truth"),
)
EVALUATE_OPTIONS = (BenchmarkOptions, PromptOptions, ModelOptions, SamplingOptions, ScoringOptions)


@dataclass(kw_only=True)
class ResultsOptions:
    """Which results are scored, and against what."""

    _argument_group_name: ClassVar[str] = (
        "results (rows of a benchmark CSV, three folders, three files, or the release's output)"
    )

    results: str | None = flag(
        None,
        "Results: a folder of videos (or of folders of frames), one video, or a folder in the release's layout "
        "(NAME/comp_frames, ori_frames, masks), which needs no originals.",
    )
    originals: str | None = flag(None, "The original videos, named as the results (or one video for one).")
    masks: str | None = flag(None, "Their masks, white = hole (or one for one): videos, folders, images, .npz.")
    mask_id: int | None = flag(None, "Which id of the masks is the hole, where they hold ids.", least=0, most=MAX_INT)
    inpainting_mask_meta: str | None = flag(
        None, "Benchmark CSV whose rows are the originals; results are found by row number or name."
    )
    inpainting_sample_id: list[str] | None = flag(None, "Rows of that CSV. Default: all.")  # noqa: RUF009
    image_or_video_path: str | None = flag(None, "Where the rows' videos lie. Default: the CSV's folder.")
    set_name: str | None = flag(
        None, "Which published row stands beside the numbers: standard, long, davis, edit_standard, edit_long."
    )
    prompts_file: str | None = flag(None, "CSV with the columns name, prompt, region_prompt, for CLIP scores.")
    down_sample_fps: str | None = flag(
        None, "Rate at which the originals were sampled. Default: 8 for rows of VPBench, every frame otherwise."
    )
    num_frames: int | None = flag(None, "Compare the first so many frames. Default: all of them.", least=1)
    allow_shorter: bool = switch(False, "Compare as many frames as a result has, where the original has more.")
    resize_to: str | None = flag(None, "Bring everything to HEIGHTxWIDTH first. Default: the results' own size.")
    dilate_size: int = flag(
        0, "Grow the hole by a square of this many pixels, as the method was given it.", least=0, most=MAX_DILATION
    )
    borders: list[int] | None = flag(  # noqa: RUF009
        None,
        "Frames on which new windows begin, for seam and identity metrics, where no JSON beside a result tells.",
        least=0,
    )
    output_path: str | None = flag(None, "Folder of scores and reports. Default: RESULTS/evaluation.")
    device: str | None = flag(None, "cpu, cuda or cuda:N. Default: a GPU if there is one (one per process).")
    overwrite: bool = switch(False, "Score again what is scored already.")
    quiet: bool = switch(False, "No progress bars.")


SCORE_OPTIONS = (ResultsOptions, ScoringOptions)
