"""Networks of metrics and the Fréchet distance: published outputs, analytic truths, files of other things."""

import json
import os
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from videopainter.errors import InputError
from videopainter.metrics.catalog import CLIP_FRAMES, CLIP_SCORE, I3D_WEIGHTS, LPIPS
from videopainter.metrics.frechet import frechet
from videopainter.metrics.networks.clip_images import ClipImages
from videopainter.metrics.networks.common import exact_convolutions
from videopainter.metrics.networks.downloads import WEIGHTS, weightings_file
from videopainter.metrics.networks.i3d import I3D
from videopainter.metrics.networks.lpips import CHANNELS, MIN_SIZE, Lpips, SqueezeNet
from videopainter.metrics.networks.models import load_models, missing_models

REFERENCE = Path(os.environ.get("VIDEOPAINTER_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "metrics.safetensors").exists(), reason=f"no reference metrics at {REFERENCE}"
)
needs_torchmetrics = pytest.mark.skipif(weightings_file() is None, reason="torchmetrics is not installed")
SQUEEZENET_FILE, I3D_FILE = (WEIGHTS[key].paths[0] for key in (LPIPS, I3D_WEIGHTS))
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_line(error):
    return "\n" not in str(error.value)


# I3D


@pytest.fixture(scope="module")
def i3d():
    torch.manual_seed(0)
    model = I3D()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d):
            # So that variance survives the depth; with torch's own start nothing is left of the video.
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


@needs_reference
def test_i3d_has_the_released_weights_names_and_gives_the_published_features(i3d, tmp_path):
    shapes = json.loads((REFERENCE / "i3d_state_dict_shapes.json").read_text())
    assert {key: list(value.shape) for key, value in i3d.state_dict().items()} == shapes
    path = tmp_path / I3D_FILE
    torch.save({key: reference_weight(key, shape) for key, shape in shapes.items()}, path)
    values = load_file(REFERENCE / "metrics.safetensors")
    features = load_models(tmp_path, [I3D_WEIGHTS], "cpu").i3d.features(values["i3d.video"])
    torch.testing.assert_close(features, values["i3d.features"], rtol=0, atol=1e-4)


def reference_weight(key, shape):
    """The recipe of the reference's README."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    x = torch.randn(shape, generator=seeded(zlib.crc32(key.encode())))
    if key.endswith("running_var"):
        return 0.1 * x.abs() + 1
    if key.endswith("bn.weight"):
        return 1 + 0.1 * x
    return x * (2 / x[0].numel()) ** 0.5 if x.ndim == 5 else 0.1 * x


@pytest.mark.parametrize("shape", [(1, 1, 3, 1, 1), (1, 2, 3, 5, 9), (1, 9, 3, 33, 32)])
def test_i3d_takes_any_length_and_size(i3d, shape):
    features = i3d.features(torch.rand(shape, generator=seeded()))
    assert features.shape == (1, 1024)
    assert torch.isfinite(features).all() and features.std() > 0


def test_i3d_of_a_batch_is_that_of_each_video_and_sees_the_order_of_frames(i3d):
    videos = torch.rand(2, 5, 3, 24, 24, generator=seeded())
    features = i3d.features(videos)
    torch.testing.assert_close(features, torch.cat([i3d.features(video[None]) for video in videos]))
    assert (i3d.features(videos.flip(1)) - features).abs().max() > 1e-3


def test_i3d_keeps_no_gradients_and_refuses_other_shapes(i3d):
    assert not i3d.features(torch.rand(1, 1, 3, 8, 8, requires_grad=True)).requires_grad
    for video in (torch.rand(1, 3, 4, 8, 8), torch.rand(4, 3, 8, 8), torch.zeros(1, 4, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"expected float \(B, T, 3, H, W\)"):
            i3d.features(video)


def test_i3d_loads_files_from_before_batches_were_counted(i3d, tmp_path):
    state = {key: value for key, value in i3d.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pt")
    video = torch.rand(1, 2, 3, 8, 8, generator=seeded())
    assert torch.equal(I3D.load(tmp_path / "old.pt").features(video), i3d.features(video))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("logits.conv3d.bias"), r"1 are missing \(logits.conv3d.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 others \(extra"),
        (lambda state: state.update({"logits.conv3d.bias": torch.zeros(9)}), r"bias of shape \(400,\), got \(9,\)"),
        (lambda state: state.update(epoch=3), "other things"),
    ],
)
def test_wrong_i3d_files_are_told_in_one_line(i3d, tmp_path, change, message):
    state = dict(i3d.state_dict())
    change(state)
    torch.save(state, tmp_path / I3D_FILE)
    with pytest.raises(InputError, match=message) as error:
        load_models(tmp_path, [I3D_WEIGHTS], "cpu")
    assert one_line(error) and str(tmp_path / I3D_FILE) in str(error.value)


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_damaged_files_pointers_and_code_are_told_in_one_line(tmp_path):
    path = tmp_path / I3D_FILE
    torch.save({"a": Evil()}, path)
    contents = [b"", b"<html>not found</html>", path.read_bytes(), path.read_bytes()[:-30]]
    for content, message in [*((content, "unreadable") for content in contents), (POINTER.encode(), "git-lfs pointer")]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            load_models(tmp_path, [I3D_WEIGHTS], "cpu")
        assert one_line(error)


def test_settings_of_convolutions_are_put_back():
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


# LPIPS


@pytest.fixture(scope="module")
def squeezenet_file(tmp_path_factory):
    """Random weights as torchvision's file has them, the classifier included."""
    path = tmp_path_factory.mktemp("ckpt") / SQUEEZENET_FILE
    torch.manual_seed(1)
    classifier = {"classifier.1.weight": torch.zeros(1000, 512, 1, 1), "classifier.1.bias": torch.zeros(1000)}
    torch.save({**SqueezeNet().state_dict(), **classifier}, path)
    return path


@pytest.fixture(scope="module")
def lpips(squeezenet_file):
    return load_models(squeezenet_file.parent, [LPIPS], "cpu").lpips


@pytest.fixture(scope="module")
def pair():
    return torch.rand(2, 3, 3, 40, 56, generator=seeded())


def test_squeezenet_has_the_published_size_and_depths():
    net = SqueezeNet()
    # Parameters of torchvision's model, 1 235 496, without its classifier's 513 000.
    assert sum(parameter.numel() for parameter in net.parameters()) == 722_496
    taps = list(net.taps(torch.rand(1, 3, MIN_SIZE, 40)))
    assert tuple(tap.shape[1] for tap in taps) == CHANNELS
    with pytest.raises(RuntimeError, match="too small"):
        list(net.taps(torch.rand(1, 3, MIN_SIZE - 1, 40)))


@needs_torchmetrics
def test_lpips_is_that_of_torchmetrics(lpips, pair, monkeypatch):
    module = pytest.importorskip("torchmetrics.functional.image.lpips")
    # It takes the network from torchvision, which need not be there: ours is handed to it.
    monkeypatch.setattr(module, "_get_tv_model_features", lambda name, pretrained: lpips.net.features)
    # It loads its own file onto the device that this was saved from.
    monkeypatch.setattr(
        module.torch, "load", lambda path, map_location, load=torch.load: load(path, map_location="cpu")
    )
    expected = module.learned_perceptual_image_patch_similarity(
        *pair, net_type="squeeze", reduction="none", normalize=True
    )
    torch.testing.assert_close(lpips.distance(*pair), expected.detach(), rtol=1e-5, atol=1e-7)


@needs_torchmetrics
def test_lpips_of_identical_images_is_zero_it_is_symmetric_and_batches_change_nothing(lpips, pair):
    distances = lpips.distance(*pair)
    assert (distances > 0).all()
    assert torch.equal(lpips.distance(pair[0], pair[0]), torch.zeros(3))
    torch.testing.assert_close(lpips.distance(pair[1], pair[0]), distances)
    torch.testing.assert_close(torch.cat([lpips.distance(a[None], b[None]) for a, b in zip(*pair)]), distances)


@needs_torchmetrics
def test_lpips_grows_with_noise(lpips, pair):
    image = torch.linspace(0.2, 0.8, 56).expand(1, 3, 40, 56)
    distances = [lpips.distance(image, image + level * (pair[:1, 0] - 0.5)).item() for level in (0.02, 0.1, 0.4)]
    assert all(low < high for low, high in pairwise(distances))


@needs_torchmetrics
def test_lpips_refuses_images_that_are_too_small_or_do_not_fit(lpips):
    with pytest.raises(ValueError, match="at least 17x17 pixels, got 40x16"):
        lpips.distance(torch.rand(1, 3, 16, 40), torch.rand(1, 3, 16, 40))
    with pytest.raises(ValueError, match="one shape"):
        lpips.distance(torch.rand(1, 3, 20, 20), torch.rand(2, 3, 20, 20))


@needs_torchmetrics
def test_wrong_lpips_files_are_told_in_one_line(squeezenet_file, tmp_path):
    state = torch.load(squeezenet_file, weights_only=True)
    state.pop("features.12.expand3x3.bias")
    torch.save(state, tmp_path / SQUEEZENET_FILE)
    with pytest.raises(InputError, match=r"SqueezeNet 1.1, 1 are missing \(features.12.expand3x3.bias") as error:
        load_models(tmp_path, [LPIPS], "cpu")
    assert one_line(error)
    other_network = weightings_file().with_name("alex.pth")
    with pytest.raises(InputError, match="lin1 does not fit"):
        Lpips.load(squeezenet_file, other_network)


def test_without_torchmetrics_lpips_is_left_out_by_name(squeezenet_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    models = load_models(squeezenet_file.parent, [LPIPS], "cpu")
    assert models.lpips is None
    assert "make setup EXTRAS=eval" in models.left_out[LPIPS]


# CLIP


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A random CLIP of 32 pixels and 16 positions, laid out like openai/clip-vit-base-patch32."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip-vit-base-patch32")


def make_clip(folder):
    tokenizer = CLIPTokenizer(*small_vocabulary())
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**size, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    torch.manual_seed(0)
    vision = {**size, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def small_vocabulary():
    """CLIP's scheme of byte pairs: letters, letters that end a word, merges, then start and end of text."""
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,")
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocab = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return vocab, merges


@pytest.fixture(scope="module")
def clip(clip_folder):
    return ClipImages.load(clip_folder)


def picture(height, width, seed=0):
    """Edges, a gradient and noise, which resizing treats differently: uint8 (H, W, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    gradient = np.linspace(0, 255, width)[None, :, None]
    edges = 255 * (np.indices((height, width)).sum(axis=0) // 7 % 2)[..., None]
    return (np.where(np.arange(height)[:, None, None] < height // 2, noise, (gradient + edges) / 2)).astype(np.uint8)


def bytes_of(images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def assert_within_rounding(ours, expected, std):
    """In levels of a byte: Pillow computes in integers, so that a value halfway may round to the other side, twice."""
    levels = (ours - expected).abs() * torch.tensor(std)[:, None, None] * 255
    assert levels.max() < 2.01
    assert (levels > 0.5).float().mean() < 0.02


@pytest.mark.parametrize("size", [(48, 72), (100, 50), (32, 32), (20, 27), (97, 240), (32, 50)])
def test_preprocessing_is_that_of_transformers(clip, clip_folder, size):
    processor = CLIPImageProcessorPil.from_pretrained(clip_folder)
    images = [picture(*size, seed) for seed in range(2)]
    expected = processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    assert_within_rounding(clip.preprocessing(bytes_of(images)), expected, processor.image_std)


def test_tall_frames_are_resized_rows_first_whatever_pillow_does(clip, clip_folder):
    processor = CLIPImageProcessorPil.from_pretrained(clip_folder)
    image = picture(240, 97)
    rows = Image.fromarray(image).resize((32, 240), Image.Resampling.BICUBIC)
    small = rows.resize((32, 32 * 240 // 97), Image.Resampling.BICUBIC)
    expected = processor(small, do_resize=False, return_tensors="pt")["pixel_values"]
    assert_within_rounding(clip.preprocessing(bytes_of([image])), expected, processor.image_std)


def test_clip_vectors_are_units_and_those_of_the_model(clip, clip_folder):
    frames = bytes_of([picture(48, 72, seed) for seed in range(3)])
    vectors = clip.images(frames)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(torch.cat([clip.images(frame[None]) for frame in frames]), vectors)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = CLIPTokenizer.from_pretrained(clip_folder)("A cat, a dog.", return_tensors="pt")
    with torch.no_grad():
        output = model(**tokens, pixel_values=clip.preprocessing(frames))
    torch.testing.assert_close(vectors, output.image_embeds)
    torch.testing.assert_close(clip.text("A cat, a dog."), output.text_embeds[0])
    assert not torch.allclose(clip.text("A dog, a cat."), output.text_embeds[0], atol=1e-3)


def test_long_prompts_are_cut_where_positions_end(clip):
    start = " ".join("a" * 14)  # with start and end of text, all 16 positions
    torch.testing.assert_close(clip.text(start + " cat" * 30), clip.text(start))
    assert torch.isfinite(clip.text("")).all()


def test_long_prompts_cut_as_torchmetrics_does_all_mean_the_same(clip):
    """It cuts the end token off, and the model reads the first token, which is the same for all, instead."""
    cats, dogs = " ".join(["cat"] * 20), " ".join(["dog"] * 20)
    assert not torch.allclose(clip.text(cats), clip.text(dogs), atol=1e-3)
    torch.testing.assert_close(clip.text(cats, keep_end=False), clip.text(dogs, keep_end=False))
    torch.testing.assert_close(clip.text("a cat", keep_end=False), clip.text("a cat"))


def test_clip_without_its_text_half_gives_the_same_images(clip, clip_folder):
    frames = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=seeded())
    vision = ClipImages.load(clip_folder, with_text=False)
    assert torch.equal(vision.images(frames), clip.images(frames))
    parameters = [sum(p.numel() for p in model.model.parameters()) for model in (vision, clip)]
    assert parameters[0] < 0.7 * parameters[1]
    with pytest.raises(ValueError, match="without its text half"):
        vision.text("a cat")


def test_clip_refuses_frames_that_are_not_bytes(clip):
    for frames in (torch.rand(1, 3, 40, 40), torch.zeros(1, 40, 40, 3, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            clip.images(frames)


def test_clip_loads_the_older_layout(clip_folder, tmp_path):
    """A pickle of weights, vocabulary and merges, and plain numbers as sizes: what the first uploads have."""
    folder = make_clip(tmp_path / "old")
    model = CLIPModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    position_ids = {"text_model.embeddings.position_ids": torch.arange(16)[None]}
    torch.save({**model.state_dict(), **position_ids}, folder / "pytorch_model.bin")
    vocab, merges = small_vocabulary()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(merge) for merge in merges)]) + "\n")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings.update(size=32, crop_size=32, feature_extractor_type="CLIPFeatureExtractor")
    for newer in ("do_rescale", "rescale_factor", "image_processor_type", "do_convert_rgb"):
        settings.pop(newer, None)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    old = ClipImages.load(folder)
    (clip_folder / "pytorch_model.bin").write_text(POINTER)  # not used beside safetensors
    clip = ClipImages.load(clip_folder)
    frames = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8, generator=seeded())
    assert torch.equal(old.images(frames), clip.images(frames))
    torch.testing.assert_close(old.text("A cat, a dog."), clip.text("A cat, a dog."))


def drop_a_weight(folder):
    from safetensors.torch import save_file

    state = load_file(folder / "model.safetensors")
    state.pop("visual_projection.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def edit(name, **changes):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "expected model.safetensors or pytorch_model.bin"),
        (lambda folder: (folder / "model.safetensors").write_text(POINTER), "git-lfs pointer"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678901"), "unreadable"),
        (drop_a_weight, r"1 are missing or do not fit \(visual_projection.weight"),
        (edit("config.json", projection_dim=13), "missing or do not fit|unreadable"),
        (edit("config.json", model_type="bert"), "expected a CLIP model, got bert"),
        (lambda folder: (folder / "config.json").write_text("{"), "unreadable"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
        (lambda folder: (folder / "preprocessor_config.json").write_text("["), "those of a CLIP image processor"),
        (edit("preprocessor_config.json", resample=2), "bicubic"),
        (edit("preprocessor_config.json", size={"shortest_edge": 20}), "centre crop"),
        (edit("preprocessor_config.json", crop_size={"height": 24, "width": 24}), "image size 32, got 24"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "vocab.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer, got unreadable"),
    ],
)
def test_wrong_clip_files_are_told_in_one_line(tmp_path, spoil, message):
    folder = make_clip(tmp_path / "clip-vit-large-patch14")
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        load_models(tmp_path, [CLIP_SCORE], "cpu")
    assert one_line(error) and str(folder) in str(error.value)


# Loading


def test_what_is_not_there_is_left_out_with_the_command_that_fetches_it(clip_folder):
    models = load_models(clip_folder.parent, list(WEIGHTS), "cpu")
    assert models.clip_frames is not None
    assert models.lpips is models.clip_score is models.i3d is None
    assert set(models.left_out) == {LPIPS, CLIP_SCORE, I3D_WEIGHTS}
    assert all(WEIGHTS[key].fetch in reason for key, reason in models.left_out.items())
    assert models.left_out == missing_models(clip_folder.parent, list(WEIGHTS))


def test_only_what_is_asked_for_is_loaded_or_missed(clip_folder):
    models = load_models(clip_folder.parent, [I3D_WEIGHTS], "cpu")
    assert models.clip_frames is None and set(models.left_out) == {I3D_WEIGHTS}
    assert load_models(clip_folder.parent, [], "cpu").left_out == {}
    assert CLIP_FRAMES not in missing_models(clip_folder.parent, [CLIP_FRAMES])
    with pytest.raises(ValueError, match="got raft"):
        load_models(clip_folder.parent, ["raft"], "cpu")


# Fréchet distance


@needs_reference
def test_published_vfid():
    values = load_file(REFERENCE / "metrics.safetensors")
    distance = frechet(values["vfid.real"].numpy(), values["vfid.fake"].numpy()).distance
    assert distance == pytest.approx(values["vfid.value"].item(), abs=1e-5)


def whitened(samples, features, seed):
    """Samples whose mean is exactly 0 and whose unbiased covariance is exactly the identity."""
    x = np.random.default_rng(seed).normal(size=(samples, features))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / (samples - 1))).T


def test_distance_of_known_gaussians():
    real, fake = whitened(40, 5, 0), whitened(25, 5, 1)
    assert frechet(real, fake).distance == pytest.approx(0, abs=1e-10)
    shift = np.arange(5.0)
    assert frechet(real, fake + shift).distance == pytest.approx((shift**2).sum(), abs=1e-10)
    # Covariances that commute: sum of squared differences of standard deviations.
    a, b = np.array([1, 2, 3, 4, 5.0]), np.array([2, 2, 0.5, 7, 0])
    assert frechet(real * a, fake * b + shift).distance == pytest.approx(((a - b) ** 2 + shift**2).sum(), abs=1e-10)


def test_distance_of_covariances_that_do_not_commute():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 4, 4))
    real, fake = whitened(30, 4, 3) @ first, whitened(30, 4, 4) @ second
    s1, s2 = first.T @ first, second.T @ second
    # S1 S2 is similar to a symmetric positive matrix: its eigenvalues are real.
    root = np.sqrt(np.linalg.eigvals(s1 @ s2).real).sum()
    assert frechet(real, fake).distance == pytest.approx(np.trace(s1) + np.trace(s2) - 2 * root, abs=1e-9)


def test_few_samples_of_many_features():
    """As VFID of few videos: features live in a small subspace, where the distance is the same, and is known."""
    basis = np.linalg.qr(np.random.default_rng(5).normal(size=(1024, 3)))[0].T
    real, fake = whitened(6, 3, 6), whitened(5, 3, 7) * [1, 3, 0] + [0, 0, 2]
    result = frechet(real @ basis, fake @ basis)
    assert result.distance == pytest.approx(4 + 1 + 4, abs=1e-10)
    assert (result.real, result.fake, result.singular) == (6, 5, True)
    assert not frechet(real, fake).singular


@pytest.mark.parametrize("shape", [(7, 1024), (50, 8), (1, 16)])
def test_distance_is_symmetric_and_zero_for_equal_sets(shape):
    real, fake = np.random.default_rng(8).normal(size=(2, *shape))
    assert frechet(real, fake).distance == pytest.approx(frechet(fake, real).distance, rel=1e-12)
    assert frechet(real, fake).distance > 0
    assert 0 <= frechet(real, real[::-1]).distance < 1e-10


def test_single_samples_are_points():
    real, fake = np.array([[1.0, 2.0]]), np.array([[4.0, 6.0]])
    assert frechet(real, fake).distance == 25
    pair = np.array([[4.0, 6.0], [6.0, 6.0]])  # variance 2, 0
    assert frechet(real, pair).distance == pytest.approx(16 + 16 + 2)


def test_frechet_refuses_what_has_no_distance():
    with pytest.raises(ValueError, match="fake: expected at least one sample"):
        frechet(np.zeros((2, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="got 3 and 4"):
        frechet(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="real: expected finite"):
        frechet(np.full((2, 3), np.nan), np.zeros((2, 3)))
