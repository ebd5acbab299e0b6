"""Which family a backbone is of, by the name of its class. Imports no torch before an adapter is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from videopainter.models.backbones.cogvideox.facts import CogVideoXFacts
from videopainter.models.backbones.protocol import Backbone, Codec, Facts
from videopainter.models.backbones.wan_video.facts import WanFacts
from videopainter.models.config_values import FamilyConfigs

if TYPE_CHECKING:
    import torch

_FACTS: dict[str, type[CogVideoXFacts] | type[WanFacts]] = {
    "CogVideoXTransformer3DModel": CogVideoXFacts,
    "VideoPainterTransformer3DModel": CogVideoXFacts,
    "WanTransformer3DModel": WanFacts,
    "VideoPainterWanTransformer3DModel": WanFacts,
}


def is_backbone(config: Mapping[str, Any]) -> bool:
    """Whether a transformer's `config.json` is of a known family."""
    return config.get("_class_name") in _FACTS


def configs_of(config: Mapping[str, Any]) -> FamilyConfigs | None:
    """What this `config.json` and those of the other parts may say; None for a class of no known family."""
    return _FACTS[config["_class_name"]].configs_for(config) if is_backbone(config) else None


def facts_of(config: Mapping[str, Any]) -> Facts:
    """Facts of the backbone with this `config.json`.

    Raises:
        ValueError: for a class of no known family.
    """
    name = config.get("_class_name")
    if name not in _FACTS:
        raise ValueError(f"backbone: expected a transformer out of {', '.join(_FACTS)}, got {name}")
    return _FACTS[name](config)


def scheduler_name(facts: Facts, asked: str = "auto") -> str:
    """The sampler of a run by its flag's name; ``auto``: the family's first. ValueError for another family's."""
    if asked == "auto":
        return next(iter(facts.schedulers))
    if asked not in facts.schedulers:
        known = ", ".join(["auto", *facts.schedulers])
        raise ValueError(f"scheduler: expected {known} for a backbone of {facts.family}, got {asked!r}")
    return asked


def check_form(facts: Facts, form: str | None, of: object = "id_resample") -> None:
    """ValueError for a form of ID resampling that the family does not have; None: it is off."""
    if form is not None and form not in facts.forms:
        raise ValueError(
            f"{of}: expected ID resampling of form {' or '.join(facts.forms)} for a backbone of {facts.family}, "
            f"got {form}"
        )


def backbone_from(config: Mapping[str, Any]) -> Backbone:
    """The adapter of a checkpoint with this `config.json`; ValueError for a class of no known family."""
    return _adapter(facts_of(config).family)(config)


def backbone_of(transformer: Any) -> Backbone:
    """The adapter of a loaded transformer."""
    # Its classes by name: engines that shard a model give it a class of their own.
    known = [cls.__name__ for cls in type(transformer).__mro__ if cls.__name__ in _FACTS]
    assert known, type(transformer)
    return _adapter(_FACTS[known[0]].family)(transformer.config)


def _adapter(family: str) -> Callable[[Mapping[str, Any]], Backbone]:
    if family == "Wan":
        from videopainter.models.backbones.wan_video.adapter import Wan

        return Wan
    from videopainter.models.backbones.cogvideox.adapter import CogVideoX

    return CogVideoX


def codec_of(vae: Any, device: torch.device | str | None = None) -> Codec:
    """The codec of a loaded VAE.

    Args:
        device: Where it runs; under offloading that is not where its weights lie. None: there.
    """
    if any(cls.__name__ == "AutoencoderKLWan" for cls in type(vae).__mro__):
        from videopainter.models.backbones.wan_video.codec import WanCodec

        return WanCodec(vae, device)
    from videopainter.models.backbones.cogvideox.codec import CogVideoXCodec

    return CogVideoXCodec(vae, device)
