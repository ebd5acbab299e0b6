"""Wan 2.1 at 1.3B's width in bfloat16 on an accelerator of shapes alone: devices, dtypes, waits of the host."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_accelerator import accelerator, device, in_own_process
from test_fake_accelerator import GPU, HOLE_TOKENS, watched_steps
from test_wan_memory import PUBLISHED, in_half_precision
from torch._subclasses.fake_tensor import unset_fake_temporarily
from wan_models import make_scheduler

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.training.sample_order import SampleKey
from videopainter.models.backbones.cogvideox.published import without_storage
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.backbones.wan_video.branch import WanBranchModel
from videopainter.models.backbones.wan_video.transformer import VideoPainterWanTransformer3DModel
from videopainter.pipelines import streaming
from videopainter.pipelines.inpaint import VideoPainterWanPipeline
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.training.encoding import EncodedBatch
from videopainter.training.model import InpaintingModel, freeze_all_but_branch
from videopainter.training.objective import Objective
from videopainter.training.options import AdapterOptions, ConditionOptions

CONFIG = {**PUBLISHED["1.3B"], "num_layers": 2}
STEPS, FRAMES = 3, 13


def make_models():
    """Backbone and branch on the meta device, as `from_pretrained` leaves their dtypes in bfloat16."""
    with unset_fake_temporarily():
        return [
            in_half_precision(lambda: VideoPainterWanTransformer3DModel(**CONFIG)),
            in_half_precision(lambda: WanBranchModel(**CONFIG)),
        ]


def real_scheduler():
    """One whose noise levels are numbers, though tensors here have none."""
    scheduler = make_scheduler()

    def set_timesteps(count):
        with unset_fake_temporarily():
            known = make_scheduler()
            known.set_timesteps(count)
            levels = known.sigmas.tolist()
        scheduler.timesteps = torch.zeros(count, dtype=torch.int64)
        scheduler.sigmas = SimpleNamespace(tolist=lambda: levels)

    scheduler.set_timesteps = set_timesteps
    return scheduler


def case_windows():
    from diffusers import AutoencoderKLWan

    with accelerator(HOLE_TOKENS) as watch:
        transformer, branch = (without_storage(model, device()) for model in make_models())
        with unset_fake_temporarily():
            vae = in_half_precision(AutoencoderKLWan)
        pipe = VideoPainterWanPipeline(
            None, None, without_storage(vae, device()), transformer, real_scheduler(), branch
        )
        pipe.set_progress_bar_config(disable=True)
        video, masks = np.zeros((FRAMES, 240, 416, 3), np.uint8), np.zeros((FRAMES, 240, 416), bool)
        masks[:, 60:120, 100:200] = True
        settings = InpaintSettings(
            height=240,
            width=416,
            num_inference_steps=STEPS,
            num_frames=FRAMES - 4,
            overlap_frames=5,
            id_resample="compact",
            prev_clip_weight=0.5,
        )
        embeds = torch.empty(1, 512, 4096, dtype=torch.bfloat16)
        prompts = PromptTrack.from_embeds(pipe, embeds, embeds)
        job = streaming.make_job(pipe, ArrayFrames(video), ArrayMasks(masks), settings=settings, prompts=prompts)
        store = WindowStore()
        with watched_steps(watch):
            for _ in streaming.denoise_windows(pipe, job, store):
                pass
        assert watch.steps == 2 * STEPS
        assert sum(len(piece) for piece in streaming.finished_frames(pipe, job, store)) == FRAMES
        watch.check()


@pytest.mark.slow
def test_two_windows():
    in_own_process(case_windows)


def case_training():
    with accelerator(HOLE_TOKENS) as watch:
        model = InpaintingModel(*make_models()).train()
        freeze_all_but_branch(model)
        model.transformer.enable_gradient_checkpointing()
        model.branch.enable_gradient_checkpointing()
        without_storage(model, device())
        model.input_dtype = torch.bfloat16  # DeepSpeed: all weights at work in it, nothing else casts
        objective = Objective(backbone_of(model.transformer), make_scheduler(), ConditionOptions(), AdapterOptions())

        def latents(channels=16):
            return torch.empty(1, 4, channels, 30, 52, dtype=torch.bfloat16, device=device())

        embeds = torch.empty(1, 512, 4096, dtype=torch.bfloat16, device=device())
        batch = EncodedBatch([SampleKey(0, 0, False)], latents(), latents(), latents(1), None, embeds)
        trained = [p for p in model.parameters() if p.requires_grad]
        with watch.no_waiting():
            objective.total(objective.training_losses(model, batch, seed=0)).backward()
        assert all(p.grad is not None and p.grad.device.type == GPU for p in trained)
        watch.check()


def test_training_step():
    in_own_process(case_training)
