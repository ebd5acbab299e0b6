"""The flags of `data_utils/segment.py`, and the run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from videopainter.cli.door import parse_options
from videopainter.data.images import write_image
from videopainter.data.video.reader import open_video
from videopainter.errors import InputError
from videopainter.flags import flag, switch
from videopainter.segmentation.choosing import SegmenterOptions
from videopainter.segmentation.making import make_masks, mask_request
from videopainter.segmentation.output import check_output, write_masks
from videopainter.segmentation.prompts import ObjectOptions, parse_range
from videopainter.segmentation.session import Session

DESCRIPTION = (
    "Masks of objects, tracked through a video from boxes, clicks, strokes or words. A box is the best start; "
    "prompts on later frames correct what was tracked. An interrupted run goes on where it was."
)
_SHEET = 8  # frames on a contact sheet


@dataclass(kw_only=True)
class SegmentOptions:
    """Which video, and where the masks go."""

    _argument_group_name: ClassVar[str] = "video and output"

    video: str | None = flag(None, "A video file, or a folder of images.")
    output: str = flag(
        "masks.npz", "masks.npz keeps the objects' ids; .mp4, .mkv, .mov or a folder of PNGs is white where any is."
    )
    range: str | None = flag(None, "START:STOP: these frames alone (the masks' frame 0 is START). Default: all.")
    session: str | None = flag(
        None, "Folder that keeps prompts, masks and confidence between runs. Default: OUTPUT.segmentation."
    )
    contact_sheet: bool = switch(False, "Also write OUTPUT.png, some frames with the masks on them.")
    device: str | None = flag(None, "cpu, cuda or cuda:N, for models. Default: a GPU if there is one.")
    quiet: bool = switch(False, "No progress bar.")


SEGMENT_OPTIONS = (SegmentOptions, ObjectOptions, SegmenterOptions)


def segment(argv: Sequence[str] | None = None) -> int:
    """Make the masks that the flags ask for; the exit code.

    Raises:
        InputError: for what does not fit, before anything is written.
    """
    options, what, who = parse_options(SEGMENT_OPTIONS, argv, description=DESCRIPTION)
    if options.video is None:
        raise InputError("--video: expected a video file or a folder of images, got none")
    output = Path(options.output)
    check_output(output)
    frames = open_video(options.video)
    span = parse_range(options.range, len(frames), options.video)
    request = mask_request(what, who, frames=frames, span=span, video=options.video)
    folder = Path(options.session or f"{output}.segmentation")
    started = time.perf_counter()
    with tqdm(total=len(span) * len(request.objects), unit="frame", disable=True if options.quiet else None) as bar:

        def show(count: int, total: int) -> None:
            bar.n = count
            bar.refresh()

        session = make_masks(request, folder, frames, options.video, device=options.device, progress=show)
    masks = session.masks()
    write_masks(output, lambda k: masks.ids(span.start + k), len(span), frames.fps)
    if options.contact_sheet:
        write_image(output.with_name(output.name + ".png"), masks_sheet(session))
    print(report(session, output, time.perf_counter() - started))
    return 0


def masks_sheet(session: Session) -> np.ndarray:
    """Some frames with their masks, in two rows, uint8 RGB."""
    numbers = np.linspace(session.span.start, session.span.stop - 1, _SHEET).round().astype(int)
    tiles = [session.preview(int(number)) for number in numbers]
    half = _SHEET // 2
    return np.concatenate([np.concatenate(row, axis=1) for row in (tiles[:half], tiles[half:])], axis=0)


def report(session: Session, output: Path, seconds: float) -> str:
    """What was made, and which frames to look at, for people."""
    lines = [f"{output}: {len(session.span)} frames, {len(session.objects)} object(s), {seconds:.1f} s"]
    for number in session.objects:
        records = [
            r for r in session.store(number).records.values() if session.span.start <= r.frame < session.span.stop
        ]
        unsure = [record.frame for record in session.flagged(number)]
        absent = sum(record.state == "absent" for record in records)
        shown = ", ".join(map(str, unsure[:12])) + (", ..." if len(unsure) > 12 else "")
        lines.append(
            f"  object {number}: absent in {absent} frames, unsure in {len(unsure)}" + (f": {shown}" * bool(unsure))
        )
    return "\n".join(lines)
