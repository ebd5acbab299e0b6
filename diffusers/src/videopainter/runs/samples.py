"""Which clips a run works on: one's own files, or rows of a benchmark CSV."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
from tqdm import tqdm

from videopainter.data.clip import Clip, FrameSource, MaskSource, PickedFrames, notes_of, times_of
from videopainter.data.masks.opening import check_not_empty, open_masks
from videopainter.data.masks.views import DilatedMasks, InvertedMasks, PlacedMasks, ShapedMasks, UnitedMasks
from videopainter.data.rates import parse_fps, resample
from videopainter.data.records import RecordTable, mask_files, open_clip, parse_sample_ids
from videopainter.data.resized import parse_size, resized
from videopainter.data.video.pictures import check_gif, holds_sound
from videopainter.data.video.sound import plan_sound
from videopainter.errors import InputError
from videopainter.files import fingerprint
from videopainter.runs.options import ClipOptions, ModelOptions, PromptOptions, PropagationOptions, SamplingOptions
from videopainter.runs.processes import device_of
from videopainter.runs.results.manifest import Hasher
from videopainter.segmentation.choosing import SegmenterOptions
from videopainter.segmentation.making import MaskRequest, make_masks, mask_request
from videopainter.segmentation.prompts import FrameRange, ObjectOptions, parse_objects, parse_range

BENCHMARK_FPS = "8"
# What a clip of one's own video says of its place in there, as text.
OWN_START, OWN_STOP, OWN_FPS = "own_start", "own_stop", "own_fps"
_REMOVAL_GROWTH = 12 / 480  # of the shorter side: the object's soft edge


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip, not yet opened: `row` of the CSV (None for one's own files), `name`, and how to open it."""

    row: int | None
    name: str
    open: Callable[[], Clip]

    @property
    def label(self) -> str:
        return self.name if self.row is None else f"sample {self.row} ({self.name})"


def list_samples(
    clips: ClipOptions,
    prompts: PromptOptions,
    sampling: SamplingOptions,
    propagation: PropagationOptions | None = None,
    prompted: PromptedMasks | None = None,
) -> list[Sample]:
    """The samples asked for, in order, each once. Reads the CSV, opens no video.

    `propagation` may name a mask whose holes are added to those of one's own video, and have all of them grown;
    `prompted` makes the masks of one's own video where no --mask is given.

    Raises:
        InputError: neither or both of own files and CSV given, flags that belong to the other of the two, no such row.
    """
    _check_source(clips, prompted)
    propagation = propagation or PropagationOptions()
    affected = propagation.affected
    if clips.video is None:
        _refuse({"--affected": affected, "--propose_affected": propagation.propose_affected}, "--video")
    prepare = _preparation(clips, sampling, grown=propagation.remove)
    if clips.video is not None:
        video = Path(clips.video)
        name = video.name if video.is_dir() else video.stem
        return [Sample(row=None, name=name, open=lambda: prepare(_open_files(clips, prompts, affected, prompted)))]
    assert clips.inpainting_mask_meta is not None and clips.inpainting_sample_id is not None
    table = RecordTable(clips.inpainting_mask_meta)
    rows = parse_sample_ids(clips.inpainting_sample_id, len(table))
    return [
        Sample(row=row, name=_row_name(table, row), open=lambda row=row: prepare(_open_row(table, clips, prompts, row)))
        for row in rows
    ]


def silent(sample: Sample) -> Sample:
    """The same sample without its sound."""
    return replace(sample, open=lambda: replace(sample.open(), sound=None))


def _row_name(table: RecordTable, row: int) -> str:
    values = table.row(row)
    return values["Video_Name"] if table.is_davis else Path(values["path"]).stem.removesuffix(".0")


def _check_source(clips: ClipOptions, prompted: PromptedMasks | None) -> None:
    if (clips.video is None) == (clips.inpainting_mask_meta is None):
        both = "both came" if clips.video is not None else "neither came"
        raise InputError(f"expected --video FILE with --mask FILE or --box, or --inpainting_mask_meta CSV: {both}")
    if clips.video is not None:
        if not clips.video:
            raise InputError("--video: expected a file or a folder of images, got an empty name")
        if clips.mask is None and prompted is None:
            raise InputError(
                f"--video needs --mask (what is white is painted), or --box, --point or --text: {clips.video}"
            )
        if clips.mask is not None and prompted is not None:
            raise InputError(f"expected --mask or what to mask (--{next(iter(prompted.what.given()))}), got both")
        if prompted is not None:
            _refuse({"--mask_id": clips.mask_id, "--four_valued_mask": clips.four_valued_mask or None}, "--mask")
            parse_objects(prompted.what)
        wrong = {
            "--inpainting_sample_id": clips.inpainting_sample_id,
            "--image_or_video_path": clips.image_or_video_path,
        }
        _refuse(wrong, "a benchmark CSV (--inpainting_mask_meta)")
    else:
        _refuse({"--mask": clips.mask, "--mask_id": clips.mask_id, "--range": clips.range}, "--video")
        if prompted is not None:
            _refuse({f"--{name}": value for name, value in prompted.what.given().items()}, "--video")
        if clips.inpainting_sample_id is None:
            raise InputError(
                "--inpainting_sample_id: expected rows (0 5 7-12) or all with --inpainting_mask_meta, got none"
            )
    parse_fps(clips.video_fps, "--video_fps")
    parse_fps(clips.down_sample_fps or "0", "--down_sample_fps")


def _refuse(flags: dict[str, object], owner: str) -> None:
    for name, value in flags.items():
        if value is not None:
            raise InputError(f"{name}: expected {owner} with it, got none")


def _open_files(
    clips: ClipOptions, prompts: PromptOptions, affected: str | None, prompted: PromptedMasks | None
) -> Clip:
    assert clips.video is not None
    video = Path(clips.video)
    given = [Path(name) for name in (clips.mask, affected) if name is not None]

    def masks_for(frames: FrameSource) -> MaskSource:
        span = parse_range(clips.range, len(frames), video)
        parts = [_masks_in(frames, span, path, clips, own=k == 0) for k, path in enumerate(given)]
        if prompted is not None:
            parts.insert(0, PlacedMasks(prompted.masks(frames, span, video), span.start, len(frames)))
        return parts[0] if len(parts) == 1 else UnitedMasks(*parts)

    clip = open_clip(
        video,
        masks_for,
        prompt=prompts.prompt or "",
        image_prompt=prompts.image_prompt or "",
        folder_fps=clips.video_fps,
    )
    clip = replace(clip, files=(*clip.files, *(file for path in given for file in mask_files(path))))
    if prompted is not None:
        clip = replace(clip, details={**clip.details, "segmenter": prompted.identity})
    span = parse_range(clips.range, len(clip), video)
    # In the video's own frames, whatever rate the clip is brought to.
    ids = {"mask_id": " ".join(map(str, clips.mask_id))} if clips.mask_id else {}
    place = {OWN_START: str(span.start), OWN_STOP: str(span.stop), OWN_FPS: str(clip.fps)}
    clip = replace(clip, details={**clip.details, **ids, **place})
    return clip if len(span) == len(clip) else clip.cut(span.start, span.stop)


def _masks_in(frames: FrameSource, span: FrameRange, path: Path, clips: ClipOptions, *, own: bool) -> MaskSource:
    """Masks for all frames from a file that has as many, or as many as `span`; `own`: it is --mask."""
    own = own and clips.mask is not None
    ids, four = (clips.mask_id or [None], clips.four_valued_mask) if own else ([None], False)

    def opened(frames: FrameSource) -> MaskSource:
        each = [open_masks(path, frames=frames, mask_id=mask_id, four_valued=four) for mask_id in dict.fromkeys(ids)]
        return reduce(UnitedMasks, each)

    if len(span) == len(frames):
        return opened(frames)
    part = PickedFrames(frames, np.arange(span.start, span.stop))
    try:
        masks = opened(part)
    except InputError:
        return opened(frames)
    return PlacedMasks(masks, span.start, len(frames))


@dataclass(kw_only=True)
class PromptedMasks:
    """Masks of one's own video from clicks, boxes or words, made once and kept in `folder` with what was said.

    What was said about which video has a folder of its own in there: a run that reads its masks all the while keeps
    them, whatever another one is told. `device` as --device.
    """

    what: ObjectOptions
    who: SegmenterOptions
    folder: Path
    device: str | None = None
    quiet: bool = False
    identity: str = ""  # who made them; known once they are made
    _made: MaskSource | None = None

    def masks(self, frames: FrameSource, span: FrameRange, video: Path) -> MaskSource:
        """The masks of frames `span`. InputError for prompts that do not fit, or point at nothing."""
        if self._made is None:
            request = mask_request(self.what, self.who, frames=frames, span=span, video=video)
            folder = self.folder / _digest(request, video)
            with tqdm(total=0, unit="frame", desc="masks", disable=True if self.quiet else None) as bar:

                def show(count: int, total: int) -> None:
                    bar.total, bar.n = total, count
                    bar.refresh()

                try:
                    session = make_masks(
                        *(request, folder, frames, video),
                        device=self._device(request),
                        patience=float("inf"),
                        anew=True,
                        progress=show,
                    )
                finally:
                    with suppress(OSError):  # only where nothing is in it
                        self.folder.rmdir()
            self._made, self.identity = session.masks(), session.makers
            del session
            request.choice.unload()
        return self._made

    def _device(self, request: MaskRequest) -> str | None:
        """Where models run: as all of a run's, which several processes share out."""
        if request.choice.segmenter is None and request.choice.finder is None:
            return None
        return device_of(ModelOptions(device=self.device))


def _digest(request: MaskRequest, video: Path) -> str:
    """What was said about which video, in eight digits. A result's stamp asks for the video's hash anyway."""
    said = asdict(request)
    return fingerprint(said | {"video": sorted(Hasher().files([video]).values())})[:8]


def _open_row(table: RecordTable, clips: ClipOptions, prompts: PromptOptions, row: int) -> Clip:
    clip = table.open(row, data_root=clips.image_or_video_path, folder_fps=clips.video_fps)
    return replace(
        clip,
        prompt=clip.prompt if prompts.prompt is None else prompts.prompt,
        image_prompt=clip.image_prompt if prompts.image_prompt is None else prompts.image_prompt,
    )


def _preparation(clips: ClipOptions, sampling: SamplingOptions, *, grown: bool) -> Callable[[Clip], Clip]:
    """What happens to every opened clip: rate, length, and the final hole."""
    is_row = clips.video is None
    fps = clips.down_sample_fps or (BENCHMARK_FPS if is_row else "0")
    most = clips.inpainting_frames if is_row and not clips.long_video else None
    to_size = parse_size(clips.resize_to, "--resize_to") if clips.resize_to else None

    def prepare(clip: Clip) -> Clip:
        clip = resample(clip, fps)
        if most is not None and len(clip) > most:
            clip = clip.cut(0, most)
        if to_size is not None:
            clip = resized(clip, *to_size)
        masks = shaped_hole(clip.masks, shape=clips.mask_shape, inverted=sampling.mask_background)
        check_not_empty(masks, clip.name)
        size = clips.dilate_size or (removal_growth(masks.height, masks.width) if grown else 0)
        return clip.with_masks(DilatedMasks(masks, size) if size > 1 else masks)

    return prepare


def shaped_hole(masks: MaskSource, *, shape: str, inverted: bool) -> MaskSource:
    """The hole before it is grown: `shape` as --mask_shape, `inverted` as --mask_background."""
    shaped = masks if shape == "exact" else ShapedMasks(masks, shape)
    return InvertedMasks(shaped) if inverted else shaped


def removal_growth(height: int, width: int) -> int:
    """Pixels by which a removal grows the hole of a video of that size where nobody says otherwise."""
    return round(min(height, width) * _REMOVAL_GROWTH)


def source_notes(clip: Clip, result: Path) -> list[str]:
    """What reading the clip and writing `result` changes beside the hole, and what becomes of the sound.

    InputError where the sound can neither be copied nor encoded, or a GIF would be too large.
    """
    check_gif(result, len(clip), clip.frames.height, clip.frames.width)
    notes = list(notes_of(clip.frames))
    if times_of(clip.frames) is not None:
        notes.append("frames do not come evenly, and keep their times")
    if clip.sound is not None:
        suffix = result.suffix.lower()
        note = plan_sound(clip.sound, suffix).note if holds_sound(result) else "left out, pictures have none"
        notes.append(f"sound: {note}")
    return notes
