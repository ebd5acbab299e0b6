"""How a context encoder's features come to a backbone's blocks, whatever the family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def call_block(block: torch.nn.Module, *arguments: Any) -> Any:
    """What stands in for the checkpointing function where nothing is checkpointed."""
    return block(*arguments)


def spread_features(
    features: Sequence[torch.Tensor] | None,
    background_mask: torch.Tensor | None,
    num_blocks: int,
    add_first: bool,
) -> list[torch.Tensor | None]:
    """The feature to add after each block, or None. Masking happens once per feature, not once per block.

    Args:
        features: The context encoder's, each (B, L, D).
        background_mask: Boolean (B, L); False: nothing is added there. None: everywhere.
        add_first: Feature i after block i, instead of each after its share of the blocks.

    Raises:
        ValueError: for more features than blocks.
    """
    if not features:
        return [None] * num_blocks
    if len(features) > num_blocks:
        raise ValueError(f"expected at most {num_blocks} branch features (one per block), got {len(features)}")
    if background_mask is not None:
        features = [feature * background_mask[..., None].to(feature.dtype) for feature in features]
    if add_first:
        return [*features, *[None] * (num_blocks - len(features))]
    blocks_per_feature = -(-num_blocks // len(features))
    return [features[index // blocks_per_feature] for index in range(num_blocks)]


def zero_linear(in_features: int, out_features: int) -> torch.nn.Linear:
    """A layer that says nothing until it is trained."""
    layer = torch.nn.Linear(in_features, out_features)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer
