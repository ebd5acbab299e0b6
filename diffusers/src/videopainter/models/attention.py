"""Joint text-video attention of CogVideoX through upstream's backend dispatcher, with an optional second key-value
set."""

from __future__ import annotations

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb

from videopainter.models.id_resample import ResampleTokens


class VideoPainterAttnProcessor:
    """Attention over text ‖ video tokens. The backend is what `set_attention_backend` chose, else torch's own.

    `resample` adds the keys and values of the object to be remembered (see `id_resample`); None costs nothing. Under
    context parallelism it holds the hole tokens of this process's share of the video.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,  # (B, L, D) video
        encoder_hidden_states: torch.Tensor,  # (B, S, D) text
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,  # cos, sin (L, D / heads)
        resample: ResampleTokens | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        text_length = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)

        # 1. Projections, (B, S + L, heads, head_dim)
        query, raw_key, value = _project(attn, tokens)
        query = _rotate(_normalise(attn.norm_q, query), text_length, image_rotary_emb)
        key = _rotate(_normalise(attn.norm_k, raw_key), text_length, image_rotary_emb)

        # 2. The second set of keys and values
        if resample is not None:
            if attention_mask is not None:
                raise ValueError("ID resampling does not take an attention mask of its own")
            extra_key, extra_value = _second_set(attn, raw_key, value, resample, text_length, image_rotary_emb)
            key = torch.cat([key, extra_key], dim=1)
            value = torch.cat([value, extra_value], dim=1)
            attention_mask = resample.attention_mask(tokens.shape[1])

        # 3. Attention, output projection
        if self._attention_backend is None and _trains_on_cpu(query):
            output = _plain_attention(query, key, value, attention_mask)
        else:
            output = dispatch_attention_fn(
                query,
                key,
                value,
                attn_mask=attention_mask,
                backend=self._attention_backend,
                parallel_config=self._parallel_config,
            )
        output = output.flatten(2).to(query.dtype)
        output = attn.to_out[1](attn.to_out[0](output))
        return output[:, text_length:], output[:, :text_length]


def _trains_on_cpu(query: torch.Tensor) -> bool:
    """Whether torch's CPU kernel would run backward in half precision: it takes half of a small model's step."""
    return query.device.type == "cpu" and query.requires_grad and query.dtype in (torch.bfloat16, torch.float16)


def _plain_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Softmax attention as it is written down, (B, L, heads, head_dim); `mask` boolean, False = hidden."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(dim=-1).to(value.dtype) @ value).transpose(1, 2)


def _project(attn: Attention, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if getattr(attn, "fused_projections", False):
        query, key, value = attn.to_qkv(tokens).chunk(3, dim=-1)
    else:
        query, key, value = attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens)
    heads = (attn.heads, -1)
    return query.unflatten(2, heads), key.unflatten(2, heads), value.unflatten(2, heads)


def _normalise(norm: torch.nn.Module | None, x: torch.Tensor) -> torch.Tensor:
    return x if norm is None else norm(x)


def _rotate(x: torch.Tensor, text_length: int, rotary: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
    """Rotary positions on the video part of (B, S + L, heads, head_dim); text has none."""
    if rotary is None:
        return x
    video = apply_rotary_emb(x[:, text_length:], rotary, sequence_dim=1)
    return torch.cat([x[:, :text_length], video], dim=1)


def _second_set(
    attn: Attention,
    raw_key: torch.Tensor,
    value: torch.Tensor,
    resample: ResampleTokens,
    text_length: int,
    rotary: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values (B, N, heads, head_dim) of the hole's tokens: of this clip, or of the previous one.

    Exact form: N = S + L; keys and values outside the hole are zero before the key norm, and take part in the softmax,
    as in the public release. Compact form: N = the number of hole tokens.
    """
    if resample.tokens is None:
        hole_key = resample.gather(raw_key[:, text_length:])
        hole_value = resample.gather(value[:, text_length:])
    else:
        heads = (attn.heads, -1)
        hole_key = attn.to_k(resample.tokens).unflatten(2, heads) * resample.weight
        hole_value = attn.to_v(resample.tokens).unflatten(2, heads) * resample.weight

    if resample.form == "exact":
        key = resample.scatter(hole_key, raw_key.shape[1], offset=text_length)
        key = _rotate(_normalise(attn.norm_k, key), text_length, rotary)
        return key, resample.scatter(hole_value, raw_key.shape[1], offset=text_length)

    key = _normalise(attn.norm_k, hole_key)
    if rotary is not None:
        key = resample.rotate(key, rotary)
    return key, hole_value
