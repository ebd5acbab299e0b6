"""Wan 2.2's 5B: a denser VAE, tokens with times of their own, the image as the first latent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TEXT_DIM, moving_mask, noise_video
from diffusers import WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from PIL import Image
from wan_models import (
    CONFIG,
    DENSE,
    make_branch,
    make_dense_pipeline,
    make_dense_vae,
    make_scheduler,
    make_transformer,
    make_vae,
    write_checkpoint,
)

from videopainter.cli.inpaint import read_options as read_inpaint_options
from videopainter.cli.train import check_training, read_options
from videopainter.data.training.sample_order import SampleKey
from videopainter.models.backbones.denoiser import Conditions, Denoiser
from videopainter.models.backbones.registry import codec_of, facts_of
from videopainter.models.id_resample import ClipMemory
from videopainter.pipelines.conditioning import to_video_tensor
from videopainter.pipelines.inpaint import VideoPainterWanPipeline
from videopainter.pipelines.loading import load_pipeline
from videopainter.runs.plan import plan_jobs
from videopainter.training.encoding import EncodedBatch, ImageConditioning
from videopainter.training.model import InpaintingModel, freeze_all_but_branch
from videopainter.training.objective import Objective
from videopainter.training.options import ConditionOptions

FRAMES, HEIGHT, WIDTH = 9, 64, 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("wan-ti2v"), "ti2v")


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def test_its_facts_are_the_published_ones():
    """Wan-AI/Wan2.2-TI2V-5B-Diffusers: 704x1280, 32 pixels to a token."""
    facts = facts_of({"_class_name": "WanTransformer3DModel", "in_channels": 48, "out_channels": 48})
    assert facts.grid.multiple == 32 and facts.grid.latent_size(704, 1280) == (44, 80)
    assert facts.trained_size == (704, 1280) and facts.image_conditioned and facts.pipeline == "VideoPainterWanPipeline"
    assert facts.grid.num_tokens(121, 704, 1280) == 31 * 22 * 40


# ---- the VAE


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("tiled", [False, True])
def test_streamed_decoding_equals_decoding_at_once(frames, tiled):
    vae = make_dense_vae()
    codec = codec_of(vae)
    if tiled:
        vae.enable_tiling(64, 64, 48, 48)
    video = torch.from_numpy(noise_video(frames, 96, 128)).permute(3, 0, 1, 2)[None] / 127.5 - 1
    latents = codec.encode(video)
    assert latents.shape == (1, (frames + 3) // 4, 48, 6, 8)
    mean, std = (torch.tensor(vae.config[f"latents_{kind}"]).view(1, -1, 1, 1, 1) for kind in ("mean", "std"))
    with torch.no_grad():
        mode = vae.encode(video).latent_dist.mode()
        expected = vae.decode(latents.transpose(1, 2) * std + mean).sample
    torch.testing.assert_close(latents.transpose(1, 2), (mode - mean) / std)
    pieces = list(codec.decode_stream(latents.split(2, dim=1), latents.shape[1]))
    assert torch.cat(pieces, dim=2).shape == video.shape
    torch.testing.assert_close(torch.cat(pieces, dim=2), expected, rtol=0, atol=2e-6)


# ---- upstream's pipelines


@pytest.mark.parametrize("kind", [WanImageToVideoPipeline, WanPipeline])
def test_a_new_branch_leaves_upstreams_call_as_it_is(kind):
    """To the bit with an image; without one upstream says the same time of every token, we say it once."""
    ours = make_transformer(**DENSE)
    upstream = WanTransformer3DModel(**{**CONFIG, **DENSE}).eval()
    upstream.load_state_dict(ours.state_dict())
    calls = []
    upstream.register_forward_hook(lambda _, args, given, output: calls.append((given, output[0])), with_kwargs=True)
    parts = {"tokenizer": None, "text_encoder": None, "vae": make_dense_vae(), "scheduler": make_scheduler()}
    pipe = kind(**parts, transformer=upstream, expand_timesteps=True)
    pipe.set_progress_bar_config(disable=True)
    frame, text = (
        noise_video(1, HEIGHT, WIDTH)[0],
        torch.randn(1, 9, TEXT_DIM, generator=torch.Generator().manual_seed(1)),
    )
    options = {"height": HEIGHT, "width": WIDTH, "num_frames": FRAMES, "num_inference_steps": 3, "guidance_scale": 1.0}
    options |= {"image": Image.fromarray(frame)} if kind is WanImageToVideoPipeline else {}
    made = pipe(prompt_embeds=text, output_type="latent", **options).frames

    pipe, image, condition = make_dense_pipeline(ours), None, None
    if "image" in options:
        image = pipe.backbone.encode_image(pipe.codec, None, to_video_tensor(frame[None]), FRAMES).latents
        assert image.shape == (1, 1, 48, 4, 6)
    for given, output in calls:
        noisy = given["hidden_states"].transpose(1, 2)
        if image is not None:
            torch.testing.assert_close(noisy[:, :1], image, rtol=0, atol=1e-5)
            condition = pipe.backbone.image_condition(noisy[:, :1], noisy)
            noisy = torch.cat([torch.randn_like(image), noisy[:, 1:]], dim=1)  # whatever the noise is there
        conditions = Conditions(
            masked_latents=torch.zeros_like(noisy), mask=torch.zeros_like(noisy[:, :, :1]), image_latents=condition
        )
        denoiser = Denoiser(ours, make_branch(ours, trained=False))
        with torch.no_grad():
            got, _ = denoiser(noisy, denoiser.prepare(conditions), text, given["timestep"][:, -1])
        assert output.std() > 0.05 and given["timestep"].shape == (1, 18)
        torch.testing.assert_close(got.transpose(1, 2), output, rtol=0, atol=1e-6 if image is None else 0)
    assert len(calls) == 3
    if image is not None:  # and the result begins with it
        finished = pipe.backbone.with_known(torch.zeros_like(noisy), condition)
        torch.testing.assert_close(made.transpose(1, 2)[:, :1], finished[:, :1], rtol=0, atol=1e-5)
        assert not finished[:, 1:].any()


# ---- windows, ID resampling


def test_a_window_begins_with_its_image(monkeypatch):
    pipe, stored = make_dense_pipeline(), []
    with_known = type(pipe.backbone).with_known

    def noted(self, latents, image_latents):
        stored.append((image_latents, result := with_known(self, latents, image_latents)))
        return result

    monkeypatch.setattr(type(pipe.backbone), "with_known", noted)
    video, masks = noise_video(13, HEIGHT, WIDTH), moving_mask(13, HEIGHT, WIDTH)
    draw = torch.randn(2, 1, 7, TEXT_DIM, generator=torch.Generator().manual_seed(9))
    settings = {"num_inference_steps": 2, "num_frames": FRAMES, "overlap_frames": 5, "height": HEIGHT, "width": WIDTH}
    embeds = {"prompt_embeds": draw[0], "negative_prompt_embeds": draw[1]}
    result = pipe(video=video, masks=masks, image=video[0], output_type="np", **settings, **embeds).frames[0]
    assert np.array_equal(result[~masks], video[~masks]) and (result[masks] != video[masks]).mean() > 0.8
    windows = [(image, latents) for image, latents in stored if len(image) == 1]  # not of the guided passes
    assert len(windows) == 2
    for image, latents in windows:
        assert torch.equal(latents[:, :1], image[:, :1, 1:])
    first = pipe.codec.encode(to_video_tensor(video[:1]))
    torch.testing.assert_close(windows[0][1][:, :1], first)


def test_own_tokens_at_weight_one_equal_the_clips_own_set():
    """Also where the hole has two times: tokens of the image have their own."""
    transformer = make_transformer(**DENSE, num_layers=1)
    generator = torch.Generator().manual_seed(5)
    noisy, first = torch.randn(2, 2, 3, 48, 4, 6, generator=generator)
    mask = torch.zeros(2, 3, 1, 4, 6)
    mask[..., :2, :3] = 1
    denoiser = Denoiser(transformer, None, form="compact")
    image = denoiser.backbone.image_condition(first[:, :1], noisy)
    prepared = denoiser.prepare(Conditions(masked_latents=noisy, mask=mask, image_latents=image))
    shown = denoiser.backbone.with_known(noisy, image)
    tokens = transformer.patch_embedding(shown.transpose(1, 2)).flatten(2).transpose(1, 2)
    memory = ClipMemory(prepared.hole, [prepared.hole.gather(tokens)])
    arguments = (noisy, prepared, torch.randn(2, 7, TEXT_DIM, generator=generator), torch.tensor([900, 40]))
    with torch.no_grad():
        own, _ = denoiser(*arguments)
        handed, _ = denoiser(*arguments, previous=memory, prev_clip_weight=1.0)
        half, _ = denoiser(*arguments, previous=memory, prev_clip_weight=0.5)
    torch.testing.assert_close(handed, own)
    assert not torch.allclose(half, own, atol=1e-5)


# ---- training


def test_nothing_is_learned_of_a_latent_that_is_given():
    pipe, generator = make_dense_pipeline(), torch.Generator().manual_seed(2)
    video = torch.rand(2, 3, FRAMES, HEIGHT, WIDTH, generator=generator) * 2 - 1
    keys = [SampleKey(0, row, False) for row in (0, 1)]
    given = ImageConditioning.of(pipe.backbone).encode(pipe.codec, video, keys, 7, torch.float32)
    assert given["first_latent"].shape == given["second_latent"].shape == (2, 1, 48, 4, 6)
    torch.testing.assert_close(given["second_latent"], pipe.codec.encode(video[:, :, 4:5]))
    latents, mask = pipe.codec.encode(video), torch.zeros(2, 3, 1, 4, 6)
    mask[..., :2, :3] = 1
    text = torch.randn(2, 7, TEXT_DIM, generator=generator)
    batch = EncodedBatch(keys, latents, latents * (1 - mask), mask, prompt_embeds=text, **given)
    objective = Objective(pipe.backbone, pipe.scheduler, ConditionOptions())
    model = InpaintingModel(pipe.transformer, pipe.branch)
    noise, timesteps = torch.randn(latents.shape, generator=generator), torch.tensor([900, 300])

    def loss(kept, outside=0.0):
        def predicts(noisy, conditions, *rest):
            output = model(noisy, conditions, *rest)
            return torch.cat([output[:, :1] + outside, output[:, 1:]], dim=1)

        return objective.loss(predicts, batch, noise, timesteps, torch.tensor(kept))

    with torch.no_grad():
        assert torch.equal(loss([True, True]).full, loss([True, True], outside=5.0).full)
        assert loss([True, False], outside=5.0).full > 1.1 * loss([True, False]).full
    freeze_all_but_branch(model)
    objective.total(loss([True, False])).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.trained_parameters().values())


# ---- files


def test_the_published_layout_loads_and_what_is_saved_comes_back(copy, tmp_path):
    index = json.loads((copy / "model_index.json").read_text())
    assert index["_class_name"] == "WanPipeline" and index["expand_timesteps"] is True
    pipe = load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    assert isinstance(pipe, VideoPainterWanPipeline) and pipe.config.expand_timesteps
    pipe.set_progress_bar_config(disable=True)
    video, masks = noise_video(5, HEIGHT, WIDTH), moving_mask(5, HEIGHT, WIDTH)
    options = {"video": video, "masks": masks, "image": video[0], "prompt": "a red ball", "num_inference_steps": 1}
    options |= {"height": HEIGHT, "width": WIDTH, "output_type": "np", "num_frames": 5}
    result = pipe(**options).frames[0]
    pipe.save_pretrained(tmp_path / "saved")
    again = VideoPainterWanPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(again(**options).frames[0], result)


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("model_index.json", {"expand_timesteps": False}, "expand_timesteps: expected true"),
        ("model_index.json", {"boundary_ratio": 0.875}, "boundary_ratio: expected null: Wan 2.2's pairs"),
        ("transformer/config.json", {"in_channels": 100}, "in_channels: expected 48"),
        ("vae/config.json", {"scale_factor_spatial": 8}, "scale_factor_spatial: expected 16: Wan 2.2's VAE"),
        ("vae/config.json", {"scale_factor_spatial": None}, "scale_factor_spatial: expected 16"),
        ("vae/config.json", {"patch_size": None}, "patch_size: expected 2"),
        ("vae/config.json", {"is_residual": False}, "is_residual: expected true"),
    ],
)
def test_odd_configs_are_refused_in_a_line(copy, file, values, says):
    config = {**json.loads((copy / file).read_text()), **values}
    (copy / file).write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    with pytest.raises(ValueError, match=says) as error:
        load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    assert "\n" not in str(error.value) and str(copy) in str(error.value)


def test_a_vae_of_wan_2_1_is_refused(copy):
    shutil.rmtree(copy / "vae")
    make_vae().save_pretrained(copy / "vae")
    with pytest.raises(ValueError, match=r"z_dim: expected 48: Wan 2.2's VAE has 48 channels, got 4"):
        load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")


def test_sizes_that_are_no_whole_tokens_are_refused_before_anything_loads(folder, tmp_path):
    says = "height: expected a multiple of 32 for this backbone, got 720"
    words = ["--pretrained_model_name_or_path", str(folder), "--meta_file_path", "a.csv", "--height", "720"]
    with pytest.raises(ValueError, match=says):
        check_training("branch", read_options("branch", [*words, "--output_dir", str(tmp_path)]))
    words = ["--model_path", str(folder), "--inpainting_branch", str(folder / "branch"), "--height", "720"]
    words += [
        "--width",
        "1280",
        "--video",
        "a.mp4",
        "--mask",
        "b.mp4",
        "--prompt",
        "a ball",
        "--output_path",
        str(tmp_path),
    ]
    with pytest.raises(ValueError, match=says):
        plan_jobs(read_inpaint_options(words))
