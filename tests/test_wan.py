"""Wan 2.1 as a backbone: equal to upstream where nothing is added, and all that is added."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import TEXT_DIM, TINY, moving_mask, noise_video
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from wan_models import (
    CONFIG,
    make_branch,
    make_dense_pipeline,
    make_image_pipeline,
    make_pipeline,
    make_scheduler,
    make_text_encoder,
    make_transformer,
    make_vae,
    write_checkpoint,
)

from videopainter.cli.train import check_training, read_options
from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.models.backbones.denoiser import Conditions, Denoiser
from videopainter.models.backbones.registry import backbone_of, codec_of
from videopainter.models.backbones.wan_video.branch import WanBranchModel
from videopainter.models.checkpoint_files import ADAPTER_FILE
from videopainter.models.checks import check_checkpoints
from videopainter.models.id_adapter import IDAdapter
from videopainter.models.id_resample import ClipMemory, HoleTokens, ResampleTokens, token_mask
from videopainter.pipelines.inpaint import VideoPainterWanPipeline
from videopainter.pipelines.loading import load_pipeline, load_text_encoder
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.streaming import denoise_windows, finished_frames, make_job
from videopainter.runs.weights import Weights, check_resampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("wan"))


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(5)
    draw = torch.randn(2, 4, 3, 4, 6, generator=generator)  # (B, C, T, h, w)
    text = torch.randn(2, 7, TEXT_DIM, generator=generator)
    return {"hidden_states": draw, "timestep": torch.tensor([900, 40]), "encoder_hidden_states": text}


def conditions(batch=2, frames=3):
    generator = torch.Generator().manual_seed(6)
    mask = torch.zeros(batch, frames, 1, 4, 6)
    mask[:, :, :, :2, :3] = 1
    mask[1:, :, :, 2:, 3:] = 1  # samples with other numbers of hole tokens
    return Conditions(masked_latents=torch.randn(batch, frames, 4, 4, 6, generator=generator), mask=mask)


# ---- the backbone


def test_without_additions_it_is_upstream_to_the_bit(inputs):
    ours = make_transformer()
    upstream = WanTransformer3DModel(**CONFIG).eval()
    upstream.load_state_dict(ours.state_dict())
    with torch.no_grad():
        expected, got = upstream(**inputs).sample, ours(**inputs).sample
        zeros = [torch.zeros(2, 18, 24)] * 2
        same = ours(**inputs, branch_features=zeros, background_mask=torch.ones(2, 18, dtype=torch.bool)).sample
    assert expected.std() > 0.1
    assert torch.equal(got, expected) and torch.equal(same, expected)


@pytest.mark.parametrize("head", [12, 128])
def test_positions_are_upstreams_and_stay_when_a_model_is_cast(head):
    transformer = make_transformer(attention_head_dim=head)
    latents = torch.zeros(1, 3, 4, 8, 6)
    expected = transformer.rope(latents.transpose(1, 2))
    got = backbone_of(transformer.to(torch.bfloat16)).positions(latents)
    assert all(torch.equal(ours, theirs) and ours.dtype == torch.float32 for ours, theirs in zip(got, expected))
    assert transformer.rope.freqs_cos.dtype == torch.bfloat16  # why the model's own are not used


def test_a_new_branch_says_nothing_and_a_trained_one_only_where_the_mask_allows(inputs):
    transformer = make_transformer()
    clip, noisy = conditions(), inputs["hidden_states"].transpose(1, 2)

    def run(branch, **options):
        denoiser = Denoiser(transformer, branch, **options)
        with torch.no_grad():
            return denoiser(noisy, denoiser.prepare(clip), inputs["encoder_hidden_states"], inputs["timestep"])[0]

    bare = run(None)
    assert torch.equal(run(make_branch(transformer, trained=False)), bare)
    added = run(make_branch(transformer))
    assert not torch.allclose(added, bare, atol=1e-3)
    assert not torch.allclose(run(make_branch(transformer), mask_add=False), added, atol=1e-4)
    assert not torch.allclose(run(make_branch(transformer), add_first=True), added, atol=1e-4)
    # All hole: nothing is added anywhere.
    clip = Conditions(masked_latents=clip.masked_latents, mask=torch.ones_like(clip.mask))
    assert torch.equal(run(make_branch(transformer)), bare)


def test_a_branch_begins_as_the_backbone_and_comes_back_from_disk(tmp_path):
    transformer = make_transformer()
    branch = make_branch(transformer, hole_fill=-1.0)
    own, given = branch.state_dict(), transformer.state_dict()
    assert {name for name in own if name not in given} == {
        f"branch_blocks.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")
    }
    shared = [name for name in own if name in given and name != "patch_embedding.weight"]
    assert all(torch.equal(own[name], given[name]) for name in shared)
    weight = given["patch_embedding.weight"]
    assert torch.equal(own["patch_embedding.weight"][:, :8], torch.cat([weight, weight], dim=1))
    branch.save_pretrained(tmp_path)
    again = WanBranchModel.from_pretrained(tmp_path)
    assert again.config.hole_fill == -1.0 and again.config.num_layers == 2
    assert all(torch.equal(value, own[name]) for name, value in again.state_dict().items())
    with pytest.raises(ValueError, match=r"expected 1..4 layers"):
        WanBranchModel.from_transformer(transformer, num_layers=5)


def test_gradients_reach_the_branch_alone_and_checkpointing_changes_nothing(inputs):
    transformer = make_transformer().requires_grad_(False)
    branch = make_branch(transformer).requires_grad_(True)
    noisy = inputs["hidden_states"].transpose(1, 2)

    def gradients():
        denoiser = Denoiser(transformer, branch, form="compact")
        output, _ = denoiser(noisy, denoiser.prepare(conditions()), inputs["encoder_hidden_states"], inputs["timestep"])
        branch.zero_grad()
        output.square().mean().backward()
        return {name: p.grad.clone() for name, p in branch.named_parameters()}

    plain = gradients()
    assert all(grad.abs().max() > 0 for grad in plain.values())
    assert all(p.grad is None for p in transformer.parameters())
    for model in (transformer.train(), branch.train()):
        model.enable_gradient_checkpointing()
    for name, grad in gradients().items():
        torch.testing.assert_close(grad, plain[name])


# ---- ID resampling


def test_resampling_counts_the_holes_tokens_twice():
    """A clip's own second set is the attention in which the weights of the hole's tokens are doubled."""
    transformer = make_transformer(num_layers=1)
    attn, rotary = transformer.blocks[0].attn1, transformer.rope(torch.zeros(1, 4, 3, 4, 6))
    hidden = torch.randn(2, 18, 24, generator=torch.Generator().manual_seed(7))
    in_hole = token_mask(conditions().mask, 2)
    hole = HoleTokens.from_mask(in_hole)
    assert hole.valid.sum(1).tolist() == [6, 12]  # one sample is padded
    resample = ResampleTokens(hole.index, hole.valid, "compact")
    doubled = torch.where(in_hole, math.log(2), 0.0)[:, None, None].expand(2, 1, 18, 18)
    with torch.no_grad():
        got = attn(hidden, None, None, (*rotary, resample))
        expected = attn(hidden, None, doubled, rotary)
    torch.testing.assert_close(got, expected)


def test_a_sample_with_fewer_hole_tokens_does_not_see_the_others_padding(inputs):
    denoiser = Denoiser(make_transformer(), None, form="compact")
    arguments = (inputs["hidden_states"].transpose(1, 2), inputs["encoder_hidden_states"], inputs["timestep"])

    def run(which, **options):
        noisy, text, timestep = (x[which] for x in arguments)
        with torch.no_grad():
            return denoiser(noisy, denoiser.prepare(conditions().map(lambda x: x[which])), text, timestep, **options)

    together, memory = run(slice(0, 2), remember=True)
    torch.testing.assert_close(together, torch.cat([run(slice(0, 1))[0], run(slice(1, 2))[0]]))
    assert [hidden.shape for hidden in memory.hidden] == [(2, 12, 24)] * 4


def test_own_tokens_at_weight_one_equal_the_clips_own_set(inputs):
    """What a clip hands on, taken at the same noise and weight 1, gives what its own tokens give at the first block."""
    transformer = make_transformer(num_layers=1)
    tokens = transformer.patch_embedding(inputs["hidden_states"]).flatten(2).transpose(1, 2)
    denoiser = Denoiser(transformer, None, form="compact")
    prepared = denoiser.prepare(conditions())
    memory = ClipMemory(prepared.hole, [prepared.hole.gather(tokens)])
    arguments = (inputs["hidden_states"].transpose(1, 2), prepared, inputs["encoder_hidden_states"], inputs["timestep"])
    with torch.no_grad():
        own, _ = denoiser(*arguments)
        handed, _ = denoiser(*arguments, previous=memory, prev_clip_weight=1.0)
        half, _ = denoiser(*arguments, previous=memory, prev_clip_weight=0.5)
        off, _ = Denoiser(transformer, None)(*arguments)
    torch.testing.assert_close(handed, own)
    assert not torch.allclose(half, own, atol=1e-5) and not torch.allclose(off, own, atol=1e-5)


def test_the_exact_form_is_refused():
    with pytest.raises(ValueError, match=r"expected ID resampling of form compact for a backbone of Wan, got exact"):
        Denoiser(make_transformer(), None, form="exact")


# ---- the VAE


@pytest.mark.parametrize("frames", [1, 5, 21])
@pytest.mark.parametrize("tiled", [False, True])
def test_streamed_decoding_equals_decoding_at_once(frames, tiled):
    vae = make_vae()
    codec = codec_of(vae)
    if tiled:
        vae.enable_tiling(32, 32, 24, 24)
    video = torch.from_numpy(noise_video(frames, 48, 56)).permute(3, 0, 1, 2)[None] / 127.5 - 1
    latents = codec.encode(video)
    assert latents.shape == (1, (frames + 3) // 4, 4, 6, 7)
    mean, std = (torch.tensor(vae.config[f"latents_{kind}"]).view(1, -1, 1, 1, 1) for kind in ("mean", "std"))
    with torch.no_grad():
        mode = vae.encode(video).latent_dist.mode()
        expected = vae.decode(latents.transpose(1, 2) * std + mean).sample
    torch.testing.assert_close(latents.transpose(1, 2), (mode - mean) / std)
    pieces = list(codec.decode_stream(latents.split(2, dim=1), latents.shape[1]))
    assert sum(piece.shape[2] for piece in pieces) == frames
    torch.testing.assert_close(torch.cat(pieces, dim=2), expected, rtol=0, atol=2e-6)


# ---- the sampler


@pytest.mark.parametrize("kind", ["unipc", "euler"])
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_steps_are_upstreams(kind, steps):
    process = backbone_of(make_transformer()).process(make_scheduler(kind))
    sampler = process.steps(steps, steps, torch.device("cpu"))
    upstream = make_scheduler(kind)
    upstream.set_timesteps(steps)
    ours = theirs = torch.randn(1, 2, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    for step, t in enumerate(upstream.timesteps):
        assert sampler.timesteps[step] == t
        output = torch.sin(theirs * 3 + step)
        theirs = upstream.step(output, t, theirs, return_dict=False)[0]
        ours = sampler.step(step, torch.sin(ours * 3 + step), ours)
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_a_straight_path_is_followed_exactly():
    """Of one clean sample the velocity is noise − clean everywhere: any number of steps ends at the sample."""
    process = backbone_of(make_transformer()).process(make_scheduler())
    generator = torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 1, 3, 4, 4, 6, generator=generator)
    for steps in (1, 2, 7):
        sampler = process.steps(steps, steps, torch.device("cpu"))
        latents = sampler.start(noise)
        for step in range(steps):
            torch.testing.assert_close(latents, sampler.noised(clean, noise, step), rtol=0, atol=1e-4)
            latents = sampler.step(step, noise - clean, latents)
        torch.testing.assert_close(latents, clean, rtol=0, atol=1e-4)
        assert torch.equal(sampler.noised(clean, noise, steps), clean)


def test_the_loss_is_the_velocitys_error_and_times_follow_the_shift():
    process = backbone_of(make_transformer()).process(make_scheduler())
    generator = torch.Generator().manual_seed(3)
    clean, noise = torch.randn(2, 4, 3, 4, 4, 6, generator=generator)
    timesteps = torch.tensor([1, 250, 700, 1000])
    noisy = process.noised(clean, noise, timesteps)
    torch.testing.assert_close(noisy[3], noise[3])
    torch.testing.assert_close(noisy[1], 0.75 * clean[1] + 0.25 * noise[1])
    assert process.errors(noise - clean, noisy, clean, noise, timesteps).abs().max() == 0
    assert process.errors(noise - clean + 2, noisy, clean, noise, timesteps).mean() == pytest.approx(4)
    drawn = [process.draw_time(generator) for _ in range(2000)]
    assert min(drawn) >= 1 and max(drawn) <= 1000
    assert np.median(drawn) == pytest.approx(750, abs=25)  # 3·½ / (1 + 2·½)
    assert max(process.draw_time(generator, late=True) for _ in range(300)) <= 430


# ---- prompts, files, the pipeline


def test_prompts_are_embedded_as_upstreams_pipeline_does(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    encoder, backbone = make_text_encoder(tokenizer), backbone_of(make_transformer())
    upstream = WanPipeline(tokenizer, encoder, make_vae(), make_scheduler())
    for text in ("a red ball", "", "  a   red ball &amp; a wall "):
        expected, _ = upstream.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=24)
        with torch.no_grad():
            got = backbone.embed_text(tokenizer, encoder, text, 24, torch.device("cpu"))
        torch.testing.assert_close(got, expected)
    assert (got[0, -1] == 0).all()


def inpaint(pipe, frames=17, **options):
    generator = torch.Generator().manual_seed(9)
    draw = torch.randn(2, 1, 7, TEXT_DIM, generator=generator)
    settings = {"num_inference_steps": 3, "num_frames": 9, "overlap_frames": 5, "height": 32, "width": 48}
    video, masks = noise_video(frames), moving_mask(frames)
    embeds = {"prompt_embeds": draw[0], "negative_prompt_embeds": draw[1]}
    return pipe(video=video, masks=masks, **{"output_type": "np", **settings, **embeds, **options}).frames[0]


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_a_long_video_keeps_its_background_and_is_painted_in_the_hole(scheduler):
    result = inpaint(make_pipeline(scheduler=scheduler))
    masks, video = moving_mask(17), noise_video(17)
    assert result.shape == video.shape
    assert np.array_equal(result[~masks], video[~masks])
    assert (result[masks] != video[masks]).mean() > 0.9
    assert not np.array_equal(inpaint(make_pipeline(scheduler=scheduler), seed=1)[masks], result[masks])


def test_windows_hand_the_object_on():
    pipe = make_pipeline()
    off = inpaint(pipe)
    own = inpaint(pipe, id_resample="compact")
    handed = inpaint(pipe, id_resample="compact", prev_clip_weight=0.7)
    assert not np.array_equal(off, own)
    assert np.array_equal(own[:4], handed[:4]) and not np.array_equal(own, handed)
    with pytest.raises(ValueError, match="form compact for a backbone of Wan"):
        inpaint(pipe, id_resample="exact")


def test_a_published_folder_loads_and_what_is_saved_comes_back(folder, tmp_path):
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "WanPipeline" and index["transformer"] == ["diffusers", "WanTransformer3DModel"]
    pipe = load_pipeline(folder, inpainting_branch=folder / "branch", device="cpu")
    assert isinstance(pipe, VideoPainterWanPipeline)
    pipe.set_progress_bar_config(disable=True)
    options = {"prompt": "a red ball", "prompt_embeds": None, "negative_prompt_embeds": None}
    result = inpaint(pipe, frames=5, **options)
    pipe.save_pretrained(tmp_path)
    again = VideoPainterWanPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(inpaint(again, frames=5, **options), result)
    euler = load_pipeline(folder, inpainting_branch=folder / "branch", device="cpu", scheduler="euler")
    assert type(euler.scheduler).__name__ == "FlowMatchEulerDiscreteScheduler" and euler.scheduler.shift == 3.0
    euler.scheduler.save_pretrained(tmp_path / "scheduler")
    back = load_pipeline(tmp_path, inpainting_branch=folder / "branch", device="cpu").scheduler
    assert type(back) is UniPCMultistepScheduler and back.config.flow_shift == 3.0 and back.config.use_flow_sigmas


def test_an_adapter_of_the_compact_form_loads_and_another_is_refused(folder, tmp_path):
    transformer = make_transformer()
    adapter = IDAdapter("compact", 4, 4)
    transformer.add_adapter(LoraConfig(**adapter.lora_config()), adapter_name="id_resample")
    state = get_peft_model_state_dict(transformer, adapter_name="id_resample")
    torch.manual_seed(8)
    state = {name: torch.randn_like(value) * 0.1 for name, value in state.items()}
    adapter.save(tmp_path / "compact", state)
    IDAdapter("exact", 4, 4).save(tmp_path / "exact", state)
    branch = folder / "branch"
    pipe = load_pipeline(folder, inpainting_branch=branch, id_adapter=tmp_path / "compact", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    plain = load_pipeline(folder, inpainting_branch=branch, device="cpu")
    plain.set_progress_bar_config(disable=True)
    assert not np.array_equal(inpaint(pipe, frames=9), inpaint(plain, frames=9, id_resample="compact"))
    with pytest.raises(ValueError, match=r"exact/pytorch_lora_weights.safetensors: expected .* form compact"):
        load_pipeline(folder, inpainting_branch=branch, id_adapter=tmp_path / "exact", device="cpu")


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("transformer/config.json", {"image_dim": 1280}, "image_dim: expected null where in_channels are 4"),
        ("transformer/config.json", {"num_layers": 5}, "num_layers: expected 4 as its weights"),
        ("transformer/config.json", {"in_channels": 9}, r"in_channels: expected 4 \(text to video\) or 12"),
        ("transformer/config.json", {"patch_size": [2, 2, 2]}, "patch_size: expected a list like"),
        ("vae/config.json", {"scale_factor_spatial": 16}, "scale_factor_spatial: expected 8: Wan 2.1's VAE"),
        ("vae/config.json", {"latents_mean": [0.0]}, "latents_mean: expected 4 as its weights"),
        ("vae/config.json", {"_class_name": "AutoencoderKLCogVideoX"}, "_class_name: expected AutoencoderKLWan"),
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "expected flow_prediction"),
        ("branch/config.json", {"text_dim": 7}, "text_dim: expected 24 as its weights"),
        ("branch/config.json", {"_class_name": "CogvideoXBranchModel"}, "_class_name: expected WanBranchModel, got"),
        ("model_index.json", {"expand_timesteps": True}, "expand_timesteps: expected false: Wan 2.2's 5B alone"),
        ("model_index.json", {"boundary_ratio": 0.9}, "boundary_ratio: expected null: Wan 2.2's pairs"),
        ("vae/config.json", {"dim_mult": []}, "dim_mult: expected a list of four whole numbers"),
        ("vae/config.json", {"temperal_downsample": [False, False, True]}, "temperal_downsample: expected a list like"),
        ("branch/config.json", {"num_layers": None}, "num_layers: expected a whole number"),
        ("vae/config.json", {"latents_std": [0.0, 1.0, 1.0, 1.0]}, "latents_std: expected a list of numbers above 0"),
        # What sampler and loss are not written for, before anything loads.
        ("scheduler/scheduler_config.json", {"solver_order": 3}, "solver_order: expected a whole number from 1 to 2"),
        ("scheduler/scheduler_config.json", {"solver_type": "bh1"}, "solver_type: expected bh2"),
        ("scheduler/scheduler_config.json", {"disable_corrector": [0]}, "disable_corrector: expected"),
        ("scheduler/scheduler_config.json", {"use_dynamic_shifting": True}, "use_dynamic_shifting: expected False"),
        ("scheduler/scheduler_config.json", {"use_karras_sigmas": True}, "use_karras_sigmas: expected False"),
        ("scheduler/scheduler_config.json", {"use_flow_sigmas": False}, "use_flow_sigmas: expected True"),
        ("scheduler/scheduler_config.json", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type: expected zero"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 500}, "num_train_timesteps: expected 1000"),
    ],
)
def test_odd_configs_are_refused_in_a_line(folder, tmp_path, file, change, says):
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=says) as error:
        load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    assert "\n" not in str(error.value) and str(copy) in str(error.value)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "branch"])
def test_a_part_of_another_family_is_refused_before_it_loads(folder, tmp_path, part):
    copy = shutil.copytree(folder, tmp_path / "copy")
    other = TINY.parent / "VideoPainter/checkpoints/branch" if part == "branch" else TINY / part
    shutil.rmtree(copy / part)
    shutil.copytree(other, copy / part)
    says = {"vae": "_class_name: expected AutoencoderKLWan", "branch": "_class_name: expected WanBranchModel"}
    with pytest.raises(ValueError, match=says.get(part, "d_model: expected 24 as the transformer's text_dim")):
        check_checkpoints(copy, copy / "branch")


def test_a_wan_branch_is_refused_beside_cogvideox(folder):
    with pytest.raises(ValueError, match="_class_name: expected CogvideoXBranchModel, got 'WanBranchModel'"):
        check_checkpoints(TINY, folder / "branch")


def test_an_adapter_of_another_family_is_refused_though_it_is_as_wide(folder, tmp_path):
    weights = {"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 24)}
    save_file(weights, tmp_path / ADAPTER_FILE, metadata={"id_resample_form": "compact"})
    with pytest.raises(ValueError, match=r"expected an ID adapter for Wan \(blocks\), got transformer.transformer_bl"):
        check_checkpoints(folder, folder / "branch", tmp_path)


@pytest.mark.parametrize("change", ["incomplete", "T5"])
def test_a_text_encoder_that_would_be_filled_in_is_refused(folder, tmp_path, change):
    """transformers warns and draws what is missing at random; of UMT5 T5 takes the first block's positions for all."""
    copy = shutil.copytree(folder / "text_encoder", tmp_path / "text_encoder")
    if change == "T5":
        config = json.loads((copy / "config.json").read_text())
        config |= {"model_type": "t5", "architectures": ["T5EncoderModel"], "num_layers": 2}
        (copy / "config.json").write_text(json.dumps(config))
    weights = load_file(copy / "model.safetensors")
    if change == "incomplete":
        del weights["encoder.final_layer_norm.weight"]
    else:
        first = {name: value for name, value in weights.items() if name.startswith("encoder.block.0.")}
        weights |= {name.replace("block.0", "block.1"): value.clone() for name, value in first.items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    shutil.copytree(folder / "transformer", tmp_path / "transformer")
    with pytest.raises(ValueError, match=r"expected exactly the weights of \w+, 1 (missing|unknown)"):
        load_text_encoder(tmp_path, torch.float32)


@pytest.mark.parametrize("stored", ["shared.weight", "encoder.embed_tokens.weight"])
def test_published_text_encoders_keep_their_words(folder, tmp_path, stored):
    """Wan's configs do not tie words to the output's; some versions of transformers then drew them at random."""
    for part in ("text_encoder", "tokenizer", "transformer"):
        shutil.copytree(folder / part, tmp_path / part)
    file, config_file = tmp_path / "text_encoder/model.safetensors", tmp_path / "text_encoder/config.json"
    weights = load_file(file)
    words = weights.pop("shared.weight")
    weights.pop("encoder.embed_tokens.weight", None)
    save_file({**weights, stored: words}, file, metadata={"format": "pt"})
    config_file.write_text(json.dumps({**json.loads(config_file.read_text()), "tie_word_embeddings": False}))
    _, encoder = load_text_encoder(tmp_path, torch.float32)
    assert torch.equal(encoder.get_input_embeddings().weight, words)


def test_other_kinds_of_wan_are_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.copytree(copy / "transformer", copy / "transformer_2")
    with pytest.raises(ValueError, match="copy: expected a checkpoint without transformer_2"):
        load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    with pytest.raises(ValueError, match="got one of Wan 2"):
        VideoPainterWanPipeline(None, None, make_vae(), make_transformer(), make_scheduler(), expand_timesteps=True)


@pytest.mark.parametrize("make", [make_pipeline, make_image_pipeline, make_dense_pipeline], ids=["t2v", "i2v", "ti2v"])
def test_a_killed_run_goes_on_to_the_same_frames(tmp_path, make):
    pipe = make()
    height, width = (n * pipe.backbone.grid.multiple for n in (2, 3))
    sizes = {"height": height, "width": width, "num_frames": 9, "overlap_frames": 5}
    settings = InpaintSettings(
        **sizes, num_inference_steps=2, prev_clip_weight=0.5, id_resample="compact", guidance_scale=1
    )
    embeds = torch.randn(1, 7, TEXT_DIM, generator=torch.Generator().manual_seed(1))
    video, masks = ArrayFrames(noise_video(17, height, width)), ArrayMasks(moving_mask(17, height, width))
    prompts = PromptTrack.from_embeds(pipe, embeds, None)

    def frames(store, windows=None):
        job = make_job(pipe, video, masks, settings=settings, prompts=prompts)
        for window in denoise_windows(pipe, job, store):
            if window.index + 1 == windows:
                return None
        return np.concatenate(list(finished_frames(pipe, job, store)))

    expected = frames(WindowStore())
    frames(WindowStore(tmp_path, "same"), windows=2)
    assert np.array_equal(frames(WindowStore(tmp_path, "same")), expected)


def test_a_form_of_another_family_is_refused_before_a_model_loads(folder):
    weights = Weights(model_path=str(folder))
    check_resampling(weights, "compact")
    with pytest.raises(ValueError, match=r"id_resample: expected ID resampling of form compact"):
        check_resampling(weights, "exact")


def test_the_published_layout_in_shards_loads(folder, tmp_path):
    """As Wan-AI's folders: backbone and text encoder in shards with an index, half of the configs' keys left out."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    whole = load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    for part in ("transformer", "text_encoder"):
        for file in (copy / part).glob("*.safetensors"):
            file.unlink()
        getattr(whole, part).save_pretrained(copy / part, max_shard_size="30KB")
        assert len(list((copy / part).glob("*-of-*.safetensors"))) > 1
    config = json.loads((copy / "transformer/config.json").read_text()) | {"_class_name": "WanTransformer3DModel"}
    for name in ("pos_embed_seq_len", "rope_max_seq_len", "eps", "qk_norm", "image_dim"):
        del config[name]
    (copy / "transformer/config.json").write_text(json.dumps(config))
    again = load_pipeline(copy, inpainting_branch=copy / "branch", device="cpu")
    for part in ("transformer", "text_encoder"):
        expected = getattr(whole, part).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in getattr(again, part).state_dict().items())


def test_samplers_belong_to_their_family(folder):
    with pytest.raises(ValueError, match=r"scheduler: expected auto, unipc, euler for a backbone of Wan, got 'ddim'"):
        load_pipeline(folder, inpainting_branch=folder / "branch", device="cpu", scheduler="ddim")


def test_guidance_that_grows_is_refused_and_not_ignored(folder, tmp_path):
    def check(*flags):
        words = ["--pretrained_model_name_or_path", str(folder), "--meta_file_path", "a.csv"]
        check_training("branch", read_options("branch", [*words, "--output_dir", str(tmp_path), *flags]))

    check()
    check("--use_dynamic_cfg", "false")
    with pytest.raises(ValueError, match="use_dynamic_cfg: expected false, Wan is guided alike at every step; got tru"):
        check("--use_dynamic_cfg")
