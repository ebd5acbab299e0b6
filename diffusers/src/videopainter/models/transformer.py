"""CogVideoX backbone whose blocks accept features of a context encoder and ID-resample tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import ModelMixin  # noqa: F401 - upstream's pipeline loader looks for it beside a saved class
from diffusers.configuration_utils import register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock, CogVideoXTransformer3DModel
from diffusers.utils.peft_utils import apply_lora_scale

from videopainter.models.attention import VideoPainterAttnProcessor
from videopainter.models.features import StepCaches, call_block, spread_features
from videopainter.models.id_resample import IDResample, ResampleTokens
from videopainter.models.patch_embed import replace_patch_embed
from videopainter.models.token_share import TokenShare


class VideoPainterBlock(CogVideoXBlock):
    """A CogVideoX block that adds a branch feature to its video tokens, inside the block.

    Inside, so that upstream's hooks that wrap or skip blocks (caches, offloading, compile) see one unit.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,  # (B, L, D) video tokens
        encoder_hidden_states: torch.Tensor,  # (B, S, D) text tokens
        temb: torch.Tensor,  # (B, E)
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        branch_feature: torch.Tensor | None = None,  # (B, L, D), zero where nothing is added
        resample: ResampleTokens | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if resample is not None:
            resample = resample.normalised(self.norm1, temb)
            attention_kwargs = {**(attention_kwargs or {}), "resample": resample}
        hidden_states, encoder_hidden_states = super().forward(
            hidden_states, encoder_hidden_states, temb, image_rotary_emb, attention_kwargs
        )
        if branch_feature is not None:
            hidden_states = hidden_states + branch_feature
        return hidden_states, encoder_hidden_states


TransformerBlockRegistry.register(
    VideoPainterBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1),
)


def make_blocks(config: Any) -> torch.nn.ModuleList:
    """`config.num_layers` blocks for a CogVideoX config, with our attention processor."""
    blocks = []
    for _ in range(config.num_layers):
        block = VideoPainterBlock(
            dim=config.num_attention_heads * config.attention_head_dim,
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            time_embed_dim=config.time_embed_dim,
            dropout=config.dropout,
            activation_fn=config.activation_fn,
            attention_bias=config.attention_bias,
            norm_elementwise_affine=config.norm_elementwise_affine,
            norm_eps=config.norm_eps,
        )
        block.attn1.set_processor(VideoPainterAttnProcessor())
        blocks.append(block)
    return torch.nn.ModuleList(blocks)


class VideoPainterTransformer3DModel(StepCaches, CogVideoXTransformer3DModel):
    """CogVideoX transformer that takes a context encoder's features. Weights, config and keys are upstream's.

    Works for image-to-video (32 input channels) and text-to-video (16) backbones, learned or rotary positions, and
    CogVideoX 1.5 (`patch_size_t`, `ofs`).
    """

    _repeated_blocks = ["VideoPainterBlock"]
    _no_split_modules = ["VideoPainterBlock", "VideoPainterPatchEmbed"]
    _cp_plan: ClassVar[dict] = {}  # see `token_share`
    taylor_modules = (r"transformer_blocks\.\d+\.(attn1|ff)",)

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 30,
        attention_head_dim: int = 64,
        in_channels: int = 16,
        out_channels: int | None = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        ofs_embed_dim: int | None = None,
        text_embed_dim: int = 4096,
        num_layers: int = 30,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        patch_size_t: int | None = None,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        use_rotary_positional_embeddings: bool = False,
        use_learned_positional_embeddings: bool = False,
        patch_bias: bool = True,
    ):
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        # Upstream builds everything but the blocks; ours replace its own, so it is asked for none.
        super().__init__(**{**options, "num_layers": 0})
        self.register_to_config(**options)
        self.transformer_blocks = make_blocks(self.config)
        replace_patch_embed(self, in_channels=in_channels)

    def fuse_qkv_projections(self) -> None:
        """One projection for query, key and value. Our processor runs both forms, so it stays in place."""
        for block in self.transformer_blocks:
            block.attn1.fuse_projections(fuse=True)

    def unfuse_qkv_projections(self) -> None:
        for block in self.transformer_blocks:
            block.attn1.fuse_projections(fuse=False)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep: int | float | torch.LongTensor,
        timestep_cond: torch.Tensor | None = None,
        ofs: int | float | torch.LongTensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
        *,
        branch_features: Sequence[torch.Tensor] | None = None,
        background_mask: torch.Tensor | None = None,
        add_first: bool = False,
        id_resample: IDResample | None = None,
    ) -> tuple[torch.Tensor] | Transformer2DModelOutput:
        """Predict the model output (velocity) of noisy latents.

        Args:
            hidden_states: (B, T, in_channels, H, W): noisy latents, followed by image latents for I2V backbones.
            encoder_hidden_states: (B, S, text_embed_dim).
            timestep: (B,).
            image_rotary_emb: cos and sin, each (L, attention_head_dim).
            branch_features: The context encoder's features, each (B, L, D). After block i of N the feature
                i // ceil(N / n) is added to the video tokens.
            background_mask: Boolean (B, L); features are added where True only (`mask_add`). None: everywhere.
            add_first: Add feature i after block i, for the first n blocks only.
            id_resample: Second set of keys and values, and what the clip hands on.

        Returns:
            (B, T, out_channels, H, W).
        """
        batch, frames, _, height, width = hidden_states.shape

        # 1. Time (and CogVideoX 1.5's ofs) embedding; `time_proj` always gives float32
        temb = self.time_embedding(self.time_proj(timestep).to(hidden_states.dtype), timestep_cond)
        if self.ofs_embedding is not None:
            if ofs is None:
                raise ValueError("this backbone (CogVideoX 1.5) needs `ofs`: expected a tensor of one value")
            temb = temb + self.ofs_embedding(self.ofs_proj(ofs).to(hidden_states.dtype))

        # 2. Patch embedding
        text_length = encoder_hidden_states.shape[1]
        tokens = self.embedding_dropout(self.patch_embed(encoder_hidden_states, hidden_states))
        encoder_hidden_states, hidden_states = tokens[:, :text_length], tokens[:, text_length:]
        share, num_tokens = TokenShare.of(self), hidden_states.shape[1]
        if share is not None:  # features are parts already
            uneven = id_resample is not None and id_resample.form != "exact"
            encoder_hidden_states, hidden_states = share.split(encoder_hidden_states, hidden_states, uneven=uneven)
            if image_rotary_emb is not None:
                image_rotary_emb = share.part(image_rotary_emb[0], 0), share.part(image_rotary_emb[1], 0)
            background_mask = None if background_mask is None else share.part(background_mask)

        # 3. Blocks
        features = spread_features(branch_features, background_mask, len(self.transformer_blocks), add_first)
        checkpointing = torch.is_grad_enabled() and self.gradient_checkpointing
        run = self._gradient_checkpointing_func if checkpointing else call_block
        for index, (block, feature) in enumerate(zip(self.transformer_blocks, features, strict=True)):
            resample = id_resample.for_block(index) if id_resample is not None else None
            hidden_states, encoder_hidden_states = run(
                block,
                hidden_states,
                encoder_hidden_states,
                temb,
                image_rotary_emb,
                attention_kwargs,
                feature,
                resample,
            )
            if id_resample is not None:
                id_resample.keep(hidden_states)

        # 4. Output
        hidden_states = self.proj_out(self.norm_out(self.norm_final(hidden_states), temb=temb))
        if share is not None:
            hidden_states = share.whole(hidden_states, share.lengths(num_tokens))
        sample = unpatchify(hidden_states, frames, height, width, self.config)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)


def unpatchify(tokens: torch.Tensor, frames: int, height: int, width: int, config: Any) -> torch.Tensor:
    """Tokens (B, L, p_t·p·p·C) back to latents (B, T, C, H, W)."""
    p, p_t = config.patch_size, config.patch_size_t
    rows, columns = height // p, width // p
    if p_t is None:
        patches = tokens.unflatten(1, (frames, rows, columns)).unflatten(-1, (-1, p, p))
        return patches.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    patches = tokens.unflatten(1, (frames // p_t, rows, columns)).unflatten(-1, (-1, p_t, p, p))
    # (B, T/p_t, H/p, W/p, C, p_t, p, p) -> (B, T, C, H, W)
    return patches.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(1, 2)
