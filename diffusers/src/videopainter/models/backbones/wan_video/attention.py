"""Self-attention of Wan through upstream's backend dispatcher, with an optional second key-value set."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import (
    WanAttnProcessor,
    _get_added_kv_projections,
    _get_qkv_projections,
)

from videopainter.models.id_resample import ResampleTokens

_Rotary = tuple[torch.Tensor, torch.Tensor]  # cos, sin (1, L, 1, head_dim), every value twice


class ResamplingWanProcessor(WanAttnProcessor):
    """Upstream's processor; where `rotary_emb` has a third entry, the hole's tokens are attended to once more.

    That entry is a `ResampleTokens` of the compact form (see `id_resample`).
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,  # (B, L, D) video
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[Any, ...] | None = None,
    ) -> torch.Tensor:
        if rotary_emb is None or len(rotary_emb) == 2:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        cos, sin, resample = rotary_emb
        heads = (attn.heads, -1)

        # 1. Projections, (B, L, heads, head_dim)
        query, raw_key, value = _project(attn, hidden_states)
        query = _rotate(attn.norm_q(query).unflatten(2, heads), cos, sin)
        key = _rotate(attn.norm_k(raw_key).unflatten(2, heads), cos, sin)

        # 2. The second set of keys and values
        extra_key, extra_value = _second_set(attn, raw_key, value, resample)
        key = torch.cat([key, _rotate(extra_key.unflatten(2, heads), *_at(resample, cos, sin))], dim=1)
        value = torch.cat([value, extra_value], dim=1).unflatten(2, heads)

        # 3. Attention, output projection
        output = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=resample.attention_mask(query.shape[1]),
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        return attn.to_out[1](attn.to_out[0](output.flatten(2).type_as(query)))


class ImageAndTextProcessor(WanAttnProcessor):
    """Cross attention to image and text apart, as upstream's, which takes any text to be 512 tokens long."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,  # (B, L, D) video
        encoder_hidden_states: Any = None,  # image (B, N, D) and text (B, S, D); or text alone
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[Any, ...] | None = None,
    ) -> torch.Tensor:
        given = encoder_hidden_states if isinstance(encoder_hidden_states, tuple) else (None, encoder_hidden_states)
        image, text = given
        heads = (attn.heads, -1)
        query, key, value = _get_qkv_projections(attn, hidden_states, text)
        query = attn.norm_q(query).unflatten(2, heads)
        output = self._attend(query, attn.norm_k(key).unflatten(2, heads), value.unflatten(2, heads))
        if image is not None:
            key, value = _get_added_kv_projections(attn, image)
            output = output + self._attend(query, attn.norm_added_k(key).unflatten(2, heads), value.unflatten(2, heads))
        return attn.to_out[1](attn.to_out[0](output))

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = dispatch_attention_fn(query, key, value, backend=self._attention_backend, parallel_config=None)
        return output.flatten(2).type_as(query)


def _project(attn: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if attn.fused_projections:
        query, key, value = attn.to_qkv(tokens).chunk(3, dim=-1)
        return query, key, value
    return attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens)


def _second_set(
    attn: Any, raw_key: torch.Tensor, value: torch.Tensor, resample: ResampleTokens
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (with their norm) and values (B, N, D) of the hole's tokens: of this clip, or of the previous one."""
    if resample.tokens is None:
        return attn.norm_k(resample.gather(raw_key)), resample.gather(value)
    _, key, value = _project(attn, resample.tokens)
    return attn.norm_k(key * resample.weight), value * resample.weight


def _at(resample: ResampleTokens, cos: torch.Tensor, sin: torch.Tensor) -> _Rotary:
    """_Rotary tables (B, N, 1, head_dim) of the hole's own places."""
    index = resample.index[..., None, None].to(cos.device)
    return torch.take_along_dim(cos, index, dim=1), torch.take_along_dim(sin, index, dim=1)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """_Rotary positions on (B, N, heads, head_dim), as upstream's processor computes them."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).type_as(x)
