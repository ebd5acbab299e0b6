"""The words of a command line and some files -> the files that the script would have made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from videopainter.cli import edit as edit_door
from videopainter.cli import inpaint as inpaint_door
from videopainter.cli.door import parse_options
from videopainter.data.video.reader import open_video
from videopainter.editing.jobs import plan_edits
from videopainter.editing.jobs import with_captions as edit_captions
from videopainter.files import fingerprint
from videopainter.runs.first_frames import captioned
from videopainter.runs.making import make_results
from videopainter.runs.plan import plan_jobs
from videopainter.runs.results.manifest import manifest_path
from videopainter.runs.studio import LoadedPipeline
from videopainter.runs.watch import Watch
from videopainter.segmentation.choosing import SegmenterOptions
from videopainter.segmentation.making import make_masks, mask_request
from videopainter.segmentation.prompts import FrameRange, ObjectOptions

# Of the last run on a CPU: what follows with the same models finds them loaded.
_loaded = LoadedPipeline()


def segment(words: Sequence[str], video: Path, folder: Path, watch: Watch) -> torch.Tensor:
    """The masks of what the words point at, float (frames, height, width); kept in `folder` with how sure they are.

    Raises:
        InputError: prompts that do not fit, or point at nothing.
    """
    what, who = parse_options((ObjectOptions, SegmenterOptions), list(words))
    frames = open_video(video)
    span = FrameRange(start=0, stop=len(frames))
    request = mask_request(what, who, frames=frames, span=span, video="the images")
    place = folder / f"segmentation-{fingerprint([str(video.name), list(words)])[:16]}"

    def tell(done: int, total: int) -> None:
        watch.at("masks", done, total)

    session = make_masks(request, place, frames, "the images", anew=True, patience=float("inf"), progress=tell)
    masks = session.masks()
    made = torch.zeros(len(masks), masks.height, masks.width)
    for k in range(len(masks)):
        made[k] = torch.from_numpy(masks.read(k, k + 1)[0])
    return made


def inpaint(words: Sequence[str], video: Path, mask: Path, watch: Watch) -> tuple[Path, str]:
    """The result as a lossless video beside `video`, and its JSON; what is finished is not made again.

    Raises:
        InputError, ValueError: in one line, as `infer/inpaint.py`.
    """
    output, given = _files(words, video, mask)
    options = inpaint_door.read_options([*words, *given])
    with _models() as loaded:
        make_results(lambda: plan_jobs(options), options, captioned, watch=watch, loaded=loaded)
    return output, manifest_path(output).read_text(encoding="utf-8")


def edit(words: Sequence[str], video: Path, mask: Path, watch: Watch) -> tuple[Path, str]:
    """As `inpaint`, for `infer/edit.py`."""
    output, given = _files(words, video, mask)
    options = edit_door.read_options([*words, *given])
    with _models() as loaded:
        make_results(lambda: plan_edits(options), options.run, edit_captions, watch=watch, loaded=loaded)
    return output, manifest_path(output).read_text(encoding="utf-8")


@contextmanager
def _models() -> Iterator[LoadedPipeline]:
    """The models of the last run. On a GPU they are let go: ComfyUI frees its own there, and would find no room."""
    try:
        yield _loaded
    finally:
        if torch.cuda.is_initialized():
            _loaded.release()


def _files(words: Sequence[str], video: Path, mask: Path) -> tuple[Path, list[str]]:
    """Where the result of these words goes, and the flags for files."""
    name = fingerprint([video.name, mask.name, list(words)])[:16]
    output = video.with_name(f"result-{name}.mkv")
    given = {"video": video, "mask": mask, "output_path": output}
    return output, [*(f"--{key}={value}" for key, value in given.items()), "--lossless", "--overwrite", "--quiet"]
