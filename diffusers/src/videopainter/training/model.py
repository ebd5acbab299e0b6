"""What is trained, as one module: backbone and context encoder together, most of it frozen.

One module, because DeepSpeed ZeRO-3 and FSDP shard what they are given, and the frozen backbone is the largest part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from videopainter.models.backbones.denoiser import Conditions, Denoiser
from videopainter.models.id_resample import ClipMemory

# Weights of the released branch file that take no part in its forward pass.
UNUSED_IN_BRANCH = ("branch_x_embedder", "norm_final", "norm_out", "proj_out")


class InpaintingModel(nn.Module):
    """Backbone with context encoder; `forward` is the prediction that the pipeline makes.

    Args:
        transformer: The backbone; with a LoRA when the ID adapter is trained.
        branch: The context encoder.
        mask_add: Add branch features to background tokens only.
        add_first: Add them after the first blocks only.
        id_form: Form of ID resampling; None: without.

    Attributes:
        input_dtype: What latents and embeddings are brought to, where all weights at work have one dtype and nothing
            else casts (DeepSpeed, FSDP). None: they are taken as they come, in float32 or under autocast.
    """

    def __init__(
        self,
        transformer: nn.Module,
        branch: nn.Module,
        *,
        mask_add: bool = True,
        add_first: bool = False,
        id_form: str | None = None,
    ) -> None:
        super().__init__()
        self.input_dtype: torch.dtype | None = None
        self.transformer, self.branch = transformer, branch
        # What accelerate's FSDP2 cuts up one by one: the blocks of the backbone's family, which are the branch's, too.
        self._no_split_modules = list(getattr(transformer, "_repeated_blocks", []))
        self.mask_add, self.add_first, self.id_form = mask_add, add_first, id_form

    def forward(self, *inputs: Any, within: Callable[[], None] | None = None, **options: Any) -> Any:
        """`predict`; or `within`, which calls `transformer` and `branch` itself.

        FSDP has weights outside the blocks at hand only inside a pass of the module that it wrapped. (What `within`
        makes is not returned: the engines look for tensors in what is, and know few types.)
        """
        return self.predict(*inputs, **options) if within is None else within()

    def predict(
        self,
        noisy: torch.Tensor,  # (B, T, C, h, w)
        conditions: Conditions,
        prompt_embeds: torch.Tensor,  # (B, S, E)
        timestep: torch.Tensor,  # (B,)
        previous: ClipMemory | None = None,
        prev_clip_weight: float = 0.0,
        remember: bool = False,
    ) -> torch.Tensor | ClipMemory:
        """The model's output (B, T, C, h, w); with `remember` what the clip hands to the next one instead."""
        if self.input_dtype is not None:  # positions and timesteps keep theirs
            noisy, prompt_embeds = noisy.to(self.input_dtype), prompt_embeds.to(self.input_dtype)
            conditions = conditions.map(lambda x: x.to(self.input_dtype))
        denoiser = Denoiser(
            self.transformer, self.branch, mask_add=self.mask_add, add_first=self.add_first, form=self.id_form
        )
        output, memory = denoiser(
            noisy,
            denoiser.prepare(conditions, count_hole=False),
            prompt_embeds,
            timestep,
            previous=previous,
            prev_clip_weight=prev_clip_weight,
            remember=remember,
        )
        return output if memory is None else memory

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def freeze_all_but_branch(model: InpaintingModel) -> None:
    """Train the branch, without the weights of its file that it does not use."""
    model.requires_grad_(False)
    skipped = [*UNUSED_IN_BRANCH, "patch_embed.text_proj"] if model.branch.config.wo_text else [*UNUSED_IN_BRANCH]
    for name, parameter in model.branch.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(skipped)))


def freeze_all_but_lora(model: InpaintingModel) -> None:
    """Train the backbone's LoRA alone."""
    model.requires_grad_(False)
    for name, parameter in model.transformer.named_parameters():
        parameter.requires_grad_("lora_" in name)
