"""Masks: which pixels of every frame are to be painted (True = hole), from whatever file holds them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from videopainter.data.clip import FrameSource, MaskSource, check_range
from videopainter.data.images import IMAGE_SUFFIXES, list_images, load_image
from videopainter.data.masks.ids import ARRAY_SUFFIXES, IdArray, open_id_array, pick_id, unique_ids
from videopainter.data.masks.looks import look_note
from videopainter.data.masks.views import ResizedMasks
from videopainter.data.reshape import is_same_shape
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError

# A hole is what is lighter than mid-grey.
_THRESHOLD = 127
# Of four values (0 object, 63 overlap, 127 affected, 255 kept) all but the last are.
_KEPT = 191
_SCAN = 16


def open_masks(
    path: Path | str,
    *,
    frames: FrameSource,
    mask_id: int | None = None,
    any_id: bool = False,
    four_valued: bool = False,
) -> MaskSource:
    """Opens the masks of `frames`.

    - a video, or a folder of images, or one image for all frames: lighter than mid-grey = hole;
    - indexed PNGs (DAVIS annotations), or grey ones where `mask_id` is given: pixel == `mask_id` = hole;
    - `all_masks.npz` (`arr_0`: integer ids (T, H, W)), or .npy: id == `mask_id` = hole.
    Where ids are needed and none is given, the only one there is (0 is background) is taken;
    `any_id` takes all of them, as images of DAVIS are read. `four_valued`: a video or images of 0 object, 63 overlap,
    127 affected, 255 kept (VOID's); all but what is kept is the hole.

    Raises InputError where their number is not that of the frames (one image is for all), where their shape
    differs from the frames' by more than 2 % (other sizes are resized, see `ResizedMasks`), where `mask_id` does not
    occur, or the file cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"mask: expected a file or folder, got none at {path}")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in IMAGE_SUFFIXES:
        masks: MaskSource = ImageMasks(path, mask_id, any_id=any_id, four_valued=four_valued)
    elif suffix in ARRAY_SUFFIXES:
        _check_fit(IdArray(path), frames, path)  # by its header: what is packed in it can be of any size
        masks = open_id_array(path, mask_id)
    elif mask_id is not None:
        raise InputError(f"mask_id {mask_id}: expected a mask of ids (npz, npy, png), got a video, in {path}")
    else:
        masks = VideoMasks(path, four_valued=four_valued)
    if isinstance(masks, ImageMasks) and path.is_file():
        masks = RepeatedMask(masks, len(frames))
    _check_fit(masks, frames, path)
    if (masks.height, masks.width) == (frames.height, frames.width):
        return masks
    return ResizedMasks(masks, frames.height, frames.width)


def check_not_empty(masks: MaskSource, what: str) -> None:
    """InputError where no mask has a hole; stops reading at the first one. `what` names them in the message."""
    for start in range(0, len(masks), _SCAN):
        if masks.read(start, min(start + _SCAN, len(masks))).any():
            return
    raise InputError(
        f"mask: expected a hole (above {_THRESHOLD} of 255), got an empty mask in all {len(masks)} frames, in {what}"
    )


def _check_fit(masks: MaskSource | IdArray, frames: FrameSource, path: Path) -> None:
    """InputError where there are not as many masks as frames, or they are of another shape."""
    if len(masks) != len(frames):
        raise InputError(f"masks: expected {len(frames)}, as many as frames, got {len(masks)}, in {path}")
    if not is_same_shape(masks.height, masks.width, frames.height, frames.width):
        raise InputError(
            f"masks: expected the frames' shape, {frames.width}x{frames.height}, got {masks.width}x{masks.height}, "
            f"in {path}"
        )


class VideoMasks:
    """A video whose light pixels are the hole; `four_valued`: whose white ones are not."""

    def __init__(self, path: Path, *, four_valued: bool = False) -> None:
        self.frames, self._four_valued = VideoFrames(path), four_valued
        self.height, self.width = self.frames.height, self.frames.width

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def note(self) -> str:
        """What is odd about the first mask's pixels; empty where nothing is."""
        return "" if self._four_valued else look_note(self.frames.read(0, 1)[0])

    def read(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, self.height, self.width), bool)
        for k in range(start, stop):
            gray = cv2.cvtColor(self.frames.read(k, k + 1)[0], cv2.COLOR_RGB2GRAY)
            out[k - start] = gray < _KEPT if self._four_valued else gray > _THRESHOLD
        return out


class ImageMasks:
    """A folder of mask images, or one; light pixels, or those of one id, are the hole."""

    def __init__(self, path: Path, mask_id: int | None, *, any_id: bool = False, four_valued: bool = False) -> None:
        self.files, self._four_valued = list_images(path), four_valued
        first = load_image(self.files[0])
        self.width, self.height = first.size
        self.any_id = any_id
        self.mask_id = mask_id
        if not (any_id or four_valued) and (first.mode == "P" or mask_id is not None):
            self.mask_id = pick_id(mask_id, self._ids(mask_id), path)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def note(self) -> str:
        """What is odd about the first mask's pixels; empty where nothing is, or where they are ids."""
        ids = self.any_id or self.mask_id is not None or self._four_valued
        image = load_image(self.files[0])
        return "" if ids or image.mode.startswith("I") else look_note(np.asarray(image.convert("RGB")))

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self))
        out = np.empty((stop - start, self.height, self.width), bool)
        for k, file in enumerate(self.files[start:stop]):
            mask = self._mask(file)
            if mask.shape != (self.height, self.width):
                raise InputError(
                    f"masks: expected one size, {self.width}x{self.height} as {self.files[0].name}, "
                    f"got {mask.shape[1]}x{mask.shape[0]}, in {file}"
                )
            out[k] = mask
        return out

    def _mask(self, file: Path) -> np.ndarray:
        if self._four_valued:
            return np.asarray(load_image(file).convert("L")) < _KEPT
        if self.any_id:
            return self._ids_of(file) > 0
        if self.mask_id is not None:
            return self._ids_of(file) == self.mask_id
        return light_pixels(file)

    def _ids(self, wanted: int | None) -> set[int]:
        """The ids in the images, read until the wanted one turns up."""
        ids: set[int] = set()
        for file in self.files:
            ids |= unique_ids(self._ids_of(file))
            if wanted in ids:
                break
        return ids

    @staticmethod
    def _ids_of(file: Path) -> np.ndarray:
        pixels = np.asarray(load_image(file))
        if pixels.ndim != 2:
            raise InputError(f"masks: expected ids, one number per pixel, got colours, in {file}")
        return pixels


def light_pixels(file: Path | str) -> np.ndarray:
    """Which pixels of an image are lighter than the middle of its range; bool (H, W)."""
    image = load_image(file)
    if image.mode == "P":
        raise InputError(f"masks: expected one kind, as the first, got an indexed image, in {file}")
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:  # type: ignore[index]
        raise InputError(f"mask: expected white for the hole, got transparency, in {file}")
    if image.mode.startswith("I"):
        return np.asarray(image) > _THRESHOLD * 257
    return np.asarray(image.convert("L")) > _THRESHOLD


class RepeatedMask:
    """One mask for `length` frames."""

    def __init__(self, mask: MaskSource, length: int) -> None:
        self.source, self.height, self.width = mask, mask.height, mask.width
        self._mask, self._length = mask.read(0, 1), length

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, self._length)
        return np.repeat(self._mask, stop - start, axis=0)
