"""What can be wrong with a row, and how bad that is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemKind:
    """bad: the row cannot be used; else it can, but somebody should know."""

    about: str
    bad: bool


BAD_ROW = "bad row"
DUPLICATE = "duplicate row"
SHARED = "in several sets"
SHORT_CAPTION = "short caption"
NO_VIDEO = "no video"
NO_MASKS = "no masks"
VIDEO_UNREADABLE = "video unreadable"
MASKS_UNREADABLE = "masks unreadable"
LENGTHS = "mask length differs"
SIZES = "mask size differs"
OTHER_SIZE = "masks of another size"
ID_ABSENT = "id absent"
MASKS_EMPTY = "masks empty"
RANGE = "range outside"
TOO_SHORT = "too short to train"
RATE = "rate differs"

PROBLEMS: dict[str, ProblemKind] = {
    NO_VIDEO: ProblemKind("the video's file is not there", True),
    VIDEO_UNREADABLE: ProblemKind("the video is cut off, or does not decode", True),
    NO_MASKS: ProblemKind("all_masks.npz is not there", True),
    MASKS_UNREADABLE: ProblemKind("the masks are cut off, or no array of ids", True),
    LENGTHS: ProblemKind("there are not as many masks as frames", True),
    SIZES: ProblemKind("masks and frames have another shape", True),
    ID_ABSENT: ProblemKind("mask_id is in no mask of the row's frames", True),
    MASKS_EMPTY: ProblemKind("no mask of the sequence has a hole", True),
    RANGE: ProblemKind("the row begins behind the video's end, or ends before it begins", True),
    BAD_ROW: ProblemKind("a cell is not what it should be, or a sequence of DAVIS does not fit it", True),
    DUPLICATE: ProblemKind("an earlier row of this CSV has the same frames and id", False),
    SHARED: ProblemKind("the video is in a set to train on and in one to validate or test on", False),
    SHORT_CAPTION: ProblemKind("training leaves rows with so short a caption out", False),
    TOO_SHORT: ProblemKind("fewer frames than --max_num_frames at 8 per second take: training leaves it out", False),
    OTHER_SIZE: ProblemKind("masks are smaller or larger than the frames, of the same shape: they are resized", False),
    RATE: ProblemKind("the CSV's rate is not the file's, also not rounded", False),
}


@dataclass(frozen=True, order=True)
class Finding:
    """One problem of one row of one CSV."""

    csv: str
    row: int
    path: str
    problem: str
    detail: str

    @property
    def bad(self) -> bool:
        """Whether the row cannot be used."""
        return PROBLEMS[self.problem].bad
