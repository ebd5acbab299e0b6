"""Step caches: upstream's hooks that leave out work where one denoising step is like the one before.

Their state belongs to one window: `reset_step_caches` runs before a window, after it, and before a step that must be
computed, the one whose block outputs become ID memory. Choosing and checking imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopainter.flags import Range, check_number

# Name -> default threshold. Their meaning stands at `StepCache`.
THRESHOLDS = {"first_block": 0.05, "taylorseer": 3.0, "pab": 2.0, "mag": 0.06}
STEP_CACHES = ("none", *THRESHOLDS)
COUNTED = ("taylorseer", "pab")  # their threshold is a number of steps
# Steps that TaylorSeer computes before it predicts: two give it a slope, the first ones change fastest.
TAYLOR_WARM_UP = 3
PAB_TIMESTEPS = (100, 800)  # the method's own: outside of them attention changes fast


@dataclass(frozen=True, kw_only=True)
class StepCache:
    """What is left out, and how much of it.

    Args:
        name: ``first_block`` (FirstBlockCache: all blocks but the first), ``mag`` (MagCache: all blocks),
            ``taylorseer`` (TaylorSeer: all blocks, the output is extrapolated) or ``pab`` (pyramid attention broadcast:
            attention).
        threshold: ``first_block``: relative change of the first block's residual below which a step is left out.
            ``mag``: accumulated error up to which steps are. ``taylorseer``, ``pab``: one step (one attention) in so
            many is computed. None: `THRESHOLDS`.
        num_inference_steps: Of a window; ``mag`` counts them.
        ratios: ``mag`` alone: magnitude ratios measured on this checkpoint, see `read_ratios`.

    Raises:
        ValueError: in one line, for what does not fit.
    """

    name: str
    threshold: float | None = None
    num_inference_steps: int = 50
    ratios: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.name not in THRESHOLDS:
            raise ValueError(f"cache: expected {', '.join(STEP_CACHES)}, got {self.name!r}")
        check_number("cache_threshold", self.value, Range(above=0, most=1e9))
        if self.name in COUNTED and (self.value != int(self.value) or self.value < 2):
            raise ValueError(f"cache threshold of {self.name}: expected 2, 3, 4, ... steps, got {self.value:g}")
        if (self.name == "mag") != (self.ratios is not None):
            raise ValueError(
                "cache mag: expected ratios measured on this checkpoint (diffusers' MagCacheConfig(calibrate=True)), "
                "got none"
                if self.name == "mag"
                else f"cache ratios: expected the cache mag, got {self.name}"
            )

    @property
    def value(self) -> float:
        """The threshold in force."""
        return THRESHOLDS[self.name] if self.threshold is None else self.threshold

    def recipe(self) -> dict[str, Any]:
        """What of it decides a result's pixels."""
        facts: dict[str, Any] = {"name": self.name, "threshold": self.value}
        return facts if self.ratios is None else facts | {"ratios": list(self.ratios)}


def read_ratios(path: str | Path) -> tuple[float, ...]:
    """MagCache's ratios from a JSON list, as diffusers prints them when it calibrates; ValueError for anything else."""
    try:
        ratios = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cache ratios: expected a JSON list of numbers, got {error}: {path}") from None
    numbers = isinstance(ratios, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in ratios)
    if not numbers or not ratios or not all(map(math.isfinite, ratios)):
        raise ValueError(f"cache ratios: expected a JSON list of finite numbers, got another, in {path}")
    return tuple(map(float, ratios))


def enable_step_cache(pipe: Any, cache: StepCache) -> None:
    """Put the cache's hooks on the pipeline's backbone.

    Before the models are offloaded: with streams, a block's weights are fetched while the block before it runs, so the
    hooks that fetch them must run for blocks that are left out, too.
    """
    pipe.transformer.enable_cache(_CONFIGS[cache.name](pipe, cache))


def reset_step_caches(models: Sequence[Any]) -> None:
    """Forget what steps before left behind: the next one is computed as a whole. Models without a cache: nothing."""
    for model in models:
        if model is not None:
            model._reset_stateful_cache()


def _first_block(pipe: Any, cache: StepCache) -> Any:
    from diffusers import FirstBlockCacheConfig

    return FirstBlockCacheConfig(threshold=cache.value)


def _taylorseer(pipe: Any, cache: StepCache) -> Any:
    """The blocks are left out and the output is extrapolated: two tensors of the output's size, where the attention and
    feed-forward outputs of 42 blocks would be tens of gigabytes."""
    from diffusers import TaylorSeerCacheConfig

    return TaylorSeerCacheConfig(
        cache_interval=int(cache.value),
        disable_cache_before_step=TAYLOR_WARM_UP,
        taylor_factors_dtype=pipe.transformer.dtype,
        use_lite_mode=True,
    )


def _pab(pipe: Any, cache: StepCache) -> Any:
    from diffusers import PyramidAttentionBroadcastConfig

    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=int(cache.value),
        spatial_attention_timestep_skip_range=PAB_TIMESTEPS,
        spatial_attention_block_identifiers=(pipe.backbone.facts.blocks,),
        current_timestep_callback=lambda: int(pipe.current_timestep),
    )


def _mag(pipe: Any, cache: StepCache) -> Any:
    from diffusers import MagCacheConfig

    return MagCacheConfig(
        threshold=cache.value, num_inference_steps=cache.num_inference_steps, mag_ratios=list(cache.ratios or ())
    )


_CONFIGS: dict[str, Callable[[Any, StepCache], Any]] = {
    "first_block": _first_block,
    "taylorseer": _taylorseer,
    "pab": _pab,
    "mag": _mag,
}
