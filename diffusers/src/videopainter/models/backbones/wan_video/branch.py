"""The context encoder ("branch") of a Wan backbone: background features, token by token."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin  # noqa: F401 - upstream's pipeline loader looks for it beside a saved class
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from videopainter.models.backbones.wan_video.transformer import embed, make_wan_blocks
from videopainter.models.features import call_block, check_layers, zero_linear
from videopainter.models.token_share import TokenShare


class WanBranchModel(WanTransformer3DModel):
    """Context encoder of VideoPainter (arXiv 2503.05639) for Wan.

    Blocks of the backbone's own kind see noisy latents, masked-video latents and the mask (2·out_channels + 1
    channels). After block i a zero-initialised linear layer gives feature i. There is no output head.

    Args:
        hole_fill: Value of masked pixels in [−1, 1] that the branch was trained with.
        wo_text: See the padding of a prompt only.
    """

    _repeated_blocks = ["VideoPainterWanBlock"]
    _no_split_modules = ["VideoPainterWanBlock"]
    _cp_plan: ClassVar[dict] = {}  # see `token_share`

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 2,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        rope_max_seq_len: int = 1024,
        wo_text: bool = False,
        hole_fill: float = 0.0,
    ):
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        upstream = {name: value for name, value in options.items() if name not in ("wo_text", "hole_fill")}
        super().__init__(**{**upstream, "num_layers": 0, "in_channels": 2 * out_channels + 1})
        del self._internal_dict  # upstream's own registration, with what it was asked for
        self.register_to_config(**options)
        del self.norm_out, self.proj_out, self.scale_shift_table
        width = num_attention_heads * attention_head_dim
        self.blocks = make_wan_blocks(options, num_layers)
        self.branch_blocks = torch.nn.ModuleList([zero_linear(width, width) for _ in range(num_layers)])

    @classmethod
    @torch.no_grad()
    def from_transformer(cls, transformer: WanTransformer3DModel, *, num_layers: int = 2, **overrides: Any) -> Self:
        """A branch that starts from a backbone, which is left as it is.

        The patch embedding's first C and next C channels both come from the backbone's first C input channels, the mask
        channel starts at zero. Embeddings of time and text and the first `num_layers` blocks are copied.

        Raises:
            ValueError: if the backbone has fewer blocks than `num_layers`.
        """
        check_layers(num_layers, transformer)
        known = cls._get_init_keys(cls)
        config = {name: value for name, value in transformer.config.items() if name in known}
        branch = cls(**{**config, "num_layers": num_layers, **overrides})
        torch.nn.Module.to(branch, device=transformer.device, dtype=transformer.dtype)
        source, own = transformer.state_dict(), branch.state_dict()
        copied = {name: source[name] for name in own if name in source and not name.startswith("patch_embedding.w")}
        branch.load_state_dict({**own, **copied})
        channels = transformer.config.out_channels
        weight, given = branch.patch_embedding.weight, transformer.patch_embedding.weight[:, :channels]
        weight.copy_(torch.cat([given, given, torch.zeros_like(given[:, :1])], dim=1))
        return branch

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        branch_cond: torch.Tensor,
        timestep: torch.Tensor,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        conditioning_scale: float = 1.0,
    ) -> tuple[torch.Tensor, ...]:
        """Features for the backbone.

        Args:
            hidden_states: Noisy video latents (B, C, T, h, w).
            encoder_hidden_states: Prompt embeddings (B, S, text_dim).
            branch_cond: Masked-video latents and latent mask, 1 = hole, (B, C + 1, T, h, w).
            timestep: As the backbone takes it.
            rotary_emb: As the backbone takes it.
            conditioning_scale: Factor on every feature.

        Returns:
            `num_layers` tensors (B, L, D); where processes share tokens, of this one's part.
        """
        if self.config.wo_text:
            encoder_hidden_states = torch.zeros_like(encoder_hidden_states[:, :1])
        latents = torch.cat([hidden_states, branch_cond.to(hidden_states)], dim=1)
        video, text, _, modulation, rotary = embed(self, latents, encoder_hidden_states, timestep, rotary_emb)
        share = TokenShare.of(self)
        if share is not None:  # every process has the whole text
            (video,) = share.split(video)
            rotary = share.part(rotary[0]), share.part(rotary[1])
            modulation = share.part(modulation) if timestep.ndim == 2 else modulation
        checkpointing = torch.is_grad_enabled() and self.gradient_checkpointing
        run = self._gradient_checkpointing_func if checkpointing else call_block
        features = []
        for block, to_feature in zip(self.blocks, self.branch_blocks, strict=True):
            video = run(block, video, text, modulation, rotary)
            feature = to_feature(video)
            features.append(feature if conditioning_scale == 1.0 else feature * conditioning_scale)
        return tuple(features)
