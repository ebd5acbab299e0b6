"""The benchmark and the data set on the hub: which files are masks, captions and videos, and where they unpack."""

from __future__ import annotations

from dataclasses import dataclass

from videopainter.errors import InputError

SET_PARTS = ("masks", "captions", "videos")


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """A hub data set.

    files: {part: patterns of its files}
    unpack: {pattern of archives: folder below data/ that they unpack to}
    linked: Subsets whose raw videos are only linked to.
    """

    repo: str
    files: dict[str, tuple[str, ...]]
    unpack: dict[str, str]
    linked: tuple[str, ...] = ()


SETS: dict[str, PublishedSet] = {
    "vpbench": PublishedSet(
        repo="TencentARC/VPBench",
        files={
            "masks": ("video_inpainting.zip",),
            "captions": ("*.csv",),
            "videos": ("pexels.zip", "videovo.zip", "davis.zip"),
        },
        unpack={"*.zip": ""},
    ),
    "vpdata": PublishedSet(
        repo="TencentARC/VPData",
        files={
            "masks": ("videovo_masks/*.zip", "pexels_masks/*.zip"),
            "captions": ("*.csv",),
            "videos": ("videovo_raw_videos/*.zip",),
        },
        unpack={
            "videovo_masks/*": "video_inpainting/videovo",
            "pexels_masks/*": "video_inpainting/pexels",
            "videovo_raw_videos/*": "videovo/raw_video",
        },
        linked=("pexels",),
    ),
}


def parse_parts(text: str) -> list[str]:
    """ "masks,videos" as a list, in order; "" is all. InputError for what is none."""
    parts = text.replace(",", " ").split() or list(SET_PARTS)
    wrong = [part for part in parts if part not in SET_PARTS]
    if wrong:
        raise InputError(f"--part: expected {', '.join(SET_PARTS)}, got {wrong[0]!r}")
    return [part for part in SET_PARTS if part in parts]
