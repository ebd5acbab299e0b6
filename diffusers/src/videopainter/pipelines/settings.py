"""Settings of one inpainting run. Imports nothing heavy, so that mistakes are found before torch is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args, get_origin, get_type_hints

from videopainter.data.crops import CropPath, crop_path, hole_boxes
from videopainter.flags import MAX_INT, MAX_SIDE, check_ranges, check_size, flag, switch
from videopainter.models.backbones.grid import FINEST

if TYPE_CHECKING:
    from videopainter.data.clip import MaskSource
    from videopainter.models.backbones.protocol import Facts


@dataclass(kw_only=True)
class SamplingSettings:
    """The settings that commands and pipelines share, with the `--help` of the flags that set them. Sizes in pixels.

    Raises:
        ValueError: in one line, for every value that does not fit.
    """

    num_inference_steps: int = flag(50, "Denoising steps per window.", least=1, most=1000)  # CogVideoX has as many
    guidance_scale: float = flag(
        6.0, "Classifier-free guidance; 1 turns it off (and halves the work).", least=0, most=1000
    )
    strength: float = flag(
        1.0, "Below 1 the hole starts from its own noised content, and fewer steps run.", above=0, most=1
    )
    # On the same machine: the same seed and settings give the same video.
    seed: int = flag(42, "Same seed, same result.", least=0, most=MAX_INT)
    # Both or none. Results come back at the video's size whatever this is.
    height: int | None = flag(
        None,
        "Model height, a multiple of 16. Default: the backbone's area at the video's aspect.",
        least=FINEST.multiple,
        most=MAX_SIDE,
    )
    width: int | None = flag(None, "Model width, a multiple of 16.", least=FINEST.multiple, most=MAX_SIDE)
    crop: Literal["none", "auto"] = flag(
        "none",
        "auto: where the hole is small in a large video, the model sees a crop around it, at full resolution if it "
        "is no larger than the model's size; the crop follows a hole that moves.",
    )
    overlap_frames: int = flag(0, "Frames neighbouring windows share, 4k+1; 0 means 1.", least=0, most=4093)
    blend: Literal["linear", "average"] = flag("linear", "How overlapping windows are joined (release: average).")
    mask_add: bool = switch(True, "Add branch features to background tokens only.")  # the paper's "select"
    add_first: bool = switch(False, "Add branch features after the first blocks only.")
    # In latents after every step, in pixels at full resolution at the end.
    replace_gt: bool = switch(True, "Keep the background: the input's own pixels outside the hole, to the bit.")
    # Without it the background is what the VAE makes of kept latents, as in the public release, whose published
    # background metrics measure just that.
    paste_background: bool = switch(
        True, "With replace_gt, put the input's own pixels back outside the hole; without it, only latents are kept."
    )
    # What the nearest mask calls background may show the edge of what is to go.
    kept_latents: Literal["untouched", "nearest"] = flag(
        "untouched", "Which latents replace_gt keeps: those the hole does not touch, or as the release (nearest mask)."
    )
    match_edges: bool = switch(
        False,
        "Shift colours inside the hole so that no outline shows at its edge; the mask should cover the object well.",
    )
    feather: int = flag(
        0, "Width in pixels, inside the hole, over which the result fades into the background.", least=0, most=4096
    )
    conditioning_scale: float = flag(1.0, "Weight of the branch's features.", least=-100, most=100)
    # At 0 each window resamples itself.
    prev_clip_weight: float = flag(
        0.0, "Weight of the previous window's identity tokens (needs an ID adapter).", least=0, most=100
    )
    id_resample: Literal["auto", "off", "exact", "compact"] = flag(
        "auto", "Form of ID resampling; auto: as the adapter was trained, off without one."
    )

    def __post_init__(self) -> None:
        self._check_size()
        check_ranges(self)
        pasted = self.replace_gt and self.paste_background
        for name, on in (("match_edges", self.match_edges), ("crop", self.crop == "auto")):
            _expect(pasted or not on, name, "replace_gt and paste_background with it", "them off")
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal:
                _expect(getattr(self, name) in get_args(hint), name, " or ".join(get_args(hint)), getattr(self, name))

    def _check_size(self) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"size: expected both height and width or neither, got {self.height} x {self.width}")
        for name, value in (("height", self.height), ("width", self.width)):
            if value is not None:
                _expect(value % FINEST.multiple == 0, name, f"a multiple of {FINEST.multiple}", value)
        if self.height is not None and self.width is not None:
            check_size("height, width", self.height, self.width)


@dataclass(kw_only=True)
class InpaintSettings(SamplingSettings):
    """How a video is inpainted: what a pipeline takes. Counts in frames."""

    num_frames: int = flag(49, "Frames in one window, 4k+1; shorter videos use one shorter window.", least=1, most=4097)
    use_dynamic_cfg: bool = switch(True, "Guidance that grows over the steps, where the family has it (CogVideoX).")
    first_frame_gt: bool = switch(False, "The filled first frame is final: the mask there becomes empty.")

    def __post_init__(self) -> None:
        self._check_windows()
        super().__post_init__()

    def _check_windows(self) -> None:
        _expect(FINEST.is_frame_count(self.num_frames), "frames of a window", FINEST.frame_counts(49), self.num_frames)
        overlap = self.overlap_frames
        _expect(
            overlap == 0 or FINEST.is_frame_count(overlap), "overlap_frames", f"0 or {FINEST.frame_counts()}", overlap
        )
        _expect(
            overlap < self.num_frames or (overlap <= 1 and self.num_frames == 1),
            "overlap_frames",
            f"less than a window's {self.num_frames} frames",
            overlap,
        )

    @property
    def num_denoising_steps(self) -> int:
        """Steps that a window runs: the share `strength` of `num_inference_steps`, at least one."""
        return max(1, round(self.num_inference_steps * self.strength))

    @property
    def guidance(self) -> bool:
        return self.guidance_scale > 1.0

    def working_size(self, backbone: Facts, height: int, width: int) -> tuple[int, int]:
        """Height and width that the model works at on frames of this size: as set, else the area that the backbone was
        trained on in the frames' aspect."""
        backbone.grid.check_size(self.height, self.width)
        if self.height is not None and self.width is not None:
            return self.height, self.width
        return backbone.grid.working_size(height, width, math.prod(backbone.trained_size))

    def crop_path(self, backbone: Facts, masks: MaskSource) -> CropPath:
        """What the model sees of a video with these masks: all of it, or with ``crop`` a part around the holes. All
        masks are read then, a few at a time."""
        frame = masks.height, masks.width
        if self.crop == "none":
            return CropPath.whole(*frame, len(masks))
        trained = backbone.trained_size if self.height is None or self.width is None else (self.height, self.width)
        return crop_path(
            hole_boxes(masks), frame, partial(self.working_size, backbone), trained, backbone.grid.multiple
        )


def _expect(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {got}")
