"""Which tracked objects are kept, each as a row of its own: the paper's rules.

The paper's words are "area change between frames < 20 %, coverage 30-70 % of frames". We read them so:

- area change: from each frame to the next, of the pixels of the object, against the largest of both areas and the
  object's median area. So what enters the picture little by little does not count as a jump; what a tracker loses does.
- coverage: at least 30 % of the frames show the object, and it takes at most 70 % of the picture. Read strictly, either
  as a share of frames or as one of the picture, both bounds would leave out most of what one wants: what is seen all
  the time, or is smaller than a third of the picture. The bounds are flags: `--max_presence 0.7` is the one strict
  reading, `--min_area 0.3` the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from videopainter.data.masks.ids import IdArray
from videopainter.errors import InputError
from videopainter.flags import flag
from videopainter.preparation.stages.stage import Row, RowDropped, Stage

# What is known of an object; `moving` None: it was found by its word.
MEASURES = ("word", "presence", "area", "area_change", "unsure", "moving")

_WHAT_IS_FOUND = ("words", "tagger", "tags_per_clip", "objects_per_clip")


@dataclass(frozen=True, kw_only=True)
class ObjectRuleOptions:
    """Which objects are found and kept."""

    _argument_group_name: ClassVar[str] = "which objects are found and kept (the paper's values, or ours, marked)"

    words: str = flag(
        "", "What to look for, as `dog, red car` (--text_model, or --segmenter sam3). Default: what moves by itself."
    )
    tagger: Literal["none", "llm"] = flag(
        "none", "llm: --llm_model names the things in each clip, which are then looked for as --words are."
    )
    tags_per_clip: int = flag(6, "At most so many of its names (ours).", least=1, most=50)
    objects_per_clip: int = flag(3, "At most so many (ours).", least=1, most=254)
    max_area_change: float = flag(
        0.2, "From one frame to the next, as a share of the object's area (the paper's).", above=0, most=1
    )
    min_presence: float = flag(0.3, "Share of a clip's frames that show the object (the paper's).", least=0, most=1)
    max_presence: float = flag(1.0, "The same, at most (ours; 0.7 is one reading of the paper).", least=0, most=1)
    min_area: float = flag(
        0.005, "Share of the picture, where it is seen (ours; 0.3 is another reading).", least=0, most=1
    )
    max_area: float = flag(0.7, "The same, at most (the paper's).", least=0, most=1)
    max_unsure: float = flag(0.25, "Share of frames in which the tracker may be unsure (ours).", least=0, most=1)

    min_moving: float = flag(
        0.65,
        "Share of what was found because it moves that has to do so wherever it was tracked to (ours).",
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        if self.words and self.tagger != "none":
            raise InputError(f"--words: expected none with --tagger {self.tagger}, got {self.words!r}")

    def rules(self) -> dict[str, float]:
        """The thresholds, which decide nothing about the masks."""
        return {name: value for name, value in asdict(self).items() if name not in _WHAT_IS_FOUND}


class ObjectStage(Stage):
    """Makes a row of each object of a clip (`mask_id`)."""

    name = "objects"
    inputs = ("objects",)
    outputs = ("mask_id", *MEASURES)
    splits = True

    def settings(self) -> Mapping[str, Any]:
        return {"version": 1}

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        return [{"mask_id": number, **about} for number, about in enumerate(row["objects"], start=1)]


class RuleStage(Stage):
    """The paper's rules, on what was measured."""

    name = "rules"
    inputs = MEASURES
    outputs = ()

    def __init__(self, options: ObjectRuleOptions) -> None:
        self.options = options

    def settings(self) -> Mapping[str, Any]:
        return {"version": 1, **self.options.rules()}

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        options = self.options
        for kind, fails, name in (
            ("seldom seen", row["presence"] < options.min_presence, "presence"),
            ("seen too much", row["presence"] > options.max_presence, "presence"),
            ("small", row["area"] < options.min_area, "area"),
            ("large", row["area"] > options.max_area, "area"),
            ("area jumps", row["area_change"] >= options.max_area_change, "area_change"),
            ("track unsure", row["unsure"] > options.max_unsure, "unsure"),
            ("does not move", row["moving"] is not None and row["moving"] < options.min_moving, "moving"),
        ):
            if fails:
                raise RowDropped(kind, f"{name} {row[name]:.3f}")
        return [{}]


def areas_of(masks: Path, count: int) -> list[dict[str, Any]]:
    """Of ids 1 to `count`: `presence` (share of frames), mean `area` where seen (of the picture), `area_change`."""
    ids = IdArray(masks)
    areas = np.zeros((len(ids), count))
    for number, frame in enumerate(ids.all()):
        areas[number] = np.bincount(frame.ravel(), minlength=count + 1)[1 : count + 1] / frame.size
    return [
        {
            "presence": round(float((area > 0).mean()), 4),
            "area": round(float(area[area > 0].mean()) if area.any() else 0.0, 5),
            "area_change": round(area_change(area), 4),
        }
        for area in areas.T
    ]


def area_change(areas: np.ndarray) -> float:
    """The largest change of `areas` (T,) between neighbours, as a share; see the module's text."""
    if not areas.any() or len(areas) < 2:
        return 0.0
    usual = np.maximum(np.maximum(areas[1:], areas[:-1]), np.median(areas[areas > 0]))
    return float((np.abs(np.diff(areas)) / usual).max())
