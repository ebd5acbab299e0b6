"""Rotary tables against the formula, written out: positions of the public release, one angle per pair of channels."""

import numpy as np
import pytest
import torch

from videopainter.models.backbones.cogvideox.adapter import rotary_tables
from videopainter.models.backbones.cogvideox.facts import CogVideoXFacts

HEAD = 64

# Height and width in pixels; the crop of 480×720's token grid (30 rows, 45 columns) in that aspect: start and stop.
CROPS = [
    ((480, 720), (0, 30), (0, 45)),
    ((64, 96), (0, 30), (0, 45)),
    ((448, 784), (2, 28), (0, 45)),
    ((96, 160), (2, 29), (0, 45)),
    ((720, 480), (0, 30), (12, 32)),
    ((512, 512), (0, 30), (8, 38)),
    ((1360, 768), (0, 30), (14, 31)),
    ((48, 336), (12, 18), (0, 45)),
    ((456, 792), (2, 28), (0, 45)),  # 57×99 latents: the last row and column make no token
]


def config(**changes):
    options = {"patch_size": 2, "patch_size_t": None, "sample_height": 60, "sample_width": 90}
    options |= {"use_rotary_positional_embeddings": True, "attention_head_dim": HEAD}
    return CogVideoXFacts(options | changes)


def angles(times, rows, columns):
    """(T·h·w, HEAD) angles of all tokens, time slowest; every frequency stands twice in a row."""
    token = np.stack(np.meshgrid(times, rows, columns, indexing="ij"), -1).reshape(-1, 3)
    widths = (HEAD // 4, HEAD * 3 // 8, HEAD * 3 // 8)
    parts = [token[:, i, None] * 10000.0 ** -(np.arange(0, width, 2) / width) for i, width in enumerate(widths)]
    return np.repeat(np.concatenate(parts, axis=1), 2, axis=1)


def check(tables, expected):
    for table, function in zip(tables, (np.cos, np.sin), strict=True):
        assert table.dtype == torch.float32
        assert table.shape == expected.shape
        np.testing.assert_allclose(table.numpy(), function(expected), atol=2e-5)


def stretched(start, stop, count):
    return np.array([start + (stop - start) * i / count for i in range(count)])


@pytest.mark.parametrize(("size", "down", "across"), CROPS)
@pytest.mark.parametrize("frames", [1, 3, 13])
def test_first_generation_stretches_the_cropped_grid(size, down, across, frames):
    rows, columns = size[0] // 16, size[1] // 16
    expected = angles(np.arange(frames), stretched(*down, rows), stretched(*across, columns))
    check(rotary_tables(config(), size[0] // 8, size[1] // 8, frames), expected)


def test_the_backbones_own_size_does_not_matter():
    tables = (rotary_tables(config(sample_height=h), 56, 98, 2) for h in (60, 8))
    assert all(torch.equal(a, b) for a, b in zip(*tables))


@pytest.mark.parametrize("size", [(480, 720), (768, 1360), (1360, 768), (448, 784), (800, 1600)])
@pytest.mark.parametrize(("frames", "tokens"), [(2, 1), (13, 7), (14, 7)])
def test_generation_1_5_counts_on(size, frames, tokens):
    rows, columns = size[0] // 16, size[1] // 16
    options = config(patch_size_t=2, sample_height=96, sample_width=170)
    tables = rotary_tables(options, size[0] // 8, size[1] // 8, frames)
    check(tables, angles(np.arange(tokens), np.arange(rows), np.arange(columns)))


def test_backbones_without():
    options = config(use_rotary_positional_embeddings=False)
    assert rotary_tables(options, 8, 12, 3) is None
