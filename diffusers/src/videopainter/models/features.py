"""How a context encoder's features come to a backbone's blocks, whatever the family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.hooks import FasterCacheConfig, TaylorSeerCacheConfig


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


class StepCaches:
    """Upstream's step caches for a backbone whose blocks take features; stands before upstream's class in the bases."""

    # Patterns of the modules whose outputs TaylorSeer extrapolates: attention and feed-forward of every block.
    # Upstream's own match no module of CogVideoX.
    taylor_modules: Sequence[str]

    def enable_cache(self, config: Any) -> None:
        """As upstream documents it; TaylorSeer without patterns gets the family's.

        Raises:
            ValueError: for FasterCache, which runs half of the batch without halving what the context encoder adds.
        """
        if isinstance(config, FasterCacheConfig):
            raise ValueError(
                "cache: expected FirstBlockCache, TaylorSeer, pyramid attention broadcast or MagCache, "
                "got FasterCache: it halves the batch, and the features of the context encoder would not fit"
            )
        if isinstance(config, TaylorSeerCacheConfig) and not config.use_lite_mode:
            given = config.cache_identifiers or config.skip_predict_identifiers
            config = config if given else replace(config, cache_identifiers=list(self.taylor_modules))
        upstream: Any = super()
        upstream.enable_cache(config)


def check_layers(num_layers: int, transformer: Any) -> None:
    """ValueError where a branch that begins as a backbone's first blocks asks for more than it has, or for none."""
    if not 1 <= num_layers <= transformer.config.num_layers:
        raise ValueError(
            f"branch: expected 1..{transformer.config.num_layers} layers (the backbone's blocks), got {num_layers}"
        )


def zero_linear(in_features: int, out_features: int) -> torch.nn.Linear:
    """A layer that says nothing until it is trained."""
    layer = torch.nn.Linear(in_features, out_features)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer
