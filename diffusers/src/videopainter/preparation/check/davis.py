"""Sequences of DAVIS: folders of images and of masks."""

from __future__ import annotations

from videopainter.data.records import RecordTable
from videopainter.errors import InputError
from videopainter.preparation.check.problems import BAD_ROW, DUPLICATE, MASKS_EMPTY, VIDEO_UNREADABLE, Finding


def check_davis(table: RecordTable) -> list[Finding]:
    """What is wrong with the rows of a table: folders that are missing or do not fit, images that cannot be read."""
    found = []
    first: dict[str, int] = {}
    for number in range(len(table)):
        name = table.row(number)["Video_Name"]
        if first.setdefault(name, number) != number:
            found.append(Finding(table.csv.name, number, name, DUPLICATE, f"the same as row {first[name]}"))
            continue
        found += [Finding(table.csv.name, number, name, *problem) for problem in _problems(table, number)]
    return found


def _problems(table: RecordTable, number: int) -> list[tuple[str, str]]:
    try:
        clip = table.open(number)
    except InputError as error:
        return [(BAD_ROW, str(error))]
    try:
        has_hole = False
        for at in range(len(clip)):
            clip.frames.read(at, at + 1)
            has_hole = bool(clip.masks.read(at, at + 1).any()) or has_hole
    except (InputError, OSError) as error:
        return [(VIDEO_UNREADABLE, str(error))]
    return [] if has_hole else [(MASKS_EMPTY, f"in all {len(clip)} frames")]
