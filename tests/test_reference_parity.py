"""Outputs of the public release on tiny random weights, compared tensor by tensor (float32, CPU).

Reads the folder VIDEOPAINTER_REFERENCE (default ../shared/reference, beside the checkout).
"""

import json
import os
from pathlib import Path

import pytest
import torch
from conftest import make_scheduler
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file

from videopainter import CogvideoXBranchModel, VideoPainterPipeline, VideoPainterTransformer3DModel
from videopainter.data.training.sample_order import SampleKey
from videopainter.models.backbones.cogvideox.adapter import rotary_tables
from videopainter.models.backbones.cogvideox.facts import CogVideoXFacts
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.id_adapter import IDAdapter
from videopainter.models.id_resample import ClipMemory, HoleTokens, IDResample, token_mask
from videopainter.training.encoding import EncodedBatch
from videopainter.training.model import InpaintingModel, freeze_all_but_branch
from videopainter.training.objective import Objective
from videopainter.training.options import ConditionOptions

FOLDER = Path(os.environ.get("VIDEOPAINTER_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
pytestmark = pytest.mark.skipif(
    not (FOLDER / "golden.safetensors").exists(),
    reason=f"no reference outputs at {FOLDER} (set VIDEOPAINTER_REFERENCE)",
)
MODEL_TOLERANCE, PIPELINE_TOLERANCE = 1e-5, 1e-4


@pytest.fixture(scope="module")
def golden():
    return load_file(FOLDER / "golden.safetensors")


@pytest.fixture(scope="module")
def inputs(golden):
    return {name.removeprefix("in."): tensor for name, tensor in golden.items() if name.startswith("in.")}


def backbone(folder="transformer"):
    return VideoPainterTransformer3DModel.from_pretrained(FOLDER / folder).eval()


@pytest.fixture(scope="module")
def transformer():
    return backbone()


@pytest.fixture(scope="module")
def branch():
    return CogvideoXBranchModel.from_pretrained(FOLDER / "branch").eval()


@pytest.fixture(scope="module")
def features(branch, inputs):
    with torch.no_grad():
        cond = torch.cat([inputs["cond"], inputs["mask"]], dim=2)
        return branch(inputs["lat"], inputs["txt"], cond, inputs["t"], image_rotary_emb=rope(inputs))


def rope(inputs):
    return inputs["rope_cos"], inputs["rope_sin"]


def run(model, inputs, latents="lat", **options):
    with torch.no_grad():
        hidden = torch.cat([inputs[latents], inputs["img"]], dim=2)
        return model(hidden, inputs["txt"], inputs["t"], image_rotary_emb=rope(inputs), return_dict=False, **options)[0]


def close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


# Weights


@pytest.mark.parametrize(
    ("folder", "cls"), [("transformer", VideoPainterTransformer3DModel), ("branch", CogvideoXBranchModel)]
)
def test_weights_load_strictly_and_save_the_same(folder, cls, tmp_path):
    model, info = cls.from_pretrained(FOLDER / folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    model.save_pretrained(tmp_path)
    published = load_file(FOLDER / folder / "diffusion_pytorch_model.safetensors")
    saved = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert saved.keys() == published.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in published.items())


def test_branch_made_from_a_backbone():
    source = backbone("transformer_src")
    before = dict(source.config)
    made = CogvideoXBranchModel.from_transformer(source, num_layers=2)
    state, expected = made.state_dict(), load_file(FOLDER / "from_transformer.safetensors")
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    for index in range(2):
        copied = made.transformer_blocks[index].state_dict()
        for name, tensor in source.transformer_blocks[index].state_dict().items():
            assert torch.equal(copied[name], tensor), name
    assert torch.equal(state["patch_embed.text_proj.weight"], source.patch_embed.text_proj.weight)
    assert dict(source.config) == before


# Models


def test_rotary_tables(transformer, inputs):
    height, width = inputs["lat"].shape[-2:]
    for made, expected in zip(
        rotary_tables(CogVideoXFacts(transformer.config), height, width, inputs["lat"].shape[1]), rope(inputs)
    ):
        close(made, expected, MODEL_TOLERANCE)


def test_rotary_tables_of_other_sizes(transformer):
    """Sizes whose crop does not start at 0: bit for bit."""
    tables = load_file(FOLDER / "rotary.safetensors")
    names = sorted({name.rpartition(".")[0] for name in tables})
    assert len(names) >= 3
    for name in names:
        height, width, frames = map(int, name.removeprefix("rotary.").split("x"))
        facts = CogVideoXFacts({**transformer.config, "attention_head_dim": tables[f"{name}.cos"].shape[1]})
        cos, sin = rotary_tables(facts, height // 8, width // 8, frames)
        assert torch.equal(cos, tables[f"{name}.cos"]), name
        assert torch.equal(sin, tables[f"{name}.sin"]), name


def test_branch_features(features, golden):
    assert len(features) == 2
    for index, feature in enumerate(features):
        close(feature, golden[f"branch.{index}"], MODEL_TOLERANCE)


@pytest.mark.parametrize("name", ["plain", "branch_nomask", "branch_mask", "branch_addfirst"])
def test_backbone(name, transformer, inputs, features, golden):
    background = ~token_mask(inputs["mask"], transformer.config.patch_size)
    options = {
        "plain": {},
        "branch_nomask": {"branch_features": features},
        "branch_mask": {"branch_features": features, "background_mask": background},
        "branch_addfirst": {"branch_features": features, "background_mask": background, "add_first": True},
    }[name]
    close(run(transformer, inputs, **options), golden[f"tr.{name}"], MODEL_TOLERANCE)


@pytest.fixture(scope="module")
def id_transformer():
    model = backbone()
    adapter = IDAdapter.load(FOLDER / "id_adapter", model)
    assert adapter == IDAdapter(form="exact", rank=8, alpha=8.0)  # no alpha in the file: scale 1, as published
    return model


@pytest.mark.parametrize(("name", "scale"), [("train_scale", 0.5), ("file_scale", 1.0)])
def test_id_resampling(name, scale, id_transformer, inputs, features, golden):
    hole = token_mask(inputs["mask"], 2)
    resample = IDResample(HoleTokens.from_mask(hole), remember=True)
    options = {"branch_features": features, "background_mask": ~hole, "attention_kwargs": {"scale": scale}}
    output = run(id_transformer, inputs, id_resample=resample, **options)
    close(output, golden[f"id.{name}.out"], MODEL_TOLERANCE)
    if name == "train_scale":
        expected = published_memory(inputs, golden)
        memory = resample.finished_memory()
        assert torch.equal(memory.hole.index, expected.hole.index)
        for made, published in zip(memory.hidden, expected.hidden, strict=True):
            close(made, published, MODEL_TOLERANCE)


def published_memory(inputs, golden):
    text_length = inputs["txt"].shape[1]
    hidden = [golden[f"id.prev_hidden.{i}"] for i in range(5)]
    hole = HoleTokens.from_mask(golden["id.prev_mask"][:, text_length:].bool())
    return ClipMemory(hole, [hole.gather(h[:, text_length:]) for h in hidden])


def test_next_clip_with_memory(id_transformer, inputs, features, golden):
    hole = token_mask(inputs["mask"], 2)
    memory = published_memory(inputs, golden)
    resample = IDResample(HoleTokens.from_mask(hole), previous=memory, prev_clip_weight=0.5)
    # The reference reuses the first clip's branch features.
    options = {"branch_features": features, "background_mask": ~hole, "attention_kwargs": {"scale": 0.5}}
    output = run(id_transformer, inputs, latents="lat2", id_resample=resample, **options)
    close(output, golden["id.train_scale.prev"], MODEL_TOLERANCE)


# Pipelines

PIPELINES = {
    "single": {"overlap_frames": 0},
    "single_noreplace": {"replace_gt": False},
    "single_static_cfg": {"use_dynamic_cfg": False},
    "overlap": {"overlap_frames": 5},
    "id_overlap": {"overlap_frames": 5, "prev_clip_weight": 0.5},
}


def make_pipeline(branch, transformer):
    scheduler = make_scheduler("ddim")
    vae = AutoencoderKLCogVideoX.from_pretrained(FOLDER / "vae").eval()
    pipe = VideoPainterPipeline(None, None, vae, transformer, scheduler, branch)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", PIPELINES)
def test_pipeline(name, branch, golden):
    meta = json.loads((FOLDER / "meta.json").read_text())
    pipe = make_pipeline(branch, backbone())
    if name.startswith("id_"):
        pipe.load_id_adapter(FOLDER / "id_adapter")
    prefix = f"pipe.{name}."
    parts = {key.removeprefix(prefix): tensor for key, tensor in golden.items() if key.startswith(prefix)}
    video = parts["video"].numpy()
    noise = [parts[f"noise.{i}"] for i in range(sum(key.startswith("noise.") for key in parts))]
    result = pipe(
        video=video,
        masks=parts["mask"].numpy(),
        image=video[0],
        prompt_embeds=parts["prompt_embeds"],
        negative_prompt_embeds=parts["negative_prompt_embeds"],
        latents=noise,
        height=meta["height"],
        width=meta["width"],
        num_frames=meta["num_frames"],
        num_inference_steps=3,
        blend="average",
        kept_latents="nearest",
        output_type="latent",
        **PIPELINES[name],
    ).frames[0]
    close(result, parts["latents"], PIPELINE_TOLERANCE)


# Training objective


def test_training_objective_and_its_gradients(inputs, golden):
    from diffusers import CogVideoXDPMScheduler

    model = InpaintingModel(backbone(), CogvideoXBranchModel.from_pretrained(FOLDER / "branch"), mask_add=True)
    freeze_all_but_branch(model)
    scheduler = CogVideoXDPMScheduler.from_config(make_scheduler().config)
    objective = Objective(backbone_of(model.transformer), scheduler, ConditionOptions())
    batch = EncodedBatch(
        keys=[SampleKey(0, 0, False), SampleKey(0, 1, False)],
        latents=inputs["lat"],
        masked_latents=inputs["cond"],
        mask=inputs["mask"],
        first_latent=inputs["img"],  # the reference's is not zero behind the first frame
        prompt_embeds=inputs["txt"],
    )
    losses = objective.loss(model, batch, golden["train.noise"], golden["train.timesteps"].long())
    close(losses.full, golden["train.loss_full"].reshape(()), MODEL_TOLERANCE)
    close(losses.masked, golden["train.loss_masked"].reshape(()), MODEL_TOLERANCE)
    objective.total(losses).backward()
    gradients = {name: p.grad for name, p in model.branch.named_parameters()}
    checked = [name for name in golden if name.startswith("train.grad.")]
    assert len(checked) == 4
    for name in checked:
        close(gradients[name.removeprefix("train.grad.")], golden[name], MODEL_TOLERANCE)
