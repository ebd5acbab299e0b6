"""Every metric by name: its unit, which direction is better, what it is a number of, what weights it needs.

The one table that scoring, reports and comparisons read. CSV columns are those of the public release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["frame", "pair", "video", "set"]

# How pixels of the hole are kept out of fidelity. The images of frames are compared whole; `background` blackens the
# hole in both (the paper's text), `release` in the result only, as its evaluation script does.
PROTOCOLS = ("background", "whole", "release")

LPIPS, CLIP_SCORE, CLIP_FRAMES, I3D_WEIGHTS = "lpips", "clip_score", "clip_frames", "i3d"
TRUTH, WINDOWS, RECORD, PROMPT, REGION_PROMPT = "truth", "windows", "record", "prompt", "region prompt"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number means.

    `level`: a number per frame, per pair of neighbouring frames, per video, or one for the whole set; of frames and
    pairs a video's number is the mean. `weights`: keys of `networks.weights.WEIGHTS`. `given`: what else must be known.
    """

    key: str
    label: str
    about: str
    higher_is_better: bool
    level: Level = "frame"
    unit: str = ""
    column: str = ""
    weights: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    digits: int = 4

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"


def _fidelity(prefix: str, column: str | None, where: str, given: tuple[str, ...] = ()) -> list[Metric]:
    rows = (
        ("psnr", "PSNR", "peak signal-to-noise ratio", True, "dB", ()),
        ("ssim", "SSIM", "structural similarity", True, "", ()),
        ("lpips", "LPIPS", "learned perceptual distance (SqueezeNet)", False, "", (LPIPS,)),
        ("mse", "MSE", "mean squared error of images in 0..1", False, "", ()),
        ("mae", "MAE", "mean absolute error of images in 0..1", False, "", ()),
    )
    return [
        Metric(
            key=f"{prefix}{key}",
            label=f"{name} ({where})",
            about=about,
            higher_is_better=higher,
            unit=unit,
            column=f"{column}{name}" if column is not None else "",
            weights=weights,
            given=given,
            digits=2 if key == "psnr" else 4,
        )
        for key, name, about, higher, unit, weights in rows
    ]


_ALL = [
    *_fidelity("", "", "whole"),
    *_fidelity("masked_", "Masked_", "background"),
    *_fidelity("hole_", None, "hole", (TRUTH,)),
    Metric(
        key="hole_haarpsi",
        label="HaarPSI (hole)",
        about="perceptual similarity made of Haar wavelets, needs no weights",
        higher_is_better=True,
        given=(TRUTH,),
    ),
    Metric(
        key="clip_score",
        label="CLIP",
        about="100 x cosine of the frame and the video prompt, CLIP ViT-L/14",
        higher_is_better=True,
        column="CLIP_Score",
        weights=(CLIP_SCORE,),
        given=(PROMPT,),
        digits=2,
    ),
    Metric(
        key="masked_clip_score",
        label="CLIP (hole, video prompt)",
        about="100 x cosine of the hole's content and the video prompt, CLIP ViT-L/14",
        higher_is_better=True,
        column="Masked_CLIP_Score",
        weights=(CLIP_SCORE,),
        given=(PROMPT,),
        digits=2,
    ),
    Metric(
        key="masked_region_clip_score",
        label="CLIP (hole, region prompt)",
        about="100 x cosine of the hole's content and the region prompt, CLIP ViT-L/14",
        higher_is_better=True,
        column="Masked_Region_CLIP_Score",
        weights=(CLIP_SCORE,),
        given=(REGION_PROMPT,),
        digits=2,
    ),
    Metric(
        key="temporal_consistency",
        label="temporal consistency",
        about="cosine of neighbouring frames, CLIP ViT-B/32",
        higher_is_better=True,
        level="pair",
        column="Temporal_Consistency",
        weights=(CLIP_FRAMES,),
    ),
    Metric(
        key="masked_temporal_consistency",
        label="temporal consistency (hole)",
        about="cosine of the hole's content in neighbouring frames, CLIP ViT-B/32",
        higher_is_better=True,
        level="pair",
        column="Masked_Temporal_Consistency",
        weights=(CLIP_FRAMES,),
    ),
    Metric(
        key="vfid",
        label="VFID",
        about="Fréchet distance of I3D features of results and originals",
        higher_is_better=False,
        level="set",
        column="FID_Score",
        weights=(I3D_WEIGHTS,),
    ),
    Metric(
        key="warping_error",
        label="warping error",
        about="mean squared difference of a frame and its neighbour moved onto it by optical flow, 0..1 images",
        higher_is_better=False,
        level="pair",
        digits=5,
    ),
    Metric(
        key="hole_warping_error",
        label="warping error (hole)",
        about="the same, of the hole's pixels",
        higher_is_better=False,
        level="pair",
        digits=5,
    ),
    Metric(
        key="seam_error",
        label="seam error",
        about="by how much the hole changes more where a window begins than inside windows, absolute difference after "
        "motion, 0..1 images",
        higher_is_better=False,
        level="video",
        given=(WINDOWS,),
    ),
    Metric(
        key="identity_consistency",
        label="identity consistency",
        about="likeness (colour, contrast) of the hole's content in the first window and in later ones, 0..1",
        higher_is_better=True,
        level="video",
        given=(WINDOWS,),
    ),
    Metric(
        key="seconds_per_frame",
        label="time per frame",
        about="seconds of inpainting per frame of the result, without loading",
        higher_is_better=False,
        level="video",
        unit="s",
        given=(RECORD,),
        digits=2,
    ),
    Metric(
        key="peak_memory",
        label="peak memory",
        about="largest memory of the process: the GPU's where there is one, else main memory",
        higher_is_better=False,
        level="video",
        unit="GiB",
        given=(RECORD,),
        digits=2,
    ),
]

METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}

# The release's CSV, column by column.
CSV_COLUMNS = (
    "Video_Index",
    "Total_Videos",
    "Video_Name",
    *("PSNR", "SSIM", "LPIPS", "MSE", "MAE", "CLIP_Score", "Temporal_Consistency", "FID_Score"),
    *("Masked_PSNR", "Masked_SSIM", "Masked_LPIPS", "Masked_MSE", "Masked_MAE"),
    *("Masked_CLIP_Score", "Masked_Region_CLIP_Score", "Masked_Temporal_Consistency"),
    *("Video_Caption", "Masked_Target_Caption"),
)
