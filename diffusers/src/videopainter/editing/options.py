"""The flags of `infer/edit.py`: those of `infer/inpaint.py`, and what is to be changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from videopainter.flags import flag
from videopainter.runs.options import INPAINT_COMMON, INPAINT_OPTIONS, InpaintOptions


@dataclass(kw_only=True)
class EditingOptions:
    """What is changed, in words."""

    _argument_group_name: ClassVar[str] = "editing"

    video_editing_instruction: list[str] | None = flag(  # noqa: RUF009
        None,
        'What to change: "change the red ball to a blue star"; several make a result each. Default: the row\'s '
        "Editing_instruction.",
        action="extend",
    )


EDIT_COMMON = ("video_editing_instruction", "llm_model", "image_prompt", "mask_shape", *INPAINT_COMMON)
EDIT_OPTIONS = (EditingOptions, *INPAINT_OPTIONS)


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """All flags of `infer/edit.py`."""

    editing: EditingOptions
    run: InpaintOptions
