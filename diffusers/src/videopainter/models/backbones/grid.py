"""How a backbone's pixels, latents and tokens lie on each other. Pure arithmetic, known before torch is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LatentGrid:
    """The grid of a causal video VAE and of the patches on it.

    Latent 0 holds frame 0, latent j the frames temporal·(j−1)+1 .. temporal·j; each of spatial×spatial pixels. A token
    is patch_t×patch×patch latents.
    """

    temporal: int = 4
    spatial: int = 8
    patch: int = 2
    patch_t: int = 1
    channels: int = 16  # of latents

    @property
    def multiple(self) -> int:
        """Pixels across and down of one token: sizes are multiples of it."""
        return self.spatial * self.patch

    # ---- time

    def is_frame_count(self, frames: int) -> bool:
        """Whether so many frames (4k+1) fill whole latents."""
        return frames >= 1 and (frames - 1) % self.temporal == 0

    def frame_counts(self, *more: int) -> str:
        """`4k+1 (1, 5, 9, ...)`, for messages; `more` are named after the dots."""
        first = ", ".join(str(k * self.temporal + 1) for k in range(3))
        return f"{self.temporal}k+1 ({', '.join([first, '...', *map(str, more)])})"

    def padded_frames(self, frames: int) -> int:
        """The next count that fills whole latents."""
        return -(-(frames - 1) // self.temporal) * self.temporal + 1

    def latent_frames(self, frames: int) -> int:
        """Latents of 4k+1 frames: k+1."""
        return (frames - 1) // self.temporal + 1

    def missing(self, latent_frames: int) -> int:
        """How many latents are to be put in front so that patches come out."""
        return -latent_frames % self.patch_t

    # ---- space

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        return height // self.spatial, width // self.spatial

    def working_size(self, height: int, width: int, area: int) -> tuple[int, int]:
        """Height and width, whole tokens, close to `area` pixels in the aspect of a video.

        Example: a 960×540 video on a 480×720 backbone gives 448×784.
        """
        scale = (area / (height * width)) ** 0.5
        rows, columns = (max(1, round(side * scale / self.multiple)) for side in (height, width))
        return rows * self.multiple, columns * self.multiple

    def check_size(self, height: int | None, width: int | None) -> None:
        """ValueError for a height or width (None: free) that is not whole tokens."""
        for name, side in (("height", height), ("width", width)):
            if side is not None and side % self.multiple:
                raise ValueError(f"{name}: expected a multiple of {self.multiple} for this backbone, got {side}")

    # ---- tokens

    def token_grid(self, latent_frames: int, latent_height: int, latent_width: int) -> tuple[int, int, int]:
        """Tokens in time, down and across; a last patch that is not full counts."""
        return -(-latent_frames // self.patch_t), latent_height // self.patch, latent_width // self.patch

    def num_tokens(self, frames: int, height: int, width: int) -> int:
        """Video tokens of so many frames of height×width pixels."""
        grid = self.token_grid(self.latent_frames(frames), *self.latent_size(height, width))
        return grid[0] * grid[1] * grid[2]


# What settings are held to before a backbone is named; a family's own grid may be coarser, never finer.
FINEST = LatentGrid()
