"""What the numbers of a stored picture mean: matrix, primaries, transfer; by their codes in H.273 (ISO 23091-2)."""

from __future__ import annotations

from pathlib import Path

import av

from videopainter.errors import InputError

_UNKNOWN = {0, 2}
_BT2020 = 9  # primaries, and matrix of non-constant luminance
HDR = {16: "PQ", 18: "HLG"}
# Of what swscale reads rightly.
_MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}
_TAGS = {1: "bt709", 2: "unspecified", 5: "smpte170m", 6: "smpte170m"}
# What a result of each matrix is tagged with beside it, if the source says nothing else.
USUAL = {"bt709": 1, "smpte170m": 6, "unspecified": 2}


def matrix_tag(picture: av.VideoFrame) -> str:
    """The matrix that results have, as in `VideoTags.color`: the picture's, or BT.709 where that cannot be kept."""
    return _TAGS.get(int(picture.colorspace), "bt709")


def other_tags(picture: av.VideoFrame) -> tuple[int, int]:
    """(primaries, transfer) that results keep, 0 for what goes with the matrix."""
    if conversion_of(picture):
        return 0, 0
    usual = USUAL[matrix_tag(picture)]
    return _unless_usual(int(picture.color_primaries), usual), _unless_usual(int(picture.color_trc), usual)


def _unless_usual(code: int, usual: int) -> int:
    return 0 if code == usual or code in _UNKNOWN else code


def conversion_of(picture: av.VideoFrame) -> dict[str, str]:
    """Options of libavfilter's `scale` that bring the RGB of HDR and BT.2020 pictures to BT.709; none for others.

    HDR is mapped perceptually (swscale's tone curve, ITU-R BT.2408's white at 203 nits) from the brightness that the
    file says it was mastered for. What the file leaves open is what goes with the rest of it.
    """
    transfer, primaries = int(picture.color_trc), int(picture.color_primaries)
    if transfer not in HDR and primaries != _BT2020 and int(picture.colorspace) != _BT2020:
        return {}
    options = {"out_primaries": "bt709", "out_transfer": "bt709", "intent": "perceptual"}
    if primaries in _UNKNOWN:
        options["in_primaries"] = "bt2020"
    if transfer in _UNKNOWN:
        options["in_transfer"] = "bt2020-10"
    return options


def wide_matrix(picture: av.VideoFrame) -> dict[str, str]:
    """Options of `scale` that make RGB of such a picture, without other changes."""
    unknown = int(picture.colorspace) == 2 and not picture.format.is_rgb
    return {"in_color_matrix": "bt2020"} if unknown else {}


def color_note(picture: av.VideoFrame) -> str:
    """What reading changes in the colours, in a few words; "" for nothing."""
    if not conversion_of(picture):
        return ""
    kind = HDR.get(int(picture.color_trc))
    return f"HDR ({kind}) is tone-mapped to SDR, BT.709" if kind else "BT.2020 colours are converted to BT.709"


def check_color(picture: av.VideoFrame, path: Path) -> None:
    """InputError for a matrix that swscale would read as another one (ICtCp, constant luminance, XYZ)."""
    matrix = int(picture.colorspace)
    if matrix not in _MATRICES and not picture.format.is_rgb:
        raise InputError(
            f"colours: expected a matrix that can be read, got {matrix} of H.273; convert first, with "
            "ffmpeg -i IN -vf libplacebo=colorspace=bt709:color_primaries=bt709:color_trc=bt709,format=yuv420p OUT.mp4"
            f", in {path}"
        )
