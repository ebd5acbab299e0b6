"""Wan backbone whose blocks accept features of a context encoder and ID-resample tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import ModelMixin  # noqa: F401 - upstream's pipeline loader looks for it beside a saved class
from diffusers.configuration_utils import register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel, WanTransformerBlock
from diffusers.utils.peft_utils import apply_lora_scale

from videopainter.models.backbones.wan_video.attention import ImageAndTextProcessor, ResamplingWanProcessor
from videopainter.models.features import StepCaches, call_block, spread_features
from videopainter.models.id_resample import IDResample, ResampleTokens
from videopainter.models.token_share import TokenShare


class VideoPainterWanBlock(WanTransformerBlock):
    """A Wan block that adds a branch feature to its video tokens; inside it, as caches and offloading need."""

    def forward(
        self,
        hidden_states: torch.Tensor,  # (B, L, D) video tokens
        encoder_hidden_states: Any,  # (B, S, D) text tokens; or image tokens (B, N, D) and they
        temb: torch.Tensor,  # (B, 6, D), or of every token (B, L, 6, D)
        rotary_emb: tuple[torch.Tensor, torch.Tensor],  # cos, sin (1, L, 1, D / heads)
        branch_feature: torch.Tensor | None = None,  # (B, L, D), zero where nothing is added
        resample: ResampleTokens | None = None,
    ) -> torch.Tensor:
        places: tuple[Any, ...] = rotary_emb
        if resample is not None:  # upstream's block hands its attention nothing else
            places = (*rotary_emb, self._normalised(resample, temb))
        hidden_states = super().forward(hidden_states, encoder_hidden_states, temb, places)
        return hidden_states if branch_feature is None else hidden_states + branch_feature

    def _normalised(self, resample: ResampleTokens, temb: torch.Tensor) -> ResampleTokens:
        """The previous clip's tokens pass the block's first norm, with the current time embedding."""
        if resample.tokens is None:
            return resample
        if temb.ndim == 4:  # the times of the hole's own places
            temb = torch.take_along_dim(temb[:, :, :2], resample.index.to(temb.device)[..., None, None], dim=1)
            shift, scale = (self.scale_shift_table[:, None, :2] + temb.float()).unbind(dim=2)
        else:
            shift, scale = (self.scale_shift_table + temb.float())[:, :2].chunk(2, dim=1)
        normed = self.norm1(resample.tokens.float()) * (1 + scale) + shift
        return replace(resample, tokens=normed.type_as(resample.tokens))


TransformerBlockRegistry.register(
    VideoPainterWanBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)


def make_wan_blocks(config: Mapping[str, Any], num_layers: int) -> torch.nn.ModuleList:
    """Blocks for a Wan config, with our attention processor where video tokens meet each other."""
    blocks = []
    for _ in range(num_layers):
        block = VideoPainterWanBlock(
            config["num_attention_heads"] * config["attention_head_dim"],
            config["ffn_dim"],
            config["num_attention_heads"],
            config["qk_norm"],
            config["cross_attn_norm"],
            config["eps"],
            config.get("added_kv_proj_dim"),
        )
        block.attn1.set_processor(ResamplingWanProcessor())
        if config.get("added_kv_proj_dim") is not None:
            block.attn2.set_processor(ImageAndTextProcessor())
        blocks.append(block)
    return torch.nn.ModuleList(blocks)


def embed(
    model: Any,
    latents: torch.Tensor,  # (B, C, T, h, w)
    text: torch.Tensor,  # (B, S, E)
    timestep: torch.Tensor,  # (B,), or of every token (B, L)
    rotary: tuple[torch.Tensor, torch.Tensor] | None = None,  # None: the model's own
    image: torch.Tensor | None = None,  # (B, N, E) of the image encoder; I2V backbones
) -> tuple[torch.Tensor, Any, torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """What a Wan model's blocks begin with.

    Returns:
        Video tokens (B, L, D), text tokens (B, S, D) or a tuple of image tokens (B, N, D) and those, the time embedding
        (B, D), its modulation (B, 6, D), both with (B, L, ...) of as many times, and rotary tables (1, L, 1, head).
    """
    if rotary is None:
        rotary = model.rope(latents)
    assert rotary is not None
    tokens = model.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    count = timestep.shape[1] if timestep.ndim == 2 else None
    time, modulation, text, image = model.condition_embedder(timestep.flatten(), text, image, timestep_seq_len=count)
    words = text if image is None else (image, text)
    return tokens, words, time, modulation.unflatten(-1, (6, -1)), rotary


class VideoPainterWanTransformer3DModel(StepCaches, WanTransformer3DModel):
    """Wan transformer that takes a context encoder's features. Weights, config and keys are upstream's."""

    _repeated_blocks = ["VideoPainterWanBlock"]
    _no_split_modules = ["VideoPainterWanBlock"]
    _cp_plan: ClassVar[dict] = {}  # see `token_share`
    taylor_modules = (r"blocks\.\d+\.(attn1|attn2|ffn)",)

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
    ):
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        # Upstream builds everything but the blocks; ours replace its own, so it is asked for none.
        super().__init__(**{**options, "num_layers": 0})
        self.register_to_config(**options)
        self.blocks = make_wan_blocks(options, num_layers)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_hidden_states_image: torch.Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        *,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        branch_features: Sequence[torch.Tensor] | None = None,
        background_mask: torch.Tensor | None = None,
        add_first: bool = False,
        id_resample: IDResample | None = None,
    ) -> tuple[torch.Tensor] | Transformer2DModelOutput:
        """Predict the model output (velocity, noise − clean) of noisy latents.

        Args:
            hidden_states: (B, in_channels, T, h, w).
            timestep: (B,), 1000·σ; or of every token (B, L), 0 at an image's.
            encoder_hidden_states: (B, S, text_dim).
            encoder_hidden_states_image: (B, N, image_dim), of backbones that see images; None: text alone.
            rotary_emb: cos and sin, each (1, L, 1, attention_head_dim), in float32. None: from the model's own buffers,
                which lose their last digits where a model is cast as a whole.
            branch_features: The context encoder's features, each (B, L, D). After block i of N the feature
                i // ceil(N / n) is added to the video tokens.
            background_mask: Boolean (B, L); features are added where True only (`mask_add`). None: everywhere.
            add_first: Add feature i after block i, for the first n blocks only.
            id_resample: Second set of keys and values, and what the clip hands on.

        Returns:
            (B, out_channels, T, h, w).
        """
        # 1. Tokens, text, time
        tokens, text, time, modulation, rotary = embed(
            self, hidden_states, encoder_hidden_states, timestep, rotary_emb, encoder_hidden_states_image
        )
        share, num_tokens = TokenShare.of(self), tokens.shape[1]
        if share is not None:  # features are parts already; every process has the whole text
            (tokens,) = share.split(tokens, uneven=id_resample is not None)
            rotary = share.part(rotary[0]), share.part(rotary[1])
            background_mask = None if background_mask is None else share.part(background_mask)
            if timestep.ndim == 2:
                time, modulation = share.part(time), share.part(modulation)

        # 2. Blocks
        features = spread_features(branch_features, background_mask, len(self.blocks), add_first)
        checkpointing = torch.is_grad_enabled() and self.gradient_checkpointing
        run = self._gradient_checkpointing_func if checkpointing else call_block
        for index, (block, feature) in enumerate(zip(self.blocks, features, strict=True)):
            resample = id_resample.for_block(index) if id_resample is not None else None
            tokens = run(block, tokens, text, modulation, rotary, feature, resample)
            if id_resample is not None:
                id_resample.keep(tokens)

        # 3. Output
        # (B, 1, D), or of every token (B, L, D)
        time = time[:, None] if time.ndim == 2 else time
        shift, scale = (self.scale_shift_table.to(time.device)[:, None] + time[:, :, None]).unbind(dim=2)
        tokens = self.proj_out((self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens))
        if share is not None:
            tokens = share.whole(tokens, share.lengths(num_tokens))
        sample = _unpatchify(tokens, hidden_states.shape[2:], self.config.patch_size)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)


def _unpatchify(tokens: torch.Tensor, size: Sequence[int], patch: Sequence[int]) -> torch.Tensor:
    """Tokens (B, L, p_t·p·p·C) back to latents (B, C, T, h, w) of a size (T, h, w)."""
    grid = [whole // part for whole, part in zip(size, patch, strict=True)]
    patches = tokens.unflatten(1, grid).unflatten(-1, (*patch, -1))  # (B, T, h, w, p_t, p, p, C)
    return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
