"""Models: parity with upstream, ID-resample forms, and upstream's features on our classes."""

import copy

import pytest
import torch
from conftest import TEXT_DIM, TEXT_LENGTH, make_branch, make_transformer
from diffusers import CogVideoXTransformer3DModel

from videopainter import CogvideoXBranchModel
from videopainter.models.attention import _plain_attention
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.id_adapter import IDAdapter
from videopainter.models.id_resample import ClipMemory, HoleTokens, IDResample, token_mask

KINDS = {
    "i2v": {},
    "t2v": {"in_channels": 16},
    "learned": {"use_learned_positional_embeddings": True},
    "sincos": {"use_rotary_positional_embeddings": False},
    "v1.5": {"patch_size_t": 2, "ofs_embed_dim": 16, "sample_frames": 13},
}


def inputs_for(model, frames=4, height=4, width=6, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    return {
        "hidden_states": torch.randn(batch, frames, config.in_channels, height, width, generator=generator),
        "encoder_hidden_states": torch.randn(batch, TEXT_LENGTH, TEXT_DIM, generator=generator),
        "timestep": torch.tensor([700, 30])[:batch],
        "image_rotary_emb": backbone_of(model).positions(torch.empty(1, frames, 16, height, width)),
        "ofs": torch.full((1,), 2.0) if config.ofs_embed_dim else None,
        "return_dict": False,
    }


def hole_mask(frames=4, height=4, width=6, batch=2):
    """Latent masks (B, T, 1, H, W); the second sample's hole is larger."""
    mask = torch.zeros(batch, frames, 1, height, width)
    mask[:, :, :, 1:3, 2:4] = 1
    if batch > 1:
        mask[1, :, :, :, 4:] = 1
    return mask


@torch.no_grad()
def run(model, inputs, **options):
    return model(**inputs, **options)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_upstream_and_shares_its_files(kind, tmp_path):
    ours = make_transformer(sample_frames=13, **{k: v for k, v in KINDS[kind].items() if k != "sample_frames"})
    ours.save_pretrained(tmp_path)
    upstream = CogVideoXTransformer3DModel.from_pretrained(tmp_path).eval()
    inputs = inputs_for(ours)
    torch.testing.assert_close(run(ours, inputs), run(upstream, inputs), atol=2e-6, rtol=1e-5)


def test_learned_positions_follow_the_size():
    model = make_transformer(use_learned_positional_embeddings=True, sample_frames=13)
    embed = model.patch_embed
    table = embed.pos_embedding[:, TEXT_LENGTH:].view(4, 2, 3, -1)
    fewer = embed._learned_positions(torch.zeros(1, 2, 32, 4, 6))
    assert torch.equal(fewer, table[:2].reshape(1, 12, -1))
    constant = copy.deepcopy(embed)
    constant.pos_embedding[:, TEXT_LENGTH:] = 3.0
    assert torch.allclose(constant._learned_positions(torch.zeros(1, 6, 32, 8, 10)), torch.tensor(3.0))


def test_branch_starts_without_effect_and_leaves_the_backbone_alone():
    model = make_transformer()
    before = copy.deepcopy(model.state_dict())
    branch = CogvideoXBranchModel.from_transformer(model, num_layers=2).eval()
    inputs = inputs_for(model)
    cond = torch.randn(2, 4, 17, 4, 6)
    features = branch(inputs["hidden_states"][:, :, :16], inputs["encoder_hidden_states"], cond, inputs["timestep"])
    assert all(not feature.any() for feature in features)
    assert torch.equal(run(model, inputs), run(model, inputs, branch_features=features))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    with pytest.raises(ValueError, match=r"expected 1\.\.3 layers"):
        CogvideoXBranchModel.from_transformer(model, num_layers=4)


@pytest.mark.parametrize("kind", KINDS)
def test_branch_of_every_backbone(kind):
    model = make_transformer(**KINDS[kind])
    branch = make_branch(model)
    inputs = inputs_for(model)
    common = {name: inputs[name] for name in ("timestep", "image_rotary_emb", "ofs")}
    latents = inputs["hidden_states"][:, :, :16]
    cond = torch.randn(2, 4, 17, 4, 6)
    features = branch(latents, inputs["encoder_hidden_states"], cond, **common)
    tokens = token_mask(hole_mask(), 2, model.config.patch_size_t).shape[1]
    assert [tuple(feature.shape) for feature in features] == [(2, tokens, 32)] * 2
    doubled = branch(latents, inputs["encoder_hidden_states"], cond, conditioning_scale=2.0, **common)
    torch.testing.assert_close(doubled[1], 2 * features[1])
    assert not torch.equal(run(model, inputs), run(model, inputs, branch_features=features))


def test_features_reach_the_tokens_they_should():
    """With blocks that pass their input on, the sum of what was added is all that changes."""
    model = make_transformer(num_layers=5)
    added = []
    for block in model.transformer_blocks:
        block.forward = lambda h, e, temb, rope, kwargs, feature, resample: (added.append(feature), (h, e))[1]
    inputs, hole = inputs_for(model), token_mask(hole_mask(), 2)
    features = [torch.full((2, 24, 32), 1.0), torch.full((2, 24, 32), 2.0)]
    run(model, inputs, branch_features=features, background_mask=~hole)
    assert [float(feature.max()) for feature in added] == [1, 1, 1, 2, 2]
    assert all(not feature[hole].any() and bool((feature[~hole] > 0).all()) for feature in added)
    added.clear()
    run(model, inputs, branch_features=features, add_first=True)
    assert [None if feature is None else float(feature.max()) for feature in added] == [1, 2, None, None, None]
    with pytest.raises(ValueError, match="at most 5"):
        run(model, inputs, branch_features=features * 3)


def test_wo_text_branch_ignores_the_prompt():
    model = make_transformer()
    branch = make_branch(model, wo_text=True)
    inputs = inputs_for(model)
    latents, cond = inputs["hidden_states"][:, :, :16], torch.zeros(2, 4, 17, 4, 6)
    rope = inputs["image_rotary_emb"]
    one = branch(latents, inputs["encoder_hidden_states"], cond, inputs["timestep"], image_rotary_emb=rope)
    other = branch(latents, inputs["encoder_hidden_states"] * 3, cond, inputs["timestep"], image_rotary_emb=rope)
    assert torch.equal(one[1], other[1])


# ID resampling


def attention_by_hand(model, inputs, hole, form):
    """The first block's attention written out with explicit loops over the definition."""
    block = model.transformer_blocks[0]
    temb = model.time_embedding(model.time_proj(inputs["timestep"]))
    tokens = model.patch_embed(inputs["encoder_hidden_states"], inputs["hidden_states"])
    video, text, *_ = block.norm1(tokens[:, TEXT_LENGTH:], tokens[:, :TEXT_LENGTH], temb)
    x = torch.cat([text, video], dim=1)
    mask = torch.cat([torch.zeros(2, TEXT_LENGTH, dtype=torch.bool), hole], dim=1)
    attn, (cos, sin) = block.attn1, inputs["image_rotary_emb"]

    def heads(y):
        return y.unflatten(2, (attn.heads, -1)).transpose(1, 2)

    def rotate(y):
        from diffusers.models.embeddings import apply_rotary_emb

        return torch.cat([y[:, :, :TEXT_LENGTH], apply_rotary_emb(y[:, :, TEXT_LENGTH:], (cos, sin))], dim=2)

    q, k, v = rotate(attn.norm_q(heads(attn.to_q(x)))), rotate(attn.norm_k(heads(attn.to_k(x)))), heads(attn.to_v(x))
    k2 = rotate(attn.norm_k(heads(attn.to_k(x) * mask[..., None])))
    v2 = heads(attn.to_v(x) * mask[..., None])
    logits = q @ torch.cat([k, k2], dim=2).transpose(2, 3) / q.shape[-1] ** 0.5
    if form == "compact":
        seen = torch.cat([torch.ones_like(mask), mask], dim=1)
        logits = logits.masked_fill(~seen[:, None, None], float("-inf"))
    out = logits.softmax(-1) @ torch.cat([v, v2], dim=2)
    return attn.to_out[0](out.transpose(1, 2).flatten(2)), (video, text)


@pytest.mark.parametrize("form", ["exact", "compact"])
@torch.no_grad()
def test_second_set_against_the_definition(form):
    model = make_transformer()
    for block in model.transformer_blocks:  # as after training: a key norm whose zero is not zero
        torch.nn.init.normal_(block.attn1.norm_k.bias, std=0.5)
    inputs, hole = inputs_for(model), token_mask(hole_mask(), 2)
    assert hole[0].sum() != hole[1].sum()
    expected, (video, text) = attention_by_hand(model, inputs, hole, form)
    resample = IDResample(HoleTokens.from_mask(hole), form).for_block(0)
    attn = model.transformer_blocks[0].attn1
    made = attn(video, text, image_rotary_emb=inputs["image_rotary_emb"], resample=resample)
    torch.testing.assert_close(torch.cat([made[1], made[0]], dim=1), expected, atol=1e-5, rtol=1e-5)


def test_memory_holds_hole_tokens_only_and_round_trips():
    full = [torch.randn(2, 24, 32) for _ in range(3)]
    hole = token_mask(hole_mask(), 2)
    tokens = HoleTokens.from_mask(hole)
    memory = ClipMemory(tokens, [tokens.gather(hidden) for hidden in full])
    assert memory.hidden[0].shape[1] == int(hole.sum(1).max())
    for gathered, original in zip(memory.hidden, full):
        back = memory.hole.scatter(gathered, 24)
        assert torch.equal(back, original * hole[..., None])


def test_remembering_keeps_every_block_once():
    model = make_transformer()
    inputs, hole = inputs_for(model), HoleTokens.from_mask(token_mask(hole_mask(), 2))
    quiet = IDResample(hole)
    run(model, inputs, id_resample=quiet)
    assert quiet.memory == []
    loud = IDResample(hole, remember=True)
    run(model, inputs, id_resample=loud)
    assert [tuple(h.shape) for h in loud.finished_memory().hidden] == [(2, hole.index.shape[1], 32)] * 3


def test_unknown_form():
    with pytest.raises(ValueError, match="exact, compact"):
        IDResample(HoleTokens.from_mask(token_mask(hole_mask(), 2)), "sparse")


def test_adapter_stores_how_it_was_trained(tmp_path):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    adapter = IDAdapter(form="compact", rank=4, alpha=2.0, hole_fill=-1.0)
    trained = make_transformer()
    trained.add_adapter(LoraConfig(**adapter.lora_config(), init_lora_weights=False))
    adapter.save(tmp_path, get_peft_model_state_dict(trained))
    assert IDAdapter.read(tmp_path) == adapter

    inputs = inputs_for(trained)
    loaded = make_transformer()
    assert IDAdapter.load(tmp_path, loaded) == adapter
    torch.testing.assert_close(run(loaded, inputs), run(trained, inputs))
    # Upstream's own loader finds alpha in the file, too.
    upstream = make_transformer()
    upstream.load_lora_adapter(str(tmp_path), weight_name="pytorch_lora_weights.safetensors", prefix="transformer")
    torch.testing.assert_close(run(upstream, inputs), run(trained, inputs))
    assert not torch.allclose(run(make_transformer(), inputs), run(trained, inputs), atol=1e-4)


# Upstream's features


def features_for(model, inputs):
    branch = make_branch(model)
    cond = torch.randn(2, 4, 17, 4, 6, generator=torch.Generator().manual_seed(5))
    common = {name: inputs[name] for name in ("timestep", "image_rotary_emb", "ofs")}
    hidden = inputs["hidden_states"][:, :, :16]
    return [feature.detach() for feature in branch(hidden, inputs["encoder_hidden_states"], cond, **common)]


def full_options(model, inputs):
    hole = token_mask(hole_mask(), 2)
    return {
        "branch_features": features_for(model, inputs),
        "background_mask": ~hole,
        "id_resample": IDResample(HoleTokens.from_mask(hole)),
    }


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = make_transformer().train()
        inputs = inputs_for(model)
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**inputs, **full_options(model, inputs))[0].square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for plain, checkpointed in zip(*gradients):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize("backend", ["_native_math", "native", "flex"])
def test_attention_backends(backend):
    model = make_transformer()
    inputs = inputs_for(model)
    options = full_options(model, inputs)
    options["id_resample"] = None
    expected = run(model, inputs, **options)
    seen = {block.attn1.processor._attention_backend for block in model.transformer_blocks}
    model.set_attention_backend(backend)
    assert {block.attn1.processor._attention_backend for block in model.transformer_blocks} != seen
    try:
        torch.testing.assert_close(run(model, inputs, **options), expected, atol=1e-5, rtol=1e-4)
    finally:
        model.set_attention_backend("native")


def test_fused_projections_keep_id_resampling():
    model = make_transformer()
    inputs = inputs_for(model)
    options = full_options(model, inputs)
    expected = run(model, inputs, **options)
    model.fuse_qkv_projections()
    torch.testing.assert_close(run(model, inputs, **options), expected, atol=1e-5, rtol=1e-4)


def test_regional_compile():
    model = make_transformer()
    inputs = inputs_for(model)
    options = full_options(model, inputs)
    expected = run(model, inputs, **options)
    model.compile_repeated_blocks(backend="eager", fullgraph=True)
    torch.testing.assert_close(run(model, inputs, **options), expected)


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_group_offloading(level):
    from diffusers.hooks import apply_group_offloading

    model = make_transformer()
    inputs = inputs_for(model)
    options = full_options(model, inputs)
    expected = run(model, inputs, **options)
    cpu = torch.device("cpu")
    blocks = {"num_blocks_per_group": 1} if level == "block_level" else {}
    apply_group_offloading(model, onload_device=cpu, offload_device=cpu, offload_type=level, **blocks)
    torch.testing.assert_close(run(model, inputs, **options), expected)


def test_layerwise_casting():
    model = make_transformer()
    inputs = inputs_for(model)
    options = full_options(model, inputs)
    expected = run(model, inputs, **options)
    model.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    assert model.transformer_blocks[0].ff.net[2].weight.dtype == torch.bfloat16
    assert model.patch_embed.proj.weight.dtype == torch.float32
    difference = (run(model, inputs, **options) - expected).abs().mean() / expected.abs().mean()
    assert 0 < difference < 0.05


def test_first_block_cache_sees_blocks_as_units():
    from diffusers import FirstBlockCacheConfig

    model = make_transformer()
    inputs = inputs_for(model)
    options = full_options(model, inputs)
    calls = []
    for block in model.transformer_blocks:
        block.ff.register_forward_hook(lambda *_: calls.append(1))
    model.enable_cache(FirstBlockCacheConfig(threshold=1e6))
    with model.cache_context("cond_uncond"):
        first = run(model, inputs, **options)
        second = run(model, inputs, **options)
    assert len(calls) == 3 + 1  # the second pass runs the first block only
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_written_out_is_torchs(masked):
    """What a CPU trains with in half precision, against torch's kernel, value and gradients."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 7, 3, 8, generator=generator, requires_grad=True) for _ in range(3))
    mask = torch.rand(2, 1, 1, 7, generator=generator) < 0.7 if masked else None
    ours = _plain_attention(query, key, value, mask)
    swapped = [x.transpose(1, 2) for x in (query, key, value)]
    torchs = torch.nn.functional.scaled_dot_product_attention(*swapped, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(ours, torchs)
    weight = torch.randn(ours.shape, generator=generator)
    for a, b in zip(*(torch.autograd.grad((x * weight).sum(), (query, key, value)) for x in (ours, torchs))):
        torch.testing.assert_close(a, b)
