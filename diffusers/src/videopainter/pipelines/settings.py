"""Settings of one inpainting run. Imports nothing heavy, so that mistakes are found before torch is."""

from __future__ import annotations

from dataclasses import dataclass

from videopainter.flags import MAX_INT, MAX_SIDE, Range, check_number, check_size

TEMPORAL_COMPRESSION = 4  # of CogVideoX's VAE: 4k+1 frames become k+1 latent frames
SIZE_MULTIPLE = 16  # VAE 8 × patch 2
BLENDS = ("linear", "average")
KEPT_LATENTS = ("untouched", "nearest")
ID_RESAMPLE_CHOICES = ("auto", "off", "exact", "compact")

# The range of every number, for the flags that set it (see `flags.flag`).
LIMITS: dict[str, dict[str, float]] = {
    "height": {"least": SIZE_MULTIPLE, "most": MAX_SIDE},
    "width": {"least": SIZE_MULTIPLE, "most": MAX_SIDE},
    "num_frames": {"least": 1, "most": 4097},
    "overlap_frames": {"least": 0, "most": 4093},
    "num_inference_steps": {"least": 1, "most": 1000},  # CogVideoX has as many timesteps
    "guidance_scale": {"least": 0, "most": 1000},
    "strength": {"above": 0, "most": 1},
    "prev_clip_weight": {"least": 0, "most": 100},
    "conditioning_scale": {"least": -100, "most": 100},
    "feather": {"least": 0, "most": 4096},
    "seed": {"least": 0, "most": MAX_INT},
}


def is_frame_count(frames: int) -> bool:
    """Whether a count is 4k+1, what the VAE maps onto whole latent frames."""
    return frames >= 1 and (frames - 1) % TEMPORAL_COMPRESSION == 0


@dataclass(kw_only=True)
class InpaintSettings:
    """How a video is inpainted. Sizes in pixels, counts in frames.

    Args:
        height, width: Size the model works at, multiples of 16; both or none. None: the backbone's own area in the
            video's aspect. Results come back at the video's size whatever this is.
        num_frames: Frames of a window, 4k+1. Videos that are shorter use one shorter window.
        overlap_frames: Frames shared by neighbouring windows: 0 (taken as 1) or 4k+1, less than `num_frames`.
        num_inference_steps: Denoising steps of a window.
        guidance_scale: Classifier-free guidance; 1 or less turns it off (half the work).
        use_dynamic_cfg: Guidance that grows over the steps, as upstream CogVideoX does.
        strength: 1 starts from noise; less starts from the noised input, and runs that share of the steps.
        mask_add: Add branch features on background tokens only (the paper's "select").
        add_first: Add features after the first blocks only.
        replace_gt: Keep the background: in latents after every step, in pixels at full resolution at the end.
        paste_background: False leaves out the second of these: the background is what the VAE makes of kept latents, as
            in the public release, whose published background metrics measure just that.
        kept_latents: Which latents `replace_gt` sets to the original ones: ``untouched`` by the hole, or, as the public
            release, all that the ``nearest`` mask calls background (which may show the edge of what is to go).
        first_frame_gt: Take the filled first frame as known: its mask becomes empty.
        prev_clip_weight: Weight of the previous window's ID memory; 0: each window resamples itself.
        id_resample: ``auto`` (as the loaded adapter was trained; off without one), ``off``, ``exact`` or ``compact``.
        blend: Overlapping latents: ``linear``, or ``average`` as the public release.
        conditioning_scale: Factor on every branch feature.
        match_edges: Shift colours inside the hole so that they go over into the pasted background at its edge.
        feather: Width in pixels of the soft edge inside the hole where `replace_gt` pastes the background.
        seed: Seed of the noise; the same seed and settings give the same video on the same machine.

    Raises:
        ValueError: in one line, for every value that does not fit.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int = 49
    overlap_frames: int = 0
    num_inference_steps: int = 50
    guidance_scale: float = 6.0
    use_dynamic_cfg: bool = True
    strength: float = 1.0
    mask_add: bool = True
    add_first: bool = False
    replace_gt: bool = True
    paste_background: bool = True
    kept_latents: str = "untouched"
    first_frame_gt: bool = False
    prev_clip_weight: float = 0.0
    id_resample: str = "auto"
    blend: str = "linear"
    conditioning_scale: float = 1.0
    match_edges: bool = False
    feather: int = 0
    seed: int = 42

    def __post_init__(self) -> None:
        self._check_windows()
        self._check_size()
        for name, limits in LIMITS.items():
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), Range(**limits))
        pasted = self.replace_gt and self.paste_background
        _expect(pasted or not self.match_edges, "match_edges", "replace_gt and paste_background with it", "them off")
        _expect(self.kept_latents in KEPT_LATENTS, "kept_latents", " or ".join(KEPT_LATENTS), self.kept_latents)
        _expect(self.blend in BLENDS, "blend", " or ".join(BLENDS), self.blend)
        _expect(
            self.id_resample in ID_RESAMPLE_CHOICES, "id_resample", " or ".join(ID_RESAMPLE_CHOICES), self.id_resample
        )

    def _check_windows(self) -> None:
        _expect(is_frame_count(self.num_frames), "frames of a window", "4k+1 (1, 5, 9, ..., 49)", self.num_frames)
        overlap = self.overlap_frames
        _expect(overlap == 0 or is_frame_count(overlap), "overlap_frames", "0 or 4k+1 (1, 5, 9, 13, ...)", overlap)
        _expect(
            overlap < self.num_frames or (overlap <= 1 and self.num_frames == 1),
            "overlap_frames",
            f"less than a window's {self.num_frames} frames",
            overlap,
        )

    def _check_size(self) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"size: expected both height and width or neither, got {self.height} x {self.width}")
        for name, value in (("height", self.height), ("width", self.width)):
            if value is not None:
                _expect(value % SIZE_MULTIPLE == 0, name, f"a multiple of {SIZE_MULTIPLE}", value)
        if self.height is not None and self.width is not None:
            check_size("height, width", self.height, self.width)

    @property
    def num_denoising_steps(self) -> int:
        """Steps that a window runs: the share `strength` of `num_inference_steps`, at least one."""
        return max(1, round(self.num_inference_steps * self.strength))

    @property
    def guidance(self) -> bool:
        return self.guidance_scale > 1.0


def _expect(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {got}")


def working_size(video_height: int, video_width: int, area: int) -> tuple[int, int]:
    """Height and width, multiples of 16, close to `area` pixels in the aspect of the video.

    Example: a 960×540 video on a 480×720 backbone gives 448×784.
    """
    scale = (area / (video_height * video_width)) ** 0.5
    height = max(1, round(video_height * scale / SIZE_MULTIPLE)) * SIZE_MULTIPLE
    width = max(1, round(video_width * scale / SIZE_MULTIPLE)) * SIZE_MULTIPLE
    return height, width
