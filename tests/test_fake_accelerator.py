"""5B models in bf16 on an accelerator of shapes alone: wrong devices, silent float32 products, waits of the host.

Here blocks are few (all of a backbone's are alike); `make test-sizes` runs the published 42. Streams
(group offloading's), page-locked memory as such, kernels and numbers are not covered; see `fake_accelerator.py`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from fake_accelerator import Watch, accelerator, device, in_own_process
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import T5TokenizerFast

from videopainter import VideoPainterPipeline
from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.training.sample_order import SampleKey
from videopainter.models.backbones import noise
from videopainter.models.backbones.cogvideox import adapter, published, sampler
from videopainter.models.backbones.denoiser import Denoiser
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.id_adapter import IDAdapter
from videopainter.models.id_resample import ClipMemory
from videopainter.pipelines import conditioning, denoise, streaming
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.training.encoding import EncodedBatch, encode_captions
from videopainter.training.model import InpaintingModel, freeze_all_but_branch, freeze_all_but_lora
from videopainter.training.objective import Objective
from videopainter.training.options import AdapterOptions, ConditionOptions

WHOLE = bool(os.environ.get("VIDEOPAINTER_WHOLE_SIZES"))
SIZES = {"CogVideoX-5b-I2V": (480, 720), "CogVideoX-5b": (480, 720), "CogVideoX1.5-5B": (768, 1360)}
SIZES["CogVideoX1.5-5B-I2V"] = SIZES["CogVideoX1.5-5B"]
# Two windows, a latent further on. What a window's chunks of frames do to the VAE they do alike.
FRAMES = 53 if WHOLE else 13
HOLE_TOKENS = 900
GPU = "fakegpu"
TOKENIZER = Path(__file__).parents[1] / "ckpt/tiny/CogVideoX-5b-I2V/tokenizer"


def few(blocks):
    """Keyword for a model's blocks: few, or all where asked for."""
    return {} if WHOLE else {"num_layers": blocks}


def make_pipeline(name, blocks=2, form="exact"):
    """Meta modules to fake ones on the accelerator; call inside `accelerator()`."""
    parts = {}
    with unset_fake_temporarily(), torch.device("meta"):
        parts["transformer"] = published.build_backbone(name, rank=published.ADAPTER_RANK, **few(blocks))
        parts["branch"] = published.build_branch(name)
        parts["vae"] = published.build_vae(name)
    for module in parts.values():
        published.without_storage(module, device())
    pipe = VideoPainterPipeline(None, None, scheduler=SCHEDULER, **parts)
    pipe.id_adapter = IDAdapter(form, published.ADAPTER_RANK, published.ADAPTER_RANK)
    pipe.set_progress_bar_config(disable=True)
    return pipe


SCHEDULER = published.build_scheduler()  # real numbers


@contextmanager
def watched_steps(watch: Watch):
    """The host must not wait from a window's first model call until its last step is done."""
    call, whole = denoise._Predictor.__call__, denoise.denoise_window

    def predict(self, *args, **options):
        watch.stepping, watch.steps = True, watch.steps + 1
        return call(self, *args, **options)

    def window(*args):
        try:
            return whole(*args)
        finally:
            watch.stepping = False

    with (
        mock.patch.object(denoise._Predictor, "__call__", predict),
        mock.patch.object(streaming, "denoise_window", window),
    ):
        yield


def rotary_in_float32(block, args):
    """A block's rotary tables stay in float32: bf16 positions are wrong from the 256th on."""
    cos, sin = args[3]
    assert cos.dtype == sin.dtype == torch.float32, f"rotary tables in {cos.dtype}"
    assert cos.device.type == sin.device.type == GPU, f"rotary tables on {cos.device}"


def run_windows(watch, pipe, size=(480, 720), *, steps=2, frames=FRAMES, **options):
    """Encode and denoise a video of two windows; gives the job and what is left to decode."""
    height, width = size
    options = {"overlap_frames": 5, "num_frames": FRAMES - 4, **options}
    video, masks = np.zeros((frames, height, width, 3), np.uint8), np.zeros((frames, height, width), bool)
    masks[:, height // 4 : height // 2, width // 4 : width // 2] = True
    settings = InpaintSettings(height=height, width=width, num_inference_steps=steps, prev_clip_weight=0.5, **options)
    embeds = torch.empty(1, pipe.max_sequence_length, 4096, dtype=torch.bfloat16)
    job = streaming.make_job(
        pipe,
        ArrayFrames(video),
        ArrayMasks(masks),
        settings=settings,
        prompts=PromptTrack.from_embeds(pipe, embeds, embeds),
        first_frame=video[0] if pipe.image_conditioned else None,
    )
    for block in [*pipe.transformer.transformer_blocks, *pipe.branch.transformer_blocks]:
        block.register_forward_pre_hook(rotary_in_float32)
    store = WindowStore()
    with watched_steps(watch):
        for _ in streaming.denoise_windows(pipe, job, store):
            pass
    assert watch.steps == 2 * steps
    return job, store


def case_windows(name, form="exact", tiled=False, **options):
    with accelerator(HOLE_TOKENS) as watch:
        pipe = make_pipeline(name, form=form)
        if tiled:
            pipe.codec.tile()
        job, store = run_windows(watch, pipe, SIZES[name], **options)
        assert sum(len(piece) for piece in streaming.finished_frames(pipe, job, store)) == len(job.frames)
        watch.check()


@pytest.mark.parametrize("name", SIZES)
def test_two_windows(name):
    in_own_process(case_windows, name)


def case_compact_and_tiled():
    case_windows("CogVideoX-5b-I2V", "compact", tiled=True, frames=9, num_frames=5, overlap_frames=1)


@pytest.mark.slow
def test_two_windows_with_compact_resampling_and_tiles():
    in_own_process(case_compact_and_tiled)


def case_text(blocks=2):
    """Prompts as embeddings on the accelerator, in the backbone's dtype."""
    with accelerator() as watch:
        pipe = make_pipeline("CogVideoX-5b-I2V", 1)
        pipe.text_encoder = make_text_encoder(blocks)
        pipe.tokenizer = T5TokenizerFast.from_pretrained(TOKENIZER)
        track = PromptTrack.encode(pipe, {0: "a cat", 20: "a dog"}, guidance=True)
        for embeds in track.embeds:
            assert embeds.shape == (2, 226, 4096) and embeds.dtype == torch.bfloat16 and embeds.device.type == GPU
        captions = encode_captions(
            pipe.backbone, pipe.tokenizer, pipe.text_encoder, ["a cat", "a dog", "a cat"], 226, device()
        )
        assert captions.shape == (3, 226, 4096) and captions.dtype == torch.bfloat16
        watch.check()


def make_text_encoder(blocks):
    with unset_fake_temporarily(), torch.device("meta"):
        encoder = published.build_text_encoder(**few(blocks))
    return published.without_storage(encoder, device())


def test_prompts():
    in_own_process(case_text)


def make_training(name, task, engine, blocks):
    """An `InpaintingModel` as a task and an engine leave it: what is trained in float32 under autocast, or all bf16."""
    with unset_fake_temporarily(), torch.device("meta"):
        transformer = published.build_backbone(name, rank=published.ADAPTER_RANK if task == "id" else 0, **few(blocks))
        branch = published.build_branch(name)
        model = InpaintingModel(transformer, branch, id_form="exact" if task == "id" else None).train()
        (freeze_all_but_lora if task == "id" else freeze_all_but_branch)(model)
        if engine == "autocast":
            for part in model.modules():
                trained = {n: p for n, p in part._parameters.items() if p is not None and p.requires_grad}
                part._parameters.update({n: torch.nn.Parameter(p.float()) for n, p in trained.items()})
        transformer.enable_gradient_checkpointing()
        branch.enable_gradient_checkpointing()
    return published.without_storage(model, device())


def make_batch(config, size=(480, 720), frames=13):
    """One encoded clip on the accelerator."""
    height, width = size[0] // 8, size[1] // 8

    def latents(frames, channels=16):
        return torch.empty(1, frames, channels, height, width, dtype=torch.bfloat16, device=device())

    return EncodedBatch(
        keys=[SampleKey(0, 0, False)],
        latents=latents(frames),
        masked_latents=latents(frames),
        mask=latents(frames, 1),
        first_latent=latents(1) if config.in_channels > config.out_channels else None,
        prompt_embeds=torch.empty(1, config.max_text_seq_length, 4096, dtype=torch.bfloat16, device=device()),
    )


def run_training_step(watch, model, engine):
    """Losses, backward, clipping and AdamW; the host must not wait anywhere in it."""
    config = model.transformer.config
    objective = Objective(
        backbone_of(model.transformer), published.build_scheduler(), ConditionOptions(), AdapterOptions()
    )
    scheduler = objective.process.scheduler
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device())  # as after the first step
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    model.input_dtype = torch.bfloat16 if engine == "deepspeed" else None
    batch = make_batch(config)
    with watch.no_waiting():
        with torch.autocast(GPU, dtype=torch.bfloat16, enabled=engine == "autocast"):
            losses = objective.training_losses(model, batch, seed=0)
        objective.total(losses).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    assert all(p.grad is not None and p.grad.device.type == GPU for p in trained)


def case_training(name, task, engine, blocks=2):
    with accelerator(HOLE_TOKENS) as watch:
        run_training_step(watch, make_training(name, task, engine, blocks), engine)
        watch.check()


@pytest.mark.parametrize("engine", ["autocast", "deepspeed"])
@pytest.mark.parametrize("task", ["branch", "id"])
def test_training_step(task, engine):
    in_own_process(case_training, "CogVideoX-5b-I2V", task, engine)


@pytest.mark.parametrize("name", ["CogVideoX-5b", "CogVideoX1.5-5B-I2V"])
def test_training_step_of_other_backbones(name):
    in_own_process(case_training, name, "branch", "autocast")


# What the harness is for: each of these must be seen.


def memory_stays(pipe):
    """The second window finds the memory in main memory."""
    original = ClipMemory.to
    stays = lambda memory, place, dtype=None: original(memory, place) if str(place) == "cpu" else memory  # noqa: E731
    return mock.patch.object(ClipMemory, "to", stays)


def memory_moves_at_every_step(pipe):
    original, moved = Denoiser.__call__, ClipMemory.to
    stays = lambda memory, place, dtype=None: moved(memory, place) if str(place) == "cpu" else memory  # noqa: E731

    def call(self, *args, previous=None, **options):
        previous = None if previous is None else moved(previous, device())
        return original(self, *args, previous=previous, **options)

    patches = ExitStack()
    patches.enter_context(mock.patch.object(ClipMemory, "to", stays))
    patches.enter_context(mock.patch.object(Denoiser, "__call__", call))
    return patches


def branch_layer_in_float32(pipe):
    layer = pipe.branch.branch_blocks[1]

    def forward(x):
        return torch.nn.functional.linear(x.float(), layer.weight.float(), layer.bias.float()).to(x.dtype)

    return mock.patch.object(layer, "forward", forward)


def attention_in_float32(pipe):
    original = pipe.transformer.transformer_blocks[0].attn1.norm_q.forward
    norms = pipe.transformer.transformer_blocks[0].attn1
    return mock.patch.object(norms.norm_q, "forward", lambda x: original(x).float())


def item_in_the_step(pipe):
    original = sampler.Sampler.step

    def step(self, step, output, latents):
        return original(self, step, output * (output.abs().max().item() > 0), latents)

    return mock.patch.object(sampler.Sampler, "step", step)


def timesteps_on_the_device(pipe):
    """Upstream's step, asked with the device's timestep."""

    def step(self, step, output, latents):
        return self.scheduler.step(output, None, self.timesteps[step], None, latents, return_dict=False)[0]

    return mock.patch.object(sampler.Sampler, "step", step)


def noise_from_pageable_memory(pipe):
    return mock.patch.object(noise, "send", lambda tensor, place: tensor.to(place))


def rotary_in_bf16(pipe):
    original = adapter.rotary_tables
    return mock.patch.object(adapter, "rotary_tables", lambda *a: tuple(x.bfloat16() for x in original(*a)))


def conditions_on_the_cpu(pipe):
    original = conditioning.touched_latents
    make = streaming.make_conditions

    def conditions(*args, **options):
        made = make(*args, **options)
        return replace(
            made, touched=original(torch.zeros(1, 1, 9, 480, 720), torch.empty(1, 3, 16, 60, 90)).to(made.touched.dtype)
        )

    return mock.patch.object(streaming, "make_conditions", conditions)


FAULTS = {
    memory_stays: "same device",
    memory_moves_at_every_step: "host waits: aten._to_copy",
    branch_layer_in_float32: "float32: aten.addmm",
    attention_in_float32: "attention of torch.float32",
    item_in_the_step: "host waits: aten._local_scalar_dense",
    timesteps_on_the_device: "host waits: aten._local_scalar_dense",
    noise_from_pageable_memory: "host waits: aten._to_copy",
    rotary_in_bf16: "rotary tables in torch.bfloat16",
    conditions_on_the_cpu: "same device",
}


def checked_windows(watch, pipe):
    run_windows(watch, pipe, frames=13, num_frames=9)
    watch.check()


def case_fault(name):
    fault = globals()[name]
    with accelerator(HOLE_TOKENS) as watch:
        pipe = make_pipeline("CogVideoX-5b-I2V")
        with fault(pipe), pytest.raises(Exception, match=FAULTS[fault]):
            checked_windows(watch, pipe)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault.__name__ for fault in FAULTS])
def test_faults_are_seen(fault):
    in_own_process(case_fault, fault)
