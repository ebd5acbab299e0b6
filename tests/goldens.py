"""What seeded random models compute, case by case; `test_goldens.py` compares it with `goldens.safetensors`.

The models are those of `conftest`: no training of ours touches them. The numbers were those of the public release when
they were written (`test_reference_parity.py` passed). Where a change of them is meant, write them anew:

    python tests/goldens.py
"""

from pathlib import Path

import numpy as np
import torch
from conftest import TEXT_DIM, TEXT_LENGTH, make_branch, make_pipeline, make_transformer, moving_mask, noise_video
from safetensors.torch import save_file

from videopainter.data.training.sample_order import SampleKey
from videopainter.models.backbones.registry import backbone_of
from videopainter.training.encoding import EncodedBatch
from videopainter.training.model import InpaintingModel
from videopainter.training.objective import Objective
from videopainter.training.options import AdapterOptions, ConditionOptions

FILE = Path(__file__).with_name("goldens.safetensors")
V15 = {"patch_size_t": 2, "ofs_embed_dim": 16, "sample_frames": 13}
RELEASE = {"blend": "average", "kept_latents": "nearest"}

# name: (scheduler, changes of the backbone, options of the call)
PIPELINES = {
    # Three windows, as users run them.
    "default": ("dpm", {}, {"image": True}),
    "release": ("ddim", {}, {"image": True, **RELEASE}),
    "static": ("ddim", {}, {"use_dynamic_cfg": False, "add_first": True, "conditioning_scale": 0.6}),
    "everywhere": ("ddim", {}, {"image": True, "mask_add": False, "replace_gt": False, "guidance_scale": 1.0}),
    "strength": ("dpm", {}, {"image": True, "strength": 0.6, "num_inference_steps": 5, "first_frame_gt": True}),
    "id_exact": ("ddim", {}, {"id_resample": "exact", "prev_clip_weight": 0.5}),
    "id_compact": ("dpm", {}, {"image": True, "id_resample": "compact", "prev_clip_weight": 0.5}),
    "t2v": ("ddim", {"in_channels": 16}, {}),
    "v1.5": ("dpm", V15, {"image": True, "id_resample": "exact", "prev_clip_weight": 1.0}),
    "black_holes": ("ddim", {}, {"hole_fill": -1.0}),
    "portrait": ("ddim", {}, {"image": True, "height": 64, "width": 32}),
}


def prompts():
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn(2, 1, TEXT_LENGTH, TEXT_DIM, generator=generator)
    return {"prompt_embeds": draw[0], "negative_prompt_embeds": draw[1]}


def holes(frames=21, height=40, width=56):
    """A box that moves; in the last window only a corner is left, which falls between the latent mask's samples."""
    masks = moving_mask(frames, height, width)
    masks[14:] = False
    masks[15:, 21:23, 30:32] = True
    return masks


def pipeline_latents(name):
    """Blended latents (1, T, 16, h, w) of 21 frames of 40×56 at 32×48, in windows of 9 that share 5."""
    scheduler, backbone, options = PIPELINES[name]
    pipe = make_pipeline(make_transformer(**backbone), scheduler)
    sizes = {"height": 32, "width": 48, "num_frames": 9, "overlap_frames": 5, "num_inference_steps": 3}
    options = {**sizes, "seed": 11, "output_type": "latent", **options}
    pipe.branch = make_branch(pipe.transformer, hole_fill=options.pop("hole_fill", 0.0))
    if options.pop("image", False):
        options["image"] = noise_video(1, 40, 56, seed=5)[0]
    return pipe(video=noise_video(21, 40, 56), masks=holes(), **prompts(), **options).frames[0]


TRAININGS = {
    "branch": {},
    "v1.5": {"backbone": V15, "frames": 3},
    "adapter": {"form": "exact", "adapter": {"prev_clip_prob": 1.0, "prev_clip_weight": 0.5}},
}


def batch(frames=4):
    generator = torch.Generator().manual_seed(9)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    mask = (torch.rand(3, frames, 1, 4, 6, generator=generator) < 0.4).float()
    keys = [SampleKey(2, row, False) for row in range(3)]
    latents, masked, first = draw(3, frames, 16, 4, 6), draw(3, frames, 16, 4, 6), draw(3, 1, 16, 4, 6)
    return EncodedBatch(keys, latents, masked, mask, first, draw(3, TEXT_LENGTH, TEXT_DIM))


def training_numbers(name):
    """Losses (full, masked) of a batch of three, some of whose images are dropped, and the norms of all gradients."""
    case = TRAININGS[name]
    pipe = make_pipeline(make_transformer(**case.get("backbone", {})))
    form = case.get("form")
    model = InpaintingModel(pipe.transformer, pipe.branch, mask_add=True, id_form=form)
    conditions = ConditionOptions(noised_image_dropout=0.5, inpainting_loss_weight=0.7)
    adapter = AdapterOptions(**case["adapter"]) if "adapter" in case else None
    objective = Objective(backbone_of(pipe.transformer), pipe.scheduler, conditions, adapter)
    losses = objective.training_losses(model, batch(case.get("frames", 4)), seed=4)
    objective.total(losses).backward()
    gradients = [p.grad.norm() for _, p in sorted(model.branch.named_parameters()) if p.grad is not None]
    return torch.stack([losses.full.detach(), losses.masked.detach(), *gradients])


def random_numbers():
    """Sums over the models' weights and the inputs: where these differ, torch or NumPy draw other numbers."""
    pipe = make_pipeline()
    models = [pipe.vae, pipe.transformer, pipe.branch]
    sums = [sum(p.double().abs().sum() for p in model.parameters()) for model in models]
    return torch.stack([*sums, torch.tensor(float(noise_video(21, 40, 56).sum()), dtype=torch.float64)])


def computed():
    """Everything that is stored, by name."""
    numbers = {f"pipeline.{name}": pipeline_latents(name) for name in PIPELINES}
    numbers |= {f"training.{name}": training_numbers(name) for name in TRAININGS}
    return {"random_numbers": random_numbers(), **numbers}


if __name__ == "__main__":
    numbers = {name: tensor.detach().contiguous() for name, tensor in computed().items()}
    save_file(numbers, FILE)
    print(f"{FILE}: {len(numbers)} tensors, {FILE.stat().st_size / 1024:.0f} KiB")
    assert all(np.isfinite(tensor.numpy()).all() for tensor in numbers.values())
