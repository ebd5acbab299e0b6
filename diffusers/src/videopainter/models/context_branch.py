"""The context encoder ("branch"): background features for a frozen CogVideoX backbone, token by token."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import ModelMixin  # noqa: F401 - upstream's pipeline loader looks for it beside a saved class
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

from videopainter.models.features import call_block, check_layers, zero_linear
from videopainter.models.patch_embed import replace_patch_embed
from videopainter.models.token_share import TokenShare
from videopainter.models.transformer import make_blocks


class CogvideoXBranchModel(CogVideoXTransformer3DModel):
    """Context encoder of VideoPainter (arXiv 2503.05639), in the released checkpoint's format.

    Blocks of the backbone's own kind see noisy latents, masked-video latents and the mask (2·out_channels + 1
    channels).
    After block i a zero-initialised linear layer gives feature i. `branch_x_embedder`, `norm_final`, `norm_out` and
    `proj_out` take no part in the forward pass; they belong to the released file and are kept.

    Args:
        hole_fill: Value of masked pixels in [-1, 1] that the branch was trained with (0: mid-grey, the release's).
        wo_text: Run on video tokens alone.
    """

    _repeated_blocks = ["VideoPainterBlock"]
    _no_split_modules = ["VideoPainterBlock", "VideoPainterPatchEmbed"]
    _cp_plan: ClassVar[dict] = {}  # see `token_share`

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 30,
        attention_head_dim: int = 64,
        in_channels: int = 16,
        out_channels: int = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        ofs_embed_dim: int | None = None,
        text_embed_dim: int = 4096,
        num_layers: int = 2,
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
        wo_text: bool = False,
        hole_fill: float = 0.0,
    ):
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        upstream = {name: value for name, value in options.items() if name not in ("wo_text", "hole_fill")}
        super().__init__(**{**upstream, "num_layers": 0})
        self.register_to_config(**options)
        inner_dim = num_attention_heads * attention_head_dim
        self.transformer_blocks = make_blocks(self.config)
        replace_patch_embed(self, in_channels=2 * out_channels + 1)
        self.branch_x_embedder = zero_linear(in_channels, inner_dim)
        self.branch_blocks = torch.nn.ModuleList([zero_linear(inner_dim, inner_dim) for _ in range(num_layers)])

    @classmethod
    @torch.no_grad()
    def from_transformer(
        cls, transformer: CogVideoXTransformer3DModel, *, num_layers: int = 2, **overrides: Any
    ) -> CogvideoXBranchModel:
        """A branch that starts from a backbone, which is left as it is.

        The patch embedding's first 16 and next 16 channels both come from the backbone's first 16 input channels, the
        mask channel starts at zero. Text projection, time embedding and the first `num_layers` blocks are copied.

        Raises:
            ValueError: if the backbone has fewer blocks than `num_layers`.
        """
        check_layers(num_layers, transformer)
        known = cls._get_init_keys(cls)
        config = {name: value for name, value in transformer.config.items() if name in known}
        branch = cls(**{**config, "num_layers": num_layers, **overrides})
        torch.nn.Module.to(branch, device=transformer.device, dtype=transformer.dtype)
        branch.time_embedding.load_state_dict(transformer.time_embedding.state_dict())
        if branch.ofs_embedding is not None and transformer.ofs_embedding is not None:
            branch.ofs_embedding.load_state_dict(transformer.ofs_embedding.state_dict())
        for block, source in zip(branch.transformer_blocks, transformer.transformer_blocks):
            block.load_state_dict(source.state_dict())
        branch._copy_patch_embed(transformer.patch_embed)
        return branch

    def _copy_patch_embed(self, source: torch.nn.Module) -> None:
        latent_channels = self.config.out_channels
        target = self.patch_embed
        target.text_proj.load_state_dict(source.text_proj.state_dict())
        if getattr(source, "pos_embedding", None) is not None:
            target.pos_embedding.copy_(source.pos_embedding)
        if target.proj.bias is not None:
            target.proj.bias.copy_(source.proj.bias)
        # Conv2d weights are (D, C, p, p); CogVideoX 1.5's linear ones (D, C·p_t·p·p), channel first.
        channels_in = source.proj.weight.reshape(target.embed_dim, -1, *_patch_shape(source))
        channels_out = target.proj.weight.view(target.embed_dim, -1, *_patch_shape(target))
        video = channels_in[:, :latent_channels]
        channels_out[:, :latent_channels] = video
        channels_out[:, latent_channels : 2 * latent_channels] = video
        channels_out[:, 2 * latent_channels :] = 0

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        branch_cond: torch.Tensor,
        timestep: torch.Tensor,
        ofs: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        conditioning_scale: float = 1.0,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Features for the backbone.

        Args:
            hidden_states: Noisy video latents (B, T, 16, H, W).
            encoder_hidden_states: Prompt embeddings (B, S, text_embed_dim).
            branch_cond: Masked-video latents and latent mask, 1 = hole, (B, T, 16 + 1, H, W).
            timestep: (B,).
            conditioning_scale: Factor on every feature.

        Returns:
            `num_layers` tensors (B, L, D); where processes share tokens, of this one's part.
        """
        # 1. Time embedding
        temb = self.time_embedding(self.time_proj(timestep).to(hidden_states.dtype))
        if self.ofs_embedding is not None:
            if ofs is None:
                raise ValueError("this branch (CogVideoX 1.5) needs `ofs`: expected a tensor of one value")
            temb = temb + self.ofs_embedding(self.ofs_proj(ofs).to(hidden_states.dtype))

        # 2. Patch embedding
        if self.config.wo_text:
            encoder_hidden_states = encoder_hidden_states[:, :0]
        text_length = encoder_hidden_states.shape[1]
        latents = torch.cat([hidden_states, branch_cond.to(hidden_states)], dim=2)
        tokens = self.embedding_dropout(self.patch_embed(encoder_hidden_states, latents))
        text, video = tokens[:, :text_length], tokens[:, text_length:]
        share = TokenShare.of(self)
        if share is not None:
            text, video = share.split(text, video)
            if image_rotary_emb is not None:
                image_rotary_emb = share.part(image_rotary_emb[0], 0), share.part(image_rotary_emb[1], 0)

        # 3. Blocks, a feature after each
        checkpointing = torch.is_grad_enabled() and self.gradient_checkpointing
        run = self._gradient_checkpointing_func if checkpointing else call_block
        features = []
        for block, to_feature in zip(self.transformer_blocks, self.branch_blocks, strict=True):
            video, text = run(block, video, text, temb, image_rotary_emb, attention_kwargs)
            feature = to_feature(video)
            features.append(feature if conditioning_scale == 1.0 else feature * conditioning_scale)
        return tuple(features)


def _patch_shape(patch_embed: Any) -> tuple[int, ...]:
    p, p_t = patch_embed.patch_size, patch_embed.patch_size_t
    return (p, p) if p_t is None else (p_t, p, p)
