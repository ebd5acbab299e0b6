"""Fillers of the first frame, with real (tiny, untrained) diffusers pipelines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from videopainter.errors import InputError
from videopainter.pipelines import first_frame
from videopainter.pipelines.first_frame import check_filler, make_filler

HEIGHT, WIDTH = 75, 101


@pytest.fixture
def picture() -> tuple[np.ndarray, np.ndarray]:
    """A smooth slope of colours, and a hole over a fifth of it, at its edge."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([x * 2, y * 3, 200 - x], axis=-1).astype(np.uint8)
    mask = (y > 20) & (y < 60) & (x > 60)
    return image, mask


# -- opencv, none


def test_opencv_continues_what_is_around(picture: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = picture
    hidden = np.where(mask[..., None], np.uint8(255), image)
    filled = make_filler("opencv").fill(hidden, mask, prompt="", seed=0)
    assert filled is not None
    np.testing.assert_array_equal(filled[~mask], image[~mask])
    error = np.abs(filled[mask].astype(int) - image[mask]).mean()
    grey = np.abs(image[mask].astype(int) - image[~mask].mean(axis=0)).mean()
    assert error < 0.5 * grey, (error, grey)
    assert filled[mask].max() < 250, "what was under the hole does not shine through"


def test_opencv_neither_overshoots_nor_leaves_seams() -> None:
    """A large hole in noise: the filling stays inside the range around it, and is smooth."""
    image = np.random.default_rng(0).integers(100, 140, (200, 300, 3), dtype=np.uint8)
    mask = np.zeros((200, 300), bool)
    mask[20:180, 30:270] = True
    filled = make_filler("opencv").fill(image, mask, prompt="", seed=0)
    assert filled is not None
    inside = filled[40:160, 60:240].astype(int)
    assert 110 < inside.min() <= inside.max() < 130
    assert max(np.abs(np.diff(inside, axis=0)).max(), np.abs(np.diff(inside, axis=1)).max()) <= 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (5, 5)])
def test_opencv_takes_any_size_and_hole(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    filler = make_filler("opencv")
    mask = np.zeros(shape, bool)
    np.testing.assert_array_equal(filler.fill(image, mask, prompt="", seed=0), image)
    mask[0, 0] = True
    expected = 127 if mask.all() else 77
    np.testing.assert_array_equal(filler.fill(image, mask, prompt="", seed=0), np.full_like(image, expected))
    mask[:] = True
    np.testing.assert_array_equal(filler.fill(image, mask, prompt="", seed=0), np.full_like(image, 127))
    with pytest.raises(ValueError, match="bool"):
        filler.fill(image, mask.astype(np.uint8), prompt="", seed=0)


def test_none_leaves_the_frame(picture: tuple[np.ndarray, np.ndarray]) -> None:
    filler = make_filler("none")
    assert filler.fill(*picture, prompt="", seed=0) is None
    filler.close()


# -- mistakes


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.safetensors").write_bytes(b"x")
    for name, text in {
        "broken": "{",
        "list": "[]",
        "nameless": "{}",
        "transformer": json.dumps({"_class_name": "FluxTransformer2DModel"}),
        "number": json.dumps({"_class_name": 3}),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(text)
    # No request is made: the hub is switched off as HF_HUB_OFFLINE=1 does.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, expected in {
        str(tmp_path / "missing"): "img_inpainting_model=opencv",
        "../no/such/place": "img_inpainting_model=opencv",
        "telea": "img_inpainting_model=opencv",
        "": "img_inpainting_model=opencv",
        "nobody/no-such-pipeline": "an id that can be reached",
        str(tmp_path / "empty"): "got no model_index.json",
        str(tmp_path / "file.safetensors"): "got a file",
        str(tmp_path / "broken"): "the name of a pipeline class, got none",
        str(tmp_path / "list"): "the name of a pipeline class, got none",
        str(tmp_path / "nameless"): "the name of a pipeline class, got none",
        str(tmp_path / "transformer"): "expected a diffusers pipeline",
        str(tmp_path / "number"): "expected a diffusers pipeline",
    }.items():
        for check in (check_filler, make_filler):
            with pytest.raises(InputError, match=expected) as error:
                check(name)
            assert "\n" not in str(error.value)
    check_filler("opencv")
    check_filler("none")


def test_a_class_diffusers_lacks_and_missing_parts(tmp_path: Path, picture: tuple[np.ndarray, np.ndarray]) -> None:
    for class_name, expected in {
        "NoSuchPipeline": "does not have: 'NoSuchPipeline'",
        "StableDiffusionInpaintPipeline": "first-frame pipeline: expected one that loads",
        "CogVideoXPipeline": "first-frame pipeline: expected one that loads",
    }.items():
        (tmp_path / class_name).mkdir()
        index = {"_class_name": class_name, "_diffusers_version": "0.42.1", "vae": ["diffusers", "AutoencoderKL"]}
        (tmp_path / class_name / "model_index.json").write_text(json.dumps(index))
        check_filler(str(tmp_path / class_name))
        filler = make_filler(str(tmp_path / class_name))
        with pytest.raises(InputError, match=expected) as error:
            filler.fill(*picture, prompt="", seed=0)
        assert "\n" not in str(error.value)


def test_checking_is_light(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxFillPipeline"}))
    program = (
        "import sys; from videopainter.pipelines.first_frame import check_filler; check_filler(sys.argv[1]);"
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# -- diffusers pipelines


def tiny_clip(folder: Path):
    """A CLIP text encoder and tokenizer whose vocabulary is the letters."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(c) for c in range(97, 123)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2,
        projection_dim=32, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1, pad_token_id=len(words) - 1,
    )  # fmt: skip
    return CLIPTextModel(config), tokenizer


def save_stable_diffusion(folder: Path, *, inpainting: bool) -> Path:
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionInpaintPipeline,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(0)
    encoder, tokenizer = tiny_clip(folder)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=9 if inpainting else 4, out_channels=4, block_out_channels=(16, 32),
        layers_per_block=1, cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 16), latent_channels=4, norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=32,
    )  # fmt: skip
    kind = StableDiffusionInpaintPipeline if inpainting else StableDiffusionPipeline
    pipe = kind(
        vae=vae, text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder / "pipe")
    return folder / "pipe"


def save_flux_fill(folder: Path) -> Path:
    import torch
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxFillPipeline,
        FluxTransformer2DModel,
    )
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    encoder, tokenizer = tiny_clip(folder)
    config = T5Config(vocab_size=64, d_model=32, d_ff=37, d_kv=8, num_heads=4, num_layers=2)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=1, norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, use_quant_conv=False, use_post_quant_conv=False,
        shift_factor=0.06, scaling_factor=1.5,
    )  # fmt: skip
    # Channels: latents 4, masked latents 4, and the mask, 2x2 pixels packed of a VAE that halves: 2 * 2 * 4.
    transformer = FluxTransformer2DModel(
        in_channels=4 + 4 + 16, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    pipe = FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=encoder, tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(config), tokenizer_2=tokenizer, transformer=transformer,
    )  # fmt: skip
    pipe.save_pretrained(folder / "pipe")
    return folder / "pipe"


SAVE = {
    "inpainting": lambda folder: save_stable_diffusion(folder, inpainting=True),
    "text to image": lambda folder: save_stable_diffusion(folder, inpainting=False),
    "flux fill": save_flux_fill,
}


@pytest.mark.parametrize("kind", SAVE)
def test_diffusers_pipelines_paint_the_hole_alone(
    kind: str, tmp_path: Path, picture: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(first_frame._OTHERS, "num_inference_steps", 4)
    monkeypatch.setitem(first_frame._FLUX_FILL, "num_inference_steps", 4)
    image, mask = picture
    folder = str(SAVE[kind](tmp_path))
    check_filler(folder)
    filler = make_filler(folder, device="cpu")
    one = filler.fill(image, mask, prompt="a cat", seed=1)
    same = filler.fill(image, mask, prompt="a cat", seed=1)
    other = filler.fill(image, mask, prompt="a cat", seed=2)
    assert one is not None
    assert (one.shape, one.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(one[~mask], image[~mask])
    np.testing.assert_array_equal(one, same)
    assert (one[mask] != image[mask]).any()
    assert other is not None
    assert (one[mask] != other[mask]).any()
    filler.close()
    np.testing.assert_array_equal(filler.fill(image, mask, prompt="a cat", seed=1), one)
    filler.close()
    nothing = np.zeros_like(mask)
    np.testing.assert_array_equal(filler.fill(image, nothing, prompt="a cat", seed=1), image)


def test_flux_is_called_as_the_release_calls_it(
    tmp_path: Path, picture: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import FluxFillPipeline

    seen: dict = {}
    call = FluxFillPipeline.__call__

    def watched(self, prompt=None, image=None, mask_image=None, max_sequence_length=512, **options):
        seen.update(options, prompt=prompt, max_sequence_length=max_sequence_length, size=image.size)
        return call(self, prompt=prompt, image=image, mask_image=mask_image, **options)

    watched.__signature__ = __import__("inspect").signature(call)
    folder = str(save_flux_fill(tmp_path))
    monkeypatch.setattr(FluxFillPipeline, "__call__", watched)
    make_filler(folder).fill(*picture, prompt="a cat", seed=1)
    assert (seen["guidance_scale"], seen["num_inference_steps"], seen["max_sequence_length"]) == (30.0, 50, 512)
    assert (seen["height"], seen["width"], seen["size"]) == (80, 96, (96, 80))
    assert seen["prompt"] == "a cat"


def test_flux_block_by_block_is_never_on_the_device_as_a_whole(tmp_path: Path, monkeypatch) -> None:
    """What is moved to the meta device cannot come back."""
    import torch
    from diffusers import FluxFillPipeline

    monkeypatch.setattr(torch, "meta", torch.cpu, raising=False)  # upstream asks for the device's module
    pipe = FluxFillPipeline.from_pretrained(save_flux_fill(tmp_path))
    first_frame._offload(pipe, torch.device("meta"), 2**20)
    blocks = (pipe.transformer.transformer_blocks, pipe.transformer.single_transformer_blocks)
    for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.vae, *blocks):
        assert {parameter.device.type for parameter in part.parameters()} == {"cpu"}
    assert pipe._execution_device.type == "meta"
