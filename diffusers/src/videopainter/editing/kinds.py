"""Which kind of instruction is invented for which row: by its number and the seed, so that all processes agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random

from videopainter.captions.questions import INSTRUCTION_KINDS
from videopainter.errors import InputError

_MOST = 1000


def parse_kinds(text: str) -> dict[str, int]:
    """{kind: how often} from `add:1,remove:1,swap:1,change:2`; kinds of weight 0 are left out.

    Raises:
        InputError: another form, no such kind, one named twice, or none with a weight.
    """
    kinds: dict[str, int] = {}
    for part in text.replace(" ", "").split(","):
        name, _, weight = part.partition(":")
        if name not in INSTRUCTION_KINDS or not re.fullmatch(r"\d{1,4}", weight) or int(weight) > _MOST:
            expected = "KIND:WEIGHT,... with kinds of " + ", ".join(INSTRUCTION_KINDS)
            raise InputError(f"--instruction_kinds: expected {expected} and weights to {_MOST}, got {text!r}")
        if name in kinds:
            raise InputError(f"--instruction_kinds: expected each kind once, got {name} twice")
        kinds[name] = int(weight)
    found = {name: weight for name, weight in kinds.items() if weight}
    if not found:
        raise InputError(f"--instruction_kinds: expected a weight above 0, got {text!r}")
    return found


def kind_for(row: int, kinds: Mapping[str, int], seed: int) -> str:
    """The kind of a row's instruction. Of as many rows one after the other as there are weights (from a multiple of
    that number on), each kind gets its weight exactly, in an order drawn from the seed."""
    deck = [name for name in INSTRUCTION_KINDS for _ in range(kinds.get(name, 0))]
    block, place = divmod(row, len(deck))
    Random(f"{seed} {block}").shuffle(deck)
    return deck[place]
