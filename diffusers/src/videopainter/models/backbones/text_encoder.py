"""What the config of a T5 or UMT5 encoder may say, and what the shapes of its weights say to that. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopainter.models.config_values import Header, Rule, compare_value, count_parts, whole_number

TEXT_RULES: dict[str, Rule] = {
    "d_model": whole_number(1, 65_536),
    "d_ff": whole_number(1, 2**20),
    "d_kv": whole_number(1, 4096),
    "num_heads": whole_number(1, 1024),
    "num_layers": whole_number(1, 1000),
    "vocab_size": whole_number(1, 10**7),
}


def compare_text_encoder(config: Mapping[str, Any], header: Header, file: Path) -> None:
    """InputError where the weights have other sizes than the config says."""
    table = header.get("shared.weight") or header.get("encoder.embed_tokens.weight")
    compare_value("vocab_size", table and table[0], config, file)
    compare_value("d_model", table and table[1], config, file)
    compare_value("num_layers", count_parts(header, "encoder.block"), config, file)
