"""Which family a backbone is of, by the name of its class. Imports no torch before an adapter is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from videopainter.models.backbones.cogvideox.facts import CogVideoXFacts
from videopainter.models.backbones.protocol import Backbone, Codec, Facts
from videopainter.models.config_values import FamilyConfigs

if TYPE_CHECKING:
    import torch

_FACTS: dict[str, type[CogVideoXFacts]] = {
    "CogVideoXTransformer3DModel": CogVideoXFacts,
    "VideoPainterTransformer3DModel": CogVideoXFacts,
}


def is_backbone(config: Mapping[str, Any]) -> bool:
    """Whether a transformer's `config.json` is of a known family."""
    return config.get("_class_name") in _FACTS


def configs_of(config: Mapping[str, Any]) -> FamilyConfigs | None:
    """What this `config.json` and those of the other parts may say; None for a class of no known family."""
    return _FACTS[config["_class_name"]].configs if is_backbone(config) else None


def facts_of(config: Mapping[str, Any]) -> Facts:
    """Facts of the backbone with this `config.json`.

    Raises:
        ValueError: for a class of no known family.
    """
    name = config.get("_class_name")
    if name not in _FACTS:
        raise ValueError(f"backbone: expected a transformer out of {', '.join(_FACTS)}, got {name}")
    return _FACTS[name](config)


def backbone_from(config: Mapping[str, Any]) -> Backbone:
    """The adapter of a checkpoint with this `config.json`; ValueError for a class of no known family."""
    from videopainter.models.backbones.cogvideox.adapter import CogVideoX

    facts_of(config)
    return CogVideoX(config)


def backbone_of(transformer: Any) -> Backbone:
    """The adapter of a loaded transformer."""
    from videopainter.models.backbones.cogvideox.adapter import CogVideoX

    # Its classes by name: engines that shard a model give it a class of their own.
    assert any(cls.__name__ in _FACTS for cls in type(transformer).__mro__), type(transformer)
    return CogVideoX(transformer.config)


def codec_of(vae: Any, device: torch.device | str | None = None) -> Codec:
    """The codec of a loaded VAE.

    Args:
        device: Where it runs; under offloading that is not where its weights lie. None: there.
    """
    from videopainter.models.backbones.cogvideox.codec import CogVideoXCodec

    return CogVideoXCodec(vae, device)
