"""Frames per second of our scorer, next to the same metrics called frame by frame, as a ratio of one run.

Frame by frame: each metric is a call of its own on one pair of images, whole and with the hole black in both, as an
evaluation script does it: PSNR, SSIM, MSE and MAE by torchmetrics; with `--models` also LPIPS and the CLIP scores and
similarities, by the very networks that the scorer uses (random weights, published sizes), images through transformers'
processor, and I3D, which needs the whole video either way. Both take turns, on the same frames in memory, with the same
number of threads; that their numbers agree is checked.
    python benchmarks/scoring.py [--frames 24] [--models lpips clip i3d] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from torchmetrics.functional import image as tmi
from torchmetrics.functional import mean_absolute_error, mean_squared_error

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.metrics.networks.clip_images import ClipImages, ClipPreprocessing
from videopainter.metrics.networks.i3d import I3D
from videopainter.metrics.networks.lpips import Lpips
from videopainter.metrics.networks.models import MetricModels
from videopainter.metrics.scorer import SCORED, ScoreOptions, Scorer

PIXELS = [f"{part}{key}" for part in ("", "masked_") for key in ("psnr", "ssim", "mse", "mae")]
OF_MODELS = {
    "lpips": ["lpips", "masked_lpips"],
    "clip": [
        *("clip_score", "masked_clip_score", "masked_region_clip_score"),
        *("temporal_consistency", "masked_temporal_consistency"),
    ],
    "i3d": ["vfid"],
}
PROMPT, REGION_PROMPT = "a dog runs over a meadow in the evening", "dog"
# OpenAI's published models: hidden size, feed-forward, layers, heads of text and vision; patch, projection.
VIT_L14 = {"text": (768, 3072, 12, 12), "vision": (1024, 4096, 24, 16), "patch": 14, "projection": 768}
VIT_B32 = {"text": (512, 2048, 12, 8), "vision": (768, 3072, 12, 12), "patch": 32, "projection": 512}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def make_video(frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A panning pattern, the same with noise as if encoded and with another hole, and the hole (a fifth)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8, (width + 4 * frames) // 8 + 1, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (width + 4 * frames, height), interpolation=cv2.INTER_CUBIC)
    originals = np.stack([wide[:, 4 * t : 4 * t + width] for t in range(frames)])
    masks = np.zeros((frames, height, width), bool)
    for t, mask in enumerate(masks):
        mask[height // 4 : 3 * height // 4, width // 4 + t : width // 4 + t + 2 * width // 5] = True
    results = originals + rng.normal(0, 4, originals.shape)
    results = np.where(masks[..., None], results[:, ::-1], results)
    return originals, np.clip(np.rint(results), 0, 255).astype(np.uint8), masks


def make_models(names: list[str], device: str) -> MetricModels:
    torch.manual_seed(0)
    models = MetricModels()
    if "lpips" in names:
        models.lpips = Lpips().to(device)
        for weighting in models.lpips.weightings:
            weighting.data.uniform_(0, 1)
    if "clip" in names:
        models.clip_score, models.clip_frames = (make_clip(sizes, device) for sizes in (VIT_L14, VIT_B32))
    if "i3d" in names:
        models.i3d = I3D().to(device)
    return models


def make_clip(sizes: dict[str, Any], device: str) -> ClipImages:
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    config = CLIPConfig(
        text_config=dict(zip(names, sizes["text"])) | ends,
        vision_config=dict(zip(names, sizes["vision"])) | {"patch_size": sizes["patch"], "image_size": 224},
        projection_dim=sizes["projection"],
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    model: Any = CLIPModel(config).eval().requires_grad_(False)
    model.to(device)
    return ClipImages(model, ClipPreprocessing(224, (224, 224), MEAN, STD), tokenizer)


class FrameByFrame:
    """The metrics as calls on one image, or one pair, at a time."""

    def __init__(self, models: MetricModels, device: str) -> None:
        self.models, self.device = models, device
        self.processor = None
        if models.clip_score is not None:
            from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

            self.processor = CLIPImageProcessorPil()

    def score(self, originals: np.ndarray, results: np.ndarray, masks: np.ndarray) -> dict[str, list[float]]:
        values: dict[str, list[float]] = {}
        last: list[torch.Tensor] | None = None
        for original, result, mask in zip(originals, results, masks):
            keep = ~mask[..., None]
            found = {}
            for prefix, images in (("", (original, result)), ("masked_", (original * keep, result * keep))):
                for key, metric in self.pair_metrics().items():
                    found[f"{prefix}{key}"] = float(metric(*(self.tensor(image) for image in images)))
            if self.models.clip_score is not None:
                hole = result * ~keep
                found["clip_score"] = self.clip_score(result, PROMPT)
                found["masked_clip_score"] = self.clip_score(hole, PROMPT)
                found["masked_region_clip_score"] = self.clip_score(hole, REGION_PROMPT)
                features = [self.clip_features(self.models.clip_frames, image) for image in (result, hole)]
                if last is not None:
                    for key, now, before in zip(("", "masked_"), features, last):
                        found[f"{key}temporal_consistency"] = float((now * before).sum())
                last = features
            for key, value in found.items():
                values.setdefault(key, []).append(value)
        if self.models.i3d is not None:
            for video in (originals, results):
                self.models.i3d.features(torch.cat([self.tensor(frame) for frame in video])[None])
        return values

    def pair_metrics(self) -> dict[str, Callable[..., torch.Tensor]]:
        metrics: dict[str, Callable[..., Any]] = {
            "psnr": lambda a, b: tmi.peak_signal_noise_ratio(b, a, data_range=1.0),
            "ssim": lambda a, b: tmi.structural_similarity_index_measure(b, a, data_range=1.0),
            "mse": lambda a, b: mean_squared_error(b.contiguous(), a.contiguous()),
            "mae": lambda a, b: mean_absolute_error(b.contiguous(), a.contiguous()),
        }
        return metrics if self.models.lpips is None else metrics | {"lpips": self.models.lpips.distance}

    def tensor(self, image: np.ndarray) -> torch.Tensor:
        """uint8 (H, W, 3) to float (1, 3, H, W) in 0..1."""
        return torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255

    def clip_score(self, image: np.ndarray, prompt: str) -> float:
        model = self.models.clip_score
        assert model is not None
        return max(100 * float((self.clip_features(model, image) * model.text(prompt)).sum()), 0)

    def clip_features(self, model: Any, image: np.ndarray) -> torch.Tensor:
        assert self.processor is not None
        values = self.processor(image, return_tensors="pt")["pixel_values"].to(self.device)
        return torch.nn.functional.normalize(
            model.model.get_image_features(pixel_values=values).pooler_output[0], dim=0
        )


def check(ours: dict[str, np.ndarray], theirs: dict[str, list[float]]) -> float:
    """Largest difference of all numbers; AssertionError beyond what rounding explains."""
    assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
    worst = 0.0
    for key, values in theirs.items():
        difference = float(np.abs(ours[key] - np.array(values)).max())
        assert difference < (0.05 if "clip" in key else 1e-3 if "consistency" in key else 1e-4), (key, difference)
        worst = max(worst, difference)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=720)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--score_batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="*", choices=list(OF_MODELS), default=[])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    torch.set_grad_enabled(False)

    originals, results, masks = make_video(arguments.frames, arguments.height, arguments.width)
    models = make_models(arguments.models, arguments.device)
    sources = ArrayFrames(originals, Fraction(8)), ArrayFrames(results, Fraction(8)), ArrayMasks(masks)
    same = PIXELS + [key for name in arguments.models for key in OF_MODELS[name]]

    def ours(keys: list[str] | None) -> dict[str, np.ndarray]:
        options = ScoreOptions(metrics=keys, score_batch=arguments.score_batch)
        scorer = Scorer(options, models, arguments.device)
        given = {"prompt": PROMPT, "region_prompt": REGION_PROMPT, "borders": [arguments.frames // 2]}
        return scorer.score(*sources, index=0, name="video", **given).per_frame

    ways: dict[str, Callable[[], Any]] = {
        "frame by frame": lambda: FrameByFrame(models, arguments.device).score(originals, results, masks),
        "ours, the same": lambda: ours(same),
        "ours, and flicker, seams, identity": lambda: ours(
            [*same, *(key for key in SCORED if key.split("_")[-1] == "error"), "identity_consistency"]
        ),
    }
    print(f"numbers agree within {check(ways['ours, the same'](), ways['frame by frame']()):.1e}")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in seconds.items()}
    base = medians["frame by frame"]
    print(f"{arguments.frames} frames of {arguments.height}x{arguments.width}, {', '.join(same)}")
    for name, (wall, cpu) in medians.items():
        print(
            f"{name:36s} {arguments.frames / wall:8.2f} frames/s (wall) {arguments.frames / cpu:8.2f} (CPU)   "
            f"ratio {base[0] / wall:6.2f} (wall) {base[1] / cpu:6.2f} (CPU)"
        )


if __name__ == "__main__":
    main()
