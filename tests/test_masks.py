"""Masks from every kind of file, and what is refused."""

from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.masks.opening import check_not_empty, open_masks
from videopainter.data.masks.views import DilatedMasks, InvertedMasks
from videopainter.data.panels import contact_sheet, side_by_side
from videopainter.data.video.reader import VideoWriter, read_image, write_image
from videopainter.errors import InputError

COUNT, HEIGHT, WIDTH = 7, 30, 44
FRAMES = ArrayFrames(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8), fps=8)


@pytest.fixture
def holes() -> np.ndarray:
    """A moving box; the first frame has none."""
    masks = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    for k in range(1, COUNT):
        masks[k, 6:16, 4 * k : 4 * k + 12] = True
    return masks


@pytest.fixture
def ids(holes: np.ndarray) -> np.ndarray:
    """The box as id 3, another one as id 7."""
    ids = holes.astype(np.int32) * 3
    ids[:, 20:25, 5:9] = 7
    return ids


def save_pngs(folder: Path, images: np.ndarray, mode: str | None = None) -> Path:
    folder.mkdir()
    for k, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        if mode == "P":
            image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] * 3)
        image.save(folder / f"{k:05d}.png")
    return folder


def all_of(masks) -> np.ndarray:
    return masks.read(0, len(masks))


def test_a_mask_video_is_a_hole_where_it_is_light(holes: np.ndarray, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "mask.mp4", fps=8, crf=8) as writer:
        writer.write(np.repeat(holes[..., None], 3, axis=3).astype(np.uint8) * 255)
    masks = open_masks(tmp_path / "mask.mp4", frames=FRAMES)
    np.testing.assert_array_equal(all_of(masks), holes)
    np.testing.assert_array_equal(masks.read(2, 4), holes[2:4])
    with pytest.raises(InputError, match=r"expected a mask of ids .*, got a video"):
        open_masks(tmp_path / "mask.mp4", frames=FRAMES, mask_id=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.bool_])
def test_a_folder_of_masks(dtype: type, holes: np.ndarray, tmp_path: Path) -> None:
    white = {np.uint8: 255, np.uint16: 65535, np.bool_: True}[dtype]
    folder = save_pngs(tmp_path / "masks é", (holes * white).astype(dtype))
    np.testing.assert_array_equal(all_of(open_masks(folder, frames=FRAMES)), holes)


def test_indexed_images_hold_ids(ids: np.ndarray, holes: np.ndarray, tmp_path: Path) -> None:
    """Their colours are dark (DAVIS red is 38 of 255 in grey) and would read as no hole at all."""
    folder = save_pngs(tmp_path / "annotations", ids.astype(np.uint8), mode="P")
    np.testing.assert_array_equal(all_of(open_masks(folder, frames=FRAMES, mask_id=3)), holes)
    np.testing.assert_array_equal(all_of(open_masks(folder, frames=FRAMES, any_id=True)), ids > 0)
    with pytest.raises(InputError, match="one of 3, 7"):
        open_masks(folder, frames=FRAMES)
    one = save_pngs(tmp_path / "one", (holes * 2).astype(np.uint8), mode="P")
    np.testing.assert_array_equal(all_of(open_masks(one, frames=FRAMES)), holes)
    grey = save_pngs(tmp_path / "grey", ids.astype(np.uint8))
    np.testing.assert_array_equal(all_of(open_masks(grey, frames=FRAMES, mask_id=7)), ids == 7)


def test_one_image_is_for_all_frames(holes: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "mask.png", holes[3].astype(np.uint8) * 255)
    masks = open_masks(tmp_path / "mask.png", frames=FRAMES)
    np.testing.assert_array_equal(all_of(masks), np.repeat(holes[3:4], COUNT, axis=0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int16, ">u4"])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_an_array_of_ids(dtype: str, suffix: str, ids: np.ndarray, holes: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / f"all_masks{suffix}"
    (np.savez_compressed if suffix == ".npz" else np.save)(file, ids.astype(dtype))
    np.testing.assert_array_equal(all_of(open_masks(file, frames=FRAMES, mask_id=3)), holes)
    np.testing.assert_array_equal(open_masks(file, frames=FRAMES, mask_id=7).read(2, 5), ids[2:5] == 7)
    with pytest.raises(InputError, match="mask_id: expected one of 3, 7, got 5"):
        open_masks(file, frames=FRAMES, mask_id=5)
    with pytest.raises(InputError, match="mask_id: expected one of 3, 7, got none"):
        open_masks(file, frames=FRAMES)


def test_the_only_id_needs_no_name(holes: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", holes)
    np.testing.assert_array_equal(all_of(open_masks(tmp_path / "a.npz", frames=FRAMES)), holes)


def test_a_large_array_is_never_held_whole(tmp_path: Path) -> None:
    """256 frames of int64 ids are 400 MB as an array; one frame is 1.6 MB."""
    import tracemalloc

    frame = np.zeros((400, 500), np.int64)
    frame[10:200, 50:300] = 2
    with (
        zipfile.ZipFile(tmp_path / "big.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "<i8", "fortran_order": False, "shape": (256, *frame.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(256):
            file.write(frame.tobytes())
    tracemalloc.start()
    masks = open_masks(tmp_path / "big.npz", frames=_Blank(256, *frame.shape), mask_id=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    np.testing.assert_array_equal(masks.read(255, 256)[0], frame == 2)


class _Blank:
    """Frames that are only counted."""

    fps = Fraction(8)

    def __init__(self, count: int, height: int, width: int) -> None:
        self.count, self.height, self.width = count, height, width

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> np.ndarray:
        raise NotImplementedError


def test_arrays_that_are_none(ids: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "names.npz", first=ids, second=ids)
    np.savez(tmp_path / "float.npz", ids.astype(np.float32))
    np.savez(tmp_path / "flat.npz", ids[0])
    np.savez(tmp_path / "object.npz", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "fortran.npz", np.asfortranarray(ids))
    np.savez(tmp_path / "zeros.npz", ids * 0)
    np.savez(tmp_path / "whole.npz", ids)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:2000])
    np.save(tmp_path / "whole.npy", ids)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:9000])
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "text.npy").write_text("hello")
    for name, expected in {
        "names.npz": "holds first, second",
        "float.npz": "float32",
        "flat.npz": r"int32 \(30, 44\)",
        "object.npz": "object",
        "fortran.npz": "Fortran",
        "zeros.npz": "no id but 0",
        "cut.npz": "cut off",
        "cut.npy": "expected 7 frames, got an array cut off at frame 1",
        "text.npz": "expected a whole array file",
        "text.npy": "expected a numpy array",
    }.items():
        with pytest.raises(InputError, match=expected) as error:
            open_masks(tmp_path / name, frames=FRAMES, mask_id=3)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_number_and_shape_must_fit(holes: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "short.npz", holes[:4])
    with pytest.raises(InputError, match=r"expected 7, as many as frames, got 4, in .*short\.npz"):
        open_masks(tmp_path / "short.npz", frames=FRAMES)
    np.savez(tmp_path / "square.npz", holes[:, :, :30])
    with pytest.raises(InputError, match="expected the frames' shape, 44x30, got 30x30"):
        open_masks(tmp_path / "square.npz", frames=FRAMES)
    np.savez(tmp_path / "double.npz", holes.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(all_of(open_masks(tmp_path / "double.npz", frames=FRAMES)), holes)
    save_pngs(tmp_path / "mixed", (holes * 255).astype(np.uint8))
    write_image(tmp_path / "mixed" / "00005.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(InputError, match=r"got 20x20, in .*00005\.png"):
        all_of(open_masks(tmp_path / "mixed", frames=FRAMES))
    with pytest.raises(InputError, match="mask: expected a file or folder, got none"):
        open_masks(tmp_path / "none.png", frames=FRAMES)


@pytest.mark.parametrize(("height", "width"), [(20, 29), (45, 66), (15, 22)])
def test_masks_of_another_size_cover_all_that_the_hole_covers(height: int, width: int, tmp_path: Path) -> None:
    """A hole pixel of the file may lie over several pixels of a frame: each of them is in the hole."""
    random = np.random.default_rng(0).random((COUNT, HEIGHT, WIDTH)) < 0.05
    frames = ArrayFrames(np.zeros((COUNT, height, width, 3), np.uint8), fps=8)
    fitted = all_of(open_masks(save_pngs(tmp_path / "masks", random.astype(np.uint8) * 255), frames=frames))
    for number, y, x in np.argwhere(random):
        rows = slice(y * height // HEIGHT, -(-(y + 1) * height // HEIGHT))
        columns = slice(x * width // WIDTH, -(-(x + 1) * width // WIDTH))
        assert fitted[number, rows, columns].all()


def test_transparency_is_no_mask(holes: np.ndarray, tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., 3] = ~holes[3] * 255
    write_image(tmp_path / "mask.png", pixels)
    with pytest.raises(InputError, match="got transparency"):
        all_of(open_masks(tmp_path / "mask.png", frames=FRAMES))
    pixels[..., 3], pixels[..., :3] = 255, holes[3][..., None] * 255
    write_image(tmp_path / "mask.png", pixels)
    np.testing.assert_array_equal(open_masks(tmp_path / "mask.png", frames=FRAMES).read(0, 1)[0], holes[3])


def test_empty_masks_are_found_and_the_search_stops_at_the_first_hole(holes: np.ndarray) -> None:
    check_not_empty(ArrayMasks(holes), "m")
    with pytest.raises(InputError, match=r"empty mask in all 7 frames, in my mask"):
        check_not_empty(ArrayMasks(holes & False), "my mask")

    class Counting(ArrayMasks):
        most = 0

        def read(self, start: int, stop: int) -> np.ndarray:
            self.most = max(self.most, stop)
            return super().read(start, stop)

    masks = Counting(np.ones((500, 2, 2), bool))
    check_not_empty(masks, "m")
    assert masks.most < 50


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_dilation_is_a_square(size: int) -> None:
    point = np.zeros((1, 31, 31), bool)
    point[0, 15, 15] = True
    grown = DilatedMasks(ArrayMasks(point), size).read(0, 1)[0]
    ys, xs = np.nonzero(grown)
    assert grown.sum() == size * size
    assert (np.ptp(ys) + 1, np.ptp(xs) + 1) == (size, size)
    assert abs(ys.mean() - 15) <= 0.5


def test_other_masks_made_of_masks(holes: np.ndarray) -> None:
    masks = ArrayMasks(holes)
    for nothing in (0, -3):
        np.testing.assert_array_equal(DilatedMasks(masks, nothing).read(0, COUNT), holes)
    np.testing.assert_array_equal(InvertedMasks(masks).read(1, 3), ~holes[1:3])
    point = np.zeros((1, 21, 21), bool)
    point[0, 10, 10] = True
    cross = DilatedMasks(ArrayMasks(point), 3, shape="cross", times=4).read(0, 1)[0]
    y, x = np.mgrid[:21, :21]
    np.testing.assert_array_equal(cross, abs(y - 10) + abs(x - 10) <= 4)


# -- pictures to judge by


def test_side_by_side_shows_all_four(holes: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    frames, result = generator.integers(1, 256, (2, COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    row = side_by_side(frames, holes, result)
    assert row.shape == (COUNT, HEIGHT, 4 * WIDTH, 3)
    original, masked, mask, last = np.split(row, 4, axis=2)
    np.testing.assert_array_equal(original, frames)
    np.testing.assert_array_equal(last, result)
    np.testing.assert_array_equal(masked[holes], 0)
    np.testing.assert_array_equal(masked[~holes], frames[~holes])
    np.testing.assert_array_equal(mask[..., 0] > 127, holes)
    labelled = side_by_side(frames, holes, result, labels=True)
    assert labelled.shape[1] % 2 == 0
    np.testing.assert_array_equal(labelled[:, -HEIGHT:], row)
    with pytest.raises(ValueError, match="expected equal sizes"):
        side_by_side(frames, holes, result[:3])


def test_contact_sheet_enlarges_what_is_small(holes: np.ndarray, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    contact_sheet({"original": frames, "mask": holes[:3]}, tmp_path / "new" / "sheet.png", min_height=100)
    sheet = read_image(tmp_path / "new" / "sheet.png")
    factor = 4  # 30 pixels to at least 100
    assert sheet.shape[1] == 2 * WIDTH * factor + 4
    head = sheet.shape[0] - 3 * HEIGHT * factor - 2 * 4
    assert head > 10
    assert sheet[:head].min() < 100, "labels are drawn"
    tile = sheet[head : head + HEIGHT * factor, : WIDTH * factor]
    np.testing.assert_array_equal(tile[::factor, ::factor], frames[0])
    with pytest.raises(ValueError, match="equally many"):
        contact_sheet({"a": frames, "b": frames[:1]}, tmp_path / "x.png")
    with pytest.raises(InputError, match=r"\.png"):
        contact_sheet({"a": frames}, tmp_path / "x.jpg")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["sheet.png"]
