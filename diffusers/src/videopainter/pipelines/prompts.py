"""Prompts over time: which text a window is denoised with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from videopainter.errors import complain
from videopainter.pipelines.windows import Window


def _tell_cut_off(pipe: Any, text: str) -> None:
    if pipe.tokenizer is None:
        return
    tokens = len(pipe.tokenizer(text).input_ids)
    if tokens > pipe.max_sequence_length:
        complain(f"prompt: the model reads the first {pipe.max_sequence_length} of {tokens} tokens: {text[:60]}...")


@dataclass(frozen=True)
class PromptTrack:
    """Prompt embeddings and the frame from which each is in force.

    Embeddings are (1, S, E), or (2, S, E) with the negative prompt first where guidance is on.
    """

    starts: tuple[int, ...]
    embeds: tuple[torch.Tensor, ...]

    def at(self, window: Window) -> torch.Tensor:
        """The prompt in force at the window's middle frame."""
        middle = (window.start + window.stop - 1) // 2
        return next(
            e for start, e in zip(reversed(self.starts), reversed(self.embeds)) if start <= middle or start == 0
        )

    @classmethod
    @torch.no_grad()
    def encode(
        cls, pipe: Any, prompt: str | Mapping[int, str], negative_prompt: str = "", *, guidance: bool
    ) -> PromptTrack:
        """Encode every prompt once.

        Raises:
            ValueError: if a mapping has no prompt for frame 0, or a negative frame.
        """
        track = {0: prompt} if isinstance(prompt, str) else dict(sorted(prompt.items()))
        if min(track, default=-1) != 0:
            raise ValueError(f"prompts over time: expected the first from frame 0 on, got frames {list(track)}")
        negative = pipe.embed_text(negative_prompt) if guidance else None
        embeds = []
        for text in track.values():
            _tell_cut_off(pipe, text)
            embeds.append(cls._join(pipe, pipe.embed_text(text), negative))
        # Under model offload the text encoder would stay on the device beside the VAE until the backbone runs.
        pipe.maybe_free_model_hooks()
        return cls(tuple(track), tuple(embeds))

    @classmethod
    def from_embeds(cls, pipe: Any, positive: torch.Tensor, negative: torch.Tensor | None) -> PromptTrack:
        """One prompt for the whole video, given as embeddings (1, S, E)."""
        return cls((0,), (cls._join(pipe, positive, negative),))

    @staticmethod
    def _join(pipe: Any, positive: torch.Tensor, negative: torch.Tensor | None) -> torch.Tensor:
        embeds = positive if negative is None else torch.cat([negative, positive])
        return embeds.to(device=pipe._execution_device, dtype=pipe.transformer.dtype)
