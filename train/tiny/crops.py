"""Parts of rendered clips that the VAE is trained on."""

from __future__ import annotations

import numpy as np
import torch
from common import Clips

# (frames, clips in a batch), drawn evenly. Upstream's decoder works in chunks of 2 latent frames, the first of 1 or 3:
# an even number of latent frames (5 frames, 13 frames) cannot be decoded alone. 17 frames are two chunks, so that the
# seam is trained too. Never one clip: PyTorch then leaves oneDNN, and a pixel costs three times as much.
LENGTHS = ((1, 8), (1, 8), (9, 2), (9, 2), (17, 2))
LAST_LENGTHS = ((1, 4), (9, 2))  # whole frames: what group norms divide by depends on how much is seen
CROP = (48, 64)
OBJECT_WEIGHT = 2.0  # the pixels of an object, and its outline, count so much more


def random_crops(clips: Clips, rng: np.random.Generator, *, whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Short clips (B, 3, T, H, W), and the weight of each pixel (B, 1, T, H, W).

    Some have a grey hole where the object is: what branches are shown.
    """
    lengths = LAST_LENGTHS if whole else LENGTHS
    length, count = lengths[rng.integers(len(lengths))]
    height, width = clips.frames.shape[2:4]
    size = (height, width) if whole else CROP
    batch, weights = [], []
    for index in rng.integers(len(clips), size=count):
        start = rng.integers(clips.frames.shape[1] - length + 1)
        kind = rng.random()
        y, x = rng.integers(height - size[0] + 1), rng.integers(width - size[1] + 1)
        if not whole and kind < 0.9:  # at the object
            seen = np.argwhere(clips.footprint[index, start])
            if len(seen):
                y, x = np.clip(
                    seen.mean(0) - np.array(size) * rng.uniform(0.2, 0.8, 2), 0, (height - size[0], width - size[1])
                ).astype(int)
        part = (index, slice(start, start + length), slice(y, y + size[0]), slice(x, x + size[1]))
        hole = clips.footprint[part]
        frames = np.array((clips.without if 0.75 < kind < 0.9 else clips.frames)[part])
        if 0.65 < kind < 0.75:
            frames = np.where(hole[..., None], np.float32(127.5), frames)
        batch.append(frames.astype(np.float32))
        weights.append(hole)
    video, weight = np.stack(batch), torch.from_numpy(np.stack(weights))[:, None]
    video = torch.from_numpy(video).permute(0, 4, 1, 2, 3) / 127.5 - 1.0
    if rng.random() < 0.5:
        video, weight = video.flip(-1), weight.flip(-1)
    return video, 1.0 + OBJECT_WEIGHT * weight
