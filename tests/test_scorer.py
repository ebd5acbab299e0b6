"""The scorer and what it is made of: published values, analytic truths, and that chunks change nothing."""

import json
import math
import os
import tracemalloc
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from test_metrics import METRICS as EXACT
from test_metrics import zeroed
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from videopainter.cli.door import parse_options
from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.errors import InputError
from videopainter.metrics import consistency, pixels
from videopainter.metrics.catalog import METRICS
from videopainter.metrics.fidelity import frame_fidelity, hole_fidelity, ssim_maps
from videopainter.metrics.motion import Motion, _grid, _visible
from videopainter.metrics.networks.clip_images import ClipImages, ClipPreprocessing
from videopainter.metrics.networks.i3d import I3D
from videopainter.metrics.networks.lpips import Lpips
from videopainter.metrics.networks.models import MetricModels
from videopainter.metrics.regions import IdentityConsistency, PixelSample
from videopainter.metrics.scorer import NOT_ASKED, SCORED, ScoreOptions, Scorer

REFERENCE = Path(os.environ.get("VIDEOPAINTER_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
FOUR = ("psnr", "ssim", "mse", "mae")
BACKENDS = {"arrays": lambda frames: frames, "tensors": lambda frames: torch.from_numpy(frames.copy())}
HEIGHT, WIDTH = 48, 64


def texture(frames=1, height=HEIGHT, width=WIDTH, seed=0, low=30, high=220):
    """Smooth random patterns: uint8 (T, H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(low, high, (frames, height // 6, width // 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in coarse])


def panning(frames, by=2, height=HEIGHT, width=WIDTH, seed=0):
    """A pattern that moves `by` pixels per frame to the left."""
    wide = texture(1, height, width + by * frames + 6, seed)[0]
    return np.stack([wide[:, by * t : by * t + width] for t in range(frames)])


def noisy(frames, sigma, seed=1):
    noise = np.random.default_rng(seed).normal(0, sigma, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def box(frames, height=HEIGHT, width=WIDTH):
    """A hole that moves to the right."""
    masks = np.zeros((frames, height, width), bool)
    for t, mask in enumerate(masks):
        mask[height // 4 : 3 * height // 4, width // 4 + t % 3 : 2 * width // 3 + t % 3] = True
    return masks


# Fidelity


@pytest.mark.skipif(not (REFERENCE / "metrics.safetensors").exists(), reason=f"no reference metrics at {REFERENCE}")
@pytest.mark.parametrize("backend", BACKENDS)
def test_published_values(backend):
    values = load_file(REFERENCE / "metrics.safetensors")
    original, result = (BACKENDS[backend](values[f"frames.{key}"]) for key in ("original", "result"))
    hole = values["frames.mask"] > 0
    names = {"whole": "whole", "background": "background", "release": "masked_one_side"}
    for protocol, name in names.items():
        found = frame_fidelity(original, result, hole, protocol)
        for key in FOUR:
            np.testing.assert_allclose(found[key], values[f"whole.{key}"], rtol=0, atol=1e-5)
            np.testing.assert_allclose(found[f"masked_{key}"], values[f"{name}.{key}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("protocol", ["background", "release"])
def test_as_exact_as_double_precision(backend, protocol):
    # Flat bright areas, equal areas, an edge, and a hole that touches the picture's edge.
    first = texture(3)
    first[:, :20, :30] = 251
    second = noisy(first, 6)
    second[:, :, 40:50] = first[:, :, 40:50]
    masks = box(3)
    masks[1] = False
    masks[1, :3, -9:] = True
    found = frame_fidelity(BACKENDS[backend](first), BACKENDS[backend](second), masks, protocol)
    found |= hole_fidelity(BACKENDS[backend](first), BACKENDS[backend](second), masks)
    kept = zeroed(first, masks) if protocol == "background" else first
    for key in FOUR:
        exact, tolerance = EXACT[key], 1e-6 if key == "ssim" else 1e-7
        np.testing.assert_allclose(found[key], exact(first, second), atol=tolerance)
        np.testing.assert_allclose(found[f"masked_{key}"], exact(kept, zeroed(second, masks)), atol=tolerance)
        np.testing.assert_allclose(found[f"hole_{key}"], exact(first, second, masks), atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_untouched_background_is_exact(backend):
    first, masks = texture(2), box(2)
    second = np.where(masks[..., None], 255 - first, first)
    found = frame_fidelity(BACKENDS[backend](first), BACKENDS[backend](second), masks, "background")
    assert np.isposinf(found["masked_psnr"]).all() and np.isfinite(found["psnr"]).all()
    for key, value in {"masked_mse": 0, "masked_mae": 0, "masked_ssim": 1}.items():
        np.testing.assert_array_equal(found[key], value)


def test_ssim_map_of_a_small_frame():
    first, second = texture(1, 12, 12), texture(1, 12, 12, seed=1)
    expected = pixels.ssim_map(first, second)
    for wrap in BACKENDS.values():
        np.testing.assert_allclose(np.asarray(ssim_maps(wrap(first), wrap(second))), expected, atol=2e-5)


def test_unknown_protocol():
    with pytest.raises(ValueError, match="background, whole, release"):
        frame_fidelity(texture(), texture(), box(1), "foreground")


# Motion


def motion_of(frames, masks=None, borders=()):
    motion = Motion(borders)
    whole, hole = motion.add(frames, box(len(frames)) if masks is None else masks)
    return whole, hole, motion.seam_error()


def test_a_still_video_does_not_flicker():
    whole, hole, _ = motion_of(np.repeat(texture(), 4, axis=0))
    np.testing.assert_allclose(whole, 0, atol=1e-9)
    np.testing.assert_allclose(hole, 0, atol=1e-9)


def test_motion_is_no_flicker():
    frames = panning(5, by=3)
    whole, hole, _ = motion_of(frames)
    plain = ((frames[1:] / 255.0 - frames[:-1] / 255.0) ** 2).mean(axis=(1, 2, 3))
    assert (whole < plain / 30).all()
    assert (hole < plain / 30).all()


def test_known_flicker_of_a_still_picture():
    frames = np.repeat(texture(), 3, axis=0)
    frames[1] += 20
    masks = box(3)
    masks[1] = False
    whole, hole, _ = motion_of(frames, masks)
    np.testing.assert_allclose(whole, (20 / 255) ** 2, rtol=0.1)
    np.testing.assert_allclose(hole[0], (20 / 255) ** 2, rtol=0.1)
    assert np.isnan(hole[1])


def test_what_is_hidden_or_leaves_the_picture_does_not_count():
    there, back = (np.tile(np.float32([by, 0]), (6, 20, 1)) for by in (3, -3))
    back[:, 10:14] = 0  # what comes to lie there is not what was seen from here
    visible = _visible(there, back, there + _grid(6, 20))
    np.testing.assert_array_equal(visible, np.isin(np.arange(20), [*range(7), *range(11, 17)])[None].repeat(6, axis=0))


def test_a_video_against_its_reverse():
    frames = noisy(panning(6), 8)
    masks = np.ones((6, HEIGHT, WIDTH), bool)
    forward, backward = motion_of(frames, masks)[0], motion_of(frames[::-1], masks)[0]
    assert forward.mean() > 1e-4
    np.testing.assert_allclose(forward.mean(), backward.mean(), rtol=0.1)


def test_seam_error_is_the_jump_at_the_border():
    frames, masks = panning(9, by=1), box(9)
    assert motion_of(frames, masks, [5])[2] == pytest.approx(0, abs=0.005)
    jumped = frames.astype(int)
    jumped[5:][masks[5:]] += 25
    assert motion_of(jumped.astype(np.uint8), masks, [5])[2] == pytest.approx(25 / 255, rel=0.2)
    assert motion_of(jumped.astype(np.uint8), masks, [3])[2] < 0
    assert motion_of(frames, masks)[2] is None
    masks[4] = False
    assert motion_of(frames, masks, [5])[2] is None


# Identity


def test_identity_is_the_likeness_of_windows():
    frames, masks = np.concatenate([texture(2), texture(2, seed=3), texture(2, low=100, seed=4)]), box(6)
    seen = [consistency.appearance(frames[i : i + 2], masks[i : i + 2]) for i in (0, 2, 4)]
    expected = np.mean([consistency.likeness(seen[0], later) for later in seen[1:]])
    windows = IdentityConsistency([2, 4])
    windows.add(frames[:3], masks[:3])
    windows.add(frames[3:], masks[3:])
    assert windows.value() == pytest.approx(expected, abs=1e-6)


def test_windows_without_a_hole_do_not_count():
    frames, masks = texture(3), box(3)
    masks[0] = False
    windows = IdentityConsistency([1, 2])
    windows.add(frames, masks)
    assert windows.value() == pytest.approx(
        consistency.likeness(*(consistency.appearance(frames[i : i + 1], masks[i : i + 1]) for i in (1, 2))), abs=1e-6
    )
    masks[1] = False
    windows = IdentityConsistency([1, 2])
    windows.add(frames, masks)
    assert windows.value() is None


def test_a_sample_of_pixels_is_bounded_uniform_and_independent_of_pieces():
    rows = np.repeat(np.linspace(0, 1, 20_000, dtype=np.float32)[:, None], 4, axis=1)
    whole, pieces = PixelSample(4096), PixelSample(4096)
    whole.add(rows)
    for piece in np.array_split(rows, 7):
        pieces.add(piece)
    np.testing.assert_array_equal(whole.rows, pieces.rows)
    assert 1500 < len(whole.rows) <= 4096
    np.testing.assert_allclose(np.quantile(whole.rows[:, 0], [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)


# Scorer


def tiny_clip(folder, seed):
    """A CLIP model of a few thousand weights that knows the letters."""
    torch.manual_seed(seed)
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocab = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1, "pad_token_id": len(vocab) - 1}
    config = CLIPConfig(
        text_config={**layers, **ends, "vocab_size": len(vocab), "max_position_embeddings": 16},
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    return ClipImages(CLIPModel(config).eval(), ClipPreprocessing(32, (32, 32), [0.5] * 3, [0.25] * 3), tokenizer)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Real networks, random weights."""
    torch.manual_seed(0)
    lpips = Lpips()
    for weighting in lpips.weightings:
        weighting.data.uniform_(0, 1)
    folder = tmp_path_factory.mktemp("clip")
    return MetricModels(lpips=lpips, clip_score=tiny_clip(folder, 1), clip_frames=tiny_clip(folder, 2), i3d=I3D())


NO_MODELS = MetricModels(
    left_out={"lpips": "no LPIPS", "clip_score": "no CLIP", "clip_frames": "no B/32", "i3d": "no I3D"}
)
WITHOUT_I3D = [key for key in SCORED if key != "vfid"]


def sources(originals, results, masks):
    return ArrayFrames(originals, Fraction(8)), ArrayFrames(results, Fraction(8)), ArrayMasks(masks)


def score(originals, results, masks, models=NO_MODELS, options=None, **given):
    """Scores of a video whose originals are the truth."""
    before, after, holes = sources(originals, results, masks)
    scorer = Scorer(options or ScoreOptions(), models, "cpu")
    return scorer.score(before, after, holes, index=0, name="video", **{"truth": before, **given})


def everything(models, frames=9, seed=0, **options):
    originals = panning(frames, seed=seed)
    given = {"prompt": "a red ball", "region_prompt": "ball", "borders": [4]}
    options = ScoreOptions(**{"vfid_segment": 6, **options})
    return score(originals, noisy(originals, 9, seed), box(frames), models, options, **given)


@pytest.fixture(scope="module")
def scored(models):
    return everything(models)


def test_every_metric_is_there(scored):
    assert not scored.left_out
    assert {**scored.per_frame, **scored.per_video}.keys() == set(SCORED) - {"vfid"}
    lengths = {"frame": 9, "pair": 8}
    for key, values in scored.per_frame.items():
        assert values.shape == (lengths[METRICS[key].level],) and values.dtype == np.float64, key
        assert np.isfinite(values).all(), key
    assert scored.features.keys() == {"original", "result"}
    assert all(values.shape == (1024,) for values in scored.features.values())
    assert scored.details["frames"] == 9 and scored.details["prompt"] == "a red ball"
    assert scored.details["hole_share"] == pytest.approx(box(9).mean())


def same(first, second, tolerance):
    for one, other in ((first.per_frame, second.per_frame), (first.features, second.features)):
        assert one.keys() == other.keys()
        for key, values in one.items():
            np.testing.assert_allclose(values, other[key], rtol=tolerance, atol=tolerance, err_msg=key)
    assert first.per_video == pytest.approx(second.per_video, rel=tolerance or 1e-15)
    assert first.left_out == second.left_out


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_chunks_change_nothing(models, scored, batch):
    same(everything(models, score_batch=batch), scored, 1e-5)


def test_videos_change_nothing_for_each_other(models, scored):
    scorer = Scorer(ScoreOptions(vfid_segment=6), models, "cpu")
    given = {"index": 0, "name": "video", "prompt": "a red ball", "region_prompt": "ball", "borders": [4]}
    found = []
    for seed in (5, 0):
        originals = panning(9, seed=seed)
        before, after, holes = sources(originals, noisy(originals, 9, seed), box(9))
        found.append(scorer.score(before, after, holes, truth=before, **given))
    same(found[1], scored, 0)
    assert not np.allclose(found[0].per_frame["lpips"], scored.per_frame["lpips"])


class Endless:
    """Frames (or masks) that are made when they are read; remembers the ranges."""

    fps, height, width = Fraction(8), HEIGHT, WIDTH

    def __init__(self, made, length):
        self.made, self.length, self.ranges = made, length, []

    def __len__(self):
        return self.length

    def read(self, start, stop):
        self.ranges.append((start, stop))
        return self.made[np.arange(start, stop) % len(self.made)]


def test_one_pass_and_memory_that_does_not_grow():
    frames, masks = panning(8), box(8)
    peaks = []
    for length in (24, 120):
        videos = [Endless(part, length) for part in (frames, noisy(frames, 5), masks)]
        scorer = Scorer(ScoreOptions(score_batch=4), NO_MODELS, "cpu")
        tracemalloc.start()
        found = scorer.score(*videos, index=0, name="", truth=videos[0], borders=range(8, length, 8))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found.per_frame["psnr"]) == length and "identity_consistency" in found.per_video
        for video in videos:
            assert video.ranges == [(start, start + 4) for start in range(0, length, 4)]
    assert peaks[1] < 1.1 * peaks[0]


def test_models_see_the_right_images(models, scored):
    originals, masks = panning(9), box(9)
    results = noisy(originals, 9, 0)
    black, holes = np.zeros((), np.uint8), masks[..., None]

    def images(frames):
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def lpips(first, second):
        return models.lpips.distance(images(first) / 255, images(second) / 255).numpy()

    kept = [np.where(holes, black, frames) for frames in (originals, results)]
    content = images(np.where(holes, results, black))
    text = models.clip_score.text("ball")
    neighbours = models.clip_frames.images(content)
    expected = {
        "lpips": lpips(originals, results),
        "masked_lpips": lpips(*kept),
        "hole_lpips": lpips(originals, np.where(holes, results, originals)),
        "masked_region_clip_score": 100 * (models.clip_score.images(content) @ text).clamp(min=0).numpy(),
        "masked_temporal_consistency": (neighbours[1:] * neighbours[:-1]).sum(dim=1).numpy(),
    }
    for key, values in expected.items():
        np.testing.assert_allclose(scored.per_frame[key], values, rtol=1e-4, atol=1e-5, err_msg=key)


def test_video_features_of_parts_count_by_length(models):
    results = np.concatenate([np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), noisy(texture(2), 30)])
    options = ScoreOptions(metrics=["vfid"], vfid_segment=2, score_batch=2)
    found = score(texture(3), results, box(3), models, options).features
    video = torch.from_numpy(results).permute(0, 3, 1, 2)[None] / 255
    first, second = (models.i3d.features(part)[0].numpy() for part in (video[:, :1], video[:, 1:]))
    scale = np.abs(first - second).max()
    np.testing.assert_allclose(found["result"] / scale, (first + 2 * second) / 3 / scale, atol=1e-3)
    in_one = score(texture(3), results, box(3), models, ScoreOptions(metrics=["vfid"])).features
    whole = models.i3d.features(video)[0].numpy()
    np.testing.assert_allclose(in_one["result"] / scale, whole / scale, atol=1e-3)


@pytest.mark.parametrize("protocol", ["whole", "release"])
def test_protocols_of_lpips(models, protocol):
    originals, masks = panning(2), box(2)
    results = noisy(originals, 9)
    found = score(
        originals, results, masks, models, ScoreOptions(protocol=protocol, metrics=["masked_lpips"])
    ).per_frame
    kept = results if protocol == "whole" else zeroed(results, masks)
    first, second = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 for frames in (originals, kept))
    assert found.keys() == {"masked_lpips"}
    np.testing.assert_allclose(found["masked_lpips"], models.lpips.distance(first, second), rtol=1e-5)


def test_identical_videos(models):
    frames, masks = panning(3), box(3)
    found = score(frames, frames, masks, models, ScoreOptions(metrics=WITHOUT_I3D), prompt="ball")
    for prefix in ("", "masked_", "hole_"):
        assert np.isposinf(found.per_frame[f"{prefix}psnr"]).all()
        for key, value in (("ssim", 1), ("mse", 0), ("mae", 0)):
            np.testing.assert_array_equal(found.per_frame[f"{prefix}{key}"], value)
        np.testing.assert_allclose(found.per_frame[f"{prefix}lpips"], 0, atol=1e-7)
    np.testing.assert_allclose(found.per_frame["hole_haarpsi"], 1, atol=1e-9)
    assert found.value("psnr") == math.inf


def test_a_constant_shift():
    frames, masks = texture(2), box(2)
    found = score(frames, frames + 10, masks).per_frame
    outside = 1 - masks.mean(axis=(1, 2))
    for prefix, share in (("", 1), ("hole_", 1), ("masked_", outside)):
        np.testing.assert_allclose(found[f"{prefix}mse"], (10 / 255) ** 2 * share, rtol=1e-12)
        np.testing.assert_allclose(found[f"{prefix}mae"], 10 / 255 * share, rtol=1e-12)
        np.testing.assert_allclose(found[f"{prefix}psnr"], 20 * np.log10(25.5) - 10 * np.log10(share), rtol=1e-12)


def test_known_noise():
    frames = np.full((2, 96, 128, 3), 128, np.uint8)
    found = score(frames, noisy(frames, 12), box(2, 96, 128)).per_frame
    for key in ("mse", "hole_mse"):  # rounding to integers adds 1/12
        np.testing.assert_allclose(found[key], (12**2 + 1 / 12) / 255**2, rtol=0.05)
    np.testing.assert_allclose(found["mae"], 12 * np.sqrt(2 / np.pi) / 255, rtol=0.05)


def test_without_holes(models):
    frames = panning(3)
    options = ScoreOptions(metrics=WITHOUT_I3D)
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    given = {"prompt": "a", "region_prompt": "b", "borders": [1]}
    found = score(frames, noisy(frames, 5), masks, models, options, **given)
    for key, values in found.per_frame.items():
        no_number = key.startswith("hole_") or ("masked" in key and key.endswith(("clip_score", "consistency")))
        assert np.isnan(values).all() if no_number else np.isfinite(values).all(), key
    for key in (*FOUR, "lpips"):
        np.testing.assert_allclose(found.per_frame[f"masked_{key}"], found.per_frame[key], rtol=1e-12)
    assert found.left_out.keys() == {"seam_error", "identity_consistency", "vfid"}


def test_frames_that_are_all_hole(models):
    frames, masks = panning(3), box(3)
    masks[1] = True
    found = score(frames, noisy(frames, 5), masks, models, ScoreOptions(metrics=WITHOUT_I3D), prompt="a")
    for key in (*FOUR, "lpips"):
        np.testing.assert_array_equal(np.isnan(found.per_frame[f"masked_{key}"]), [False, True, False])
        assert np.isfinite(found.per_frame[f"hole_{key}"]).all()
    for key in FOUR:
        np.testing.assert_allclose(found.per_frame[f"hole_{key}"][1], found.per_frame[key][1], rtol=1e-6)
    whole = score(frames, noisy(frames, 5), masks, options=ScoreOptions(protocol="whole"))
    np.testing.assert_array_equal(whole.per_frame["masked_ssim"], whole.per_frame["ssim"])


def test_a_hole_that_comes_and_goes_between_frames(models):
    frames, masks = panning(4), box(4)
    masks[1] = False
    options = ScoreOptions(metrics=["masked_temporal_consistency", "hole_warping_error"], score_batch=2)
    found = score(frames, frames, masks, models, options)
    np.testing.assert_array_equal(np.isnan(found.per_frame["masked_temporal_consistency"]), [True, True, False])
    np.testing.assert_array_equal(np.isnan(found.per_frame["hole_warping_error"]), [False, True, False])


def test_one_frame(models):
    found = score(texture(1), texture(1, seed=1), box(1), models)
    assert found.per_frame["psnr"].shape == (1,)
    assert found.features["result"].shape == (1024,)
    pairs = ("temporal_consistency", "masked_temporal_consistency", "warping_error", "hole_warping_error")
    assert {found.left_out[key] for key in pairs} == {"one frame only"}


def test_what_is_left_out_says_why():
    frames = texture(2)
    found = score(frames, frames, box(2), options=ScoreOptions(metrics=[k for k in SCORED if k != "mae"]), truth=None)
    reasons = {
        "mae": NOT_ASKED,
        "lpips": "no LPIPS",
        "clip_score": "no prompt",
        "masked_region_clip_score": "no region prompt",
        "temporal_consistency": "no B/32",
        "vfid": "no I3D",
        "hole_psnr": "no ground truth given",
        "hole_haarpsi": "no ground truth given",
        "seam_error": "one window only",
        "identity_consistency": "one window only",
    }
    assert {key: found.left_out[key] for key in reasons} == reasons
    assert found.per_frame.keys() | found.per_video.keys() | found.left_out.keys() == set(SCORED)
    assert "no CLIP" in score(frames, frames, box(2), prompt="a").left_out["clip_score"]


def test_small_frames(models):
    frames = texture(2, 8, 8)
    found = score(frames, frames, box(2, 8, 8), models, ScoreOptions(metrics=WITHOUT_I3D))
    assert "17x17" in found.left_out["lpips"] and "12 pixels" in found.left_out["warping_error"]
    np.testing.assert_array_equal(found.per_frame["ssim"], 1)


def test_frames_as_sources_may_give_them():
    """Read-only, backwards, as a view."""
    frames, masks = panning(4), box(4)
    expected = score(frames, noisy(frames, 5), masks)
    backwards = noisy(frames, 5)[::-1].copy()[::-1]
    frames.flags.writeable = masks.flags.writeable = False
    same(score(frames, backwards, masks), expected, 0)


def test_scores_survive_a_file(scored, tmp_path):
    scored.save(tmp_path / "scores.json")
    same(type(scored).load(tmp_path / "scores.json"), scored, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["psnr", "fid"]}, "no such metric"),
        ({"metrics": []}, "at least one"),
        ({"protocol": "front"}, "background, whole, release, got front"),
        ({"score_batch": 0}, "score_batch: expected a number from 1 to 1024, got 0"),
        ({"vfid_segment": 0}, "vfid_segment"),
    ],
)
def test_options_that_are_wrong(options, message):
    with pytest.raises(InputError, match=message):
        ScoreOptions(**options)


def test_flags():
    words = ["--protocol", "release", "--metrics", "psnr", "vfid", "--score_batch", "2", "--vfid_segment", "50"]
    (options,) = parse_options([ScoreOptions], words)
    assert options == ScoreOptions(protocol="release", metrics=["psnr", "vfid"], score_batch=2, vfid_segment=50)
    with pytest.raises(InputError, match="no such metric: sharpness"):
        parse_options([ScoreOptions], ["--metrics", "sharpness"])
    assert parse_options([ScoreOptions], []) == (ScoreOptions(),)


def test_weights_that_options_need():
    assert ScoreOptions().weights == {"lpips", "clip_score", "clip_frames", "i3d"}
    assert ScoreOptions(metrics=["psnr", "masked_lpips", "vfid"]).weights == {"lpips", "i3d"}


def test_sources_that_do_not_fit():
    frames, masks = texture(3), box(3)
    with pytest.raises(ValueError, match="originals 3 of 48x64, results 2 of 48x64"):
        score(frames, frames[:2], masks)
    with pytest.raises(ValueError, match="masks 3 of 24x64"):
        score(frames, frames, masks[:, :24])
    with pytest.raises(ValueError, match="at least one frame"):
        score(frames[:0], frames[:0], masks[:0])
    for border in (0, 3):
        with pytest.raises(ValueError, match=r"frame numbers in 1\.\.2"):
            score(frames, frames, masks, borders=[border])
