"""Wan's image-to-video backbones: conditions as upstream's pipeline makes them, in windows, training and on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import TEXT_DIM, adapter_flags, moving_mask, noise_video
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from wan_models import (
    CONFIG,
    IMAGE_TO_VIDEO,
    make_branch,
    make_image_encoder,
    make_image_pipeline,
    make_scheduler,
    make_transformer,
    make_vae,
    write_checkpoint,
)

from videopainter.cli.cache_latents import cache_latents
from videopainter.cli.cache_latents import read_options as read_cache_options
from videopainter.cli.train import train_branch, train_id_adapter
from videopainter.data.training.sample_order import SampleKey
from videopainter.models.backbones.denoiser import Conditions, Denoiser
from videopainter.models.backbones.registry import facts_of
from videopainter.models.checkpoint_files import read_config, read_safetensors_header
from videopainter.models.checks import check_checkpoints
from videopainter.pipelines.conditioning import to_uint8_frames, to_video_tensor
from videopainter.pipelines.inpaint import VideoPainterWanImageToVideoPipeline
from videopainter.pipelines.loading import load_pipeline
from videopainter.pipelines.memory import model_sizes
from videopainter.training.encoding import EncodedBatch, ImageConditioning
from videopainter.training.objective import split_batch
from videopainter.training.tracking.trackers import read_metrics

FRAMES, HEIGHT, WIDTH = 9, 32, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("wan-i2v"), "i2v")


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def change(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def inpaint(pipe, frames=17, **options):
    draw = torch.randn(2, 1, 7, TEXT_DIM, generator=torch.Generator().manual_seed(9))
    settings = {"num_inference_steps": 3, "num_frames": FRAMES, "overlap_frames": 5, "height": HEIGHT, "width": WIDTH}
    embeds = {"prompt_embeds": draw[0], "negative_prompt_embeds": draw[1], "output_type": "np"}
    video, masks = noise_video(frames), moving_mask(frames)
    return pipe(video=video, masks=masks, **{**settings, **embeds, **options}).frames[0]


# ---- upstream's pipeline


@pytest.mark.parametrize("sees", [True, False])
def test_a_new_branch_leaves_upstreams_call_as_it_is_to_the_bit(sees):
    """With Wan 2.1's CLIP, and without, as Wan 2.2's image-to-video transformers are."""
    ours = make_transformer(**(IMAGE_TO_VIDEO if sees else {"in_channels": 12}))
    upstream = WanTransformer3DModel(**{**CONFIG, **{k: ours.config[k] for k in IMAGE_TO_VIDEO}}).eval()
    upstream.load_state_dict(ours.state_dict())
    processor, encoder = make_image_encoder()
    calls = []
    upstream.register_forward_hook(lambda _, args, given, output: calls.append((given, output[0])), with_kwargs=True)
    pipe = WanImageToVideoPipeline(None, None, make_vae(), make_scheduler(), processor, encoder, upstream)
    pipe.set_progress_bar_config(disable=True)
    frame, text = noise_video(1)[0], torch.randn(1, 512, TEXT_DIM, generator=torch.Generator().manual_seed(1))
    options = {"height": HEIGHT, "width": WIDTH, "num_frames": FRAMES, "num_inference_steps": 2, "guidance_scale": 1.0}
    pipe(Image.fromarray(frame), prompt_embeds=text, output_type="latent", **options)

    pipe = make_image_pipeline(ours, sees=sees)
    image = pipe.backbone.encode_image(pipe.codec, pipe.images, to_video_tensor(frame[None]), FRAMES)
    for given, output in calls:
        noisy, beside = given["hidden_states"].transpose(1, 2).split([4, 8], dim=2)
        condition = pipe.backbone.image_condition(image.latents, noisy)
        torch.testing.assert_close(condition, beside, rtol=0, atol=1e-5)
        assert (image.embeds is None) == (not sees)
        if sees:
            torch.testing.assert_close(image.embeds, given["encoder_hidden_states_image"], rtol=0, atol=1e-5)
        conditions = Conditions(
            masked_latents=torch.zeros_like(noisy),
            mask=torch.zeros_like(noisy[:, :, :1]),
            image_latents=beside,
            image_embeds=given["encoder_hidden_states_image"],
        )
        denoiser = Denoiser(ours, make_branch(ours, trained=False))
        with torch.no_grad():
            got, _ = denoiser(noisy, denoiser.prepare(conditions), text, given["timestep"])
        assert output.std() > 0.05 and torch.equal(got.transpose(1, 2), output)
    assert len(calls) == 2


# ---- windows


def test_a_window_begins_with_what_the_one_before_has_made(monkeypatch):
    pipe, given = make_image_pipeline(), []
    encode = type(pipe.backbone).encode_image

    def noted(self, codec, encoder, frame, count):
        given.append((to_uint8_frames(frame)[0], count))
        return encode(self, codec, encoder, frame, count)

    monkeypatch.setattr(type(pipe.backbone), "encode_image", noted)
    video, masks = noise_video(17), moving_mask(17)
    filled = noise_video(1, seed=5)[0]
    with_image = inpaint(pipe, image=filled)
    assert [count for _, count in given] == [FRAMES] * 3
    assert np.array_equal(given[0][0], filled)
    for (frame, _), start in zip(given[1:], (4, 8)):
        assert np.array_equal(frame[~masks[start]], video[start][~masks[start]])
        assert masks[start].any() and (frame[masks[start]] != video[start][masks[start]]).mean() > 0.8
    # The decoded frame that is pasted into the result, but for what blending adds.
    latents = inpaint(pipe, frames=FRAMES, image=filled, output_type="latent")
    decoded = torch.cat(list(pipe.codec.decode_stream([latents], 3)), dim=2)
    assert np.array_equal(given[1][0][masks[4]], to_uint8_frames(decoded)[4][masks[4]])
    without = inpaint(pipe)
    assert not np.array_equal(with_image[masks], without[masks])


# ---- files


def test_a_published_folder_loads_and_what_is_saved_comes_back(copy, tmp_path):
    index = json.loads((copy / "model_index.json").read_text())
    assert index["_class_name"] == "WanImageToVideoPipeline" and index["image_processor"][1].startswith("CLIPImage")
    # Weights that the published files have and nobody asks, and CLIP's by older names.
    unasked = {"transformer": "blocks.0.attn2.norm_added_q.weight", "image_encoder": "visual_projection.weight"}
    for part, name in unasked.items():
        (file,) = (copy / part).glob("*.safetensors")
        weights = load_file(file)
        if part == "image_encoder":
            weights = {f"vision_model.{name.removeprefix('vision_model.')}": value for name, value in weights.items()}
        save_file({**weights, name: torch.ones(24)}, file, {"format": "pt"})
    pipe = load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    assert isinstance(pipe, VideoPainterWanImageToVideoPipeline)
    pipe.set_progress_bar_config(disable=True)
    options = {
        "prompt": "a red ball",
        "prompt_embeds": None,
        "negative_prompt_embeds": None,
        "image": noise_video(1)[0],
    }
    result = inpaint(pipe, frames=5, **options)
    pipe.save_pretrained(tmp_path / "saved")
    again = VideoPainterWanImageToVideoPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(inpaint(again, frames=5, **options), result)


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("transformer/config.json", {"in_channels": 4}, "image_dim: expected null where in_channels are 4"),
        ("transformer/config.json", {"in_channels": 9}, r"in_channels: expected 4 \(text to video\) or 12 \(image to"),
        ("transformer/config.json", {"image_dim": 8}, "image_dim: expected 16 as its weights"),
        ("transformer/config.json", {"added_kv_proj_dim": None}, "added_kv_proj_dim: expected 24"),
        ("transformer/config.json", {"pos_embed_seq_len": 514}, "pos_embed_seq_len: expected null: checkpoints for fi"),
        ("image_encoder/config.json", {"hidden_size": 8}, "hidden_size: expected 16 as the transformer's image_dim"),
        ("image_encoder/config.json", {"num_hidden_layers": "2"}, "num_hidden_layers: expected a whole number"),
        ("model_index.json", {"boundary_ratio": 0.9}, "boundary_ratio: expected null: Wan 2.2's pairs"),
    ],
)
def test_odd_configs_are_refused_in_a_line(copy, file, values, says):
    change(copy / file, **values)
    with pytest.raises(ValueError, match=says) as error:
        load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    assert "\n" not in str(error.value) and str(copy) in str(error.value)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("image_encoder", "missing: image_encoder"),
        ("image_processor", "missing: image_processor"),
        ("image_processor/preprocessor_config.json", "preprocessor_config.json is missing"),
        ("image_encoder/model.safetensors", "expected weights in .safetensors files"),
    ],
)
def test_parts_that_lack_are_named(copy, missing, says):
    shutil.rmtree(copy / missing) if (copy / missing).is_dir() else (copy / missing).unlink()
    with pytest.raises(ValueError, match=says):
        check_checkpoints(copy, copy / "branch")


def test_an_image_encoder_that_nobody_asks_is_refused(copy):
    change(copy / "transformer/config.json", image_dim=None, added_kv_proj_dim=None, in_channels=12)
    with pytest.raises(ValueError, match="expected a checkpoint without image_encoder"):
        check_checkpoints(copy)


def test_a_pair_of_transformers_is_refused(copy):
    shutil.copytree(copy / "transformer", copy / "transformer_2")
    with pytest.raises(ValueError, match="copy: expected a checkpoint without transformer_2"):
        load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    parts = None, None, make_vae(), make_transformer(**IMAGE_TO_VIDEO), make_scheduler(), None
    with pytest.raises(ValueError, match="one transformer for all noise"):
        VideoPainterWanImageToVideoPipeline(*parts, *make_image_encoder(), boundary_ratio=0.9)


# ---- training


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl") if "loss" in line]


def test_both_halves_of_a_clip_have_their_image():
    pipe, generator = make_image_pipeline(), torch.Generator().manual_seed(2)
    video = torch.rand(2, 3, FRAMES, HEIGHT, WIDTH, generator=generator) * 2 - 1
    keys = [SampleKey(0, row, False) for row in (0, 1)]
    images = ImageConditioning.of(pipe.backbone, pipe.images)
    given = images.encode(pipe.codec, video, keys, 7, torch.float32)
    shapes = {name: tuple(x.shape) for name, x in given.items()}
    assert shapes["first_latent"] == (2, 3, 4, 4, 6) and shapes["second_latent"] == (2, 2, 4, 4, 6)
    assert shapes["image_embeds"] == shapes["second_embeds"] == (2, 5, 16)
    # No noise is added: the clip's own first latent is the image's.
    torch.testing.assert_close(given["first_latent"][:, :1], pipe.codec.encode(video[:, :, :1]))
    half = pipe.backbone.encode_image(pipe.codec, pipe.images, video[:, :, 4:5], 5)
    assert torch.equal(given["second_latent"], half.latents) and torch.equal(given["second_embeds"], half.embeds)
    # One frame would be its own answer.
    assert images.encode(pipe.codec, video[:, :, :1], keys, 7, torch.float32) == {"first_latent": None}
    tensors = {"prompt_embeds": torch.zeros(2, 7, TEXT_DIM), "mask": torch.zeros(2, 3, 1, 4, 6)}
    latents = pipe.codec.encode(video)
    batch = EncodedBatch(keys, latents, latents, **tensors, **given)
    first, second = split_batch(batch, 1, from_pixels=True)
    assert first.first_latent is given["first_latent"] and second.first_latent is given["second_latent"]
    assert first.image_embeds is given["image_embeds"] and second.image_embeds is given["second_embeds"]
    assert pipe.backbone.image_condition(first.first_latent, first.latents).shape == (2, 1, 8, 4, 6)


def test_memory_counts_the_image_encoder(folder):
    parts = ("text_encoder", "image_encoder", "transformer", "vae")
    headers = {part: read_safetensors_header(next((folder / part).glob("*.safetensors"))) for part in parts}
    facts = facts_of(read_config(folder / "transformer"))
    sizes = model_sizes(headers, facts, read_config(folder / "vae"), itemsize=4)
    assert sizes.image_encoder == 4 * sum(p.numel() for p in make_image_encoder()[1].parameters())
    without = model_sizes({**headers, "image_encoder": {}}, facts, read_config(folder / "vae"), itemsize=4)
    assert sizes.total - without.total == sizes.image_encoder > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["branch", "id_adapter"])
@pytest.mark.parametrize(("family", "width"), [("i2v", 48), ("ti2v", 64)])
def test_it_trains_and_goes_on_and_a_cache_gives_the_same(clips, flags, tmp_path, kind, family, width):
    folder = write_checkpoint(tmp_path / "wan", family)
    train = {"branch": train_branch, "id_adapter": train_id_adapter}[kind]
    changes = {"pretrained_model_name_or_path": folder, "noised_image_dropout": 0.3, "gradient_checkpointing": True}
    changes |= {"enable_slicing": True, "width": width}
    if kind == "id_adapter":
        changes |= adapter_flags(folder) | {"id_resample_form": "compact", "prev_clip_prob": 0.5}

    def run(name: str, **more) -> Path:
        AcceleratorState._reset_state(True)
        assert train(flags(tmp_path / name, **{**changes, **more})) == 0
        return tmp_path / name

    videos = {"val_meta_file_path": clips, "validating_steps": 4, "num_inference_steps": 1, "validation_samples": 1}
    whole, half = run("whole", **videos), run("half", max_train_steps=2)
    assert (whole / "validation/step-4/0-row0.mp4").is_file() and not (whole / "validation/errors.log").exists()
    resumed = run("half", resume_from_checkpoint="latest")
    assert resumed == half and losses(half) == losses(whole) and len(losses(whole)) == 4
    cache = tmp_path / "cache"
    options = {"pretrained_model_name_or_path": folder, "meta_file_path": clips, "latent_cache": cache, "height": 32}
    options |= {
        "width": width,
        "max_num_frames": 9,
        "dtype": "float32",
        "enable_slicing": True,
        "variants": 2,
        "quiet": True,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    assert cache_latents(*read_cache_options([*words, "--dataloader_num_workers=0"])) == 0
    assert losses(run("cached", latent_cache=cache)) == pytest.approx(losses(whole), rel=1e-5)
