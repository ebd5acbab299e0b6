"""An evaluation as one folder for the browser: `index.html`, which needs no network, and the videos in `media/`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from videopainter.errors import InputError
from videopainter.files import replacing, to_json, write_text
from videopainter.metrics.catalog import METRICS
from videopainter.metrics.report.published import PublishedRow
from videopainter.metrics.report.summary import label_of
from videopainter.metrics.report.tables import (
    comparable,
    interval_text,
    label_text,
    left_out_by_reason,
    number_text,
    published_notes,
    summary_notes,
)
from videopainter.metrics.scores import VideoScores

ASSETS = Path(__file__).parent / "assets"
# What browsers play.
PLAYABLE = (".mp4", ".m4v", ".mov", ".webm")
_PLOT_DIGITS = 6


@dataclass(kw_only=True)
class PageVideo:
    """One video's players and plots; `index` and `name` as in the summary.

    players: label -> file, shown side by side in this order and played together.
    per_frame: metric key -> (T,) or, for pairs, (T - 1,); a plot each.
    fps: frames per second of the players.
    borders: frames on which a window begins, marked in the plots.
    outlines: SVG paths on a square of 1000 units, one a frame, that can be drawn over the players: the hole's outline.
    """

    index: int
    name: str
    players: Mapping[str, Path]
    per_frame: Mapping[str, np.ndarray] = field(default_factory=dict)
    fps: float = 8.0
    borders: Sequence[int] = ()
    outlines: Sequence[str] = ()

    @classmethod
    def of(cls, scores: VideoScores, players: Mapping[str, Path], **how: Any) -> PageVideo:
        """The players of a scored video; `how`: fps, borders, outlines."""
        return cls(index=scores.index, name=scores.name, players=players, per_frame=scores.per_frame, **how)


def write_page(
    folder: Path,
    summary: Mapping[str, Any],
    videos: Sequence[PageVideo],
    title: str,
    *,
    published: PublishedRow | None = None,
) -> Path:
    """Write the page and its media (hard links where the file system can, else copies); returns `index.html`.

    summary: of `summarise` or `load_summary`. Its videos that are not among `videos` have a row in the table alone.

    Raises:
        InputError: a player's file is missing or not one that browsers play, a video is not in the summary or there
            twice, or the folder cannot be written.
    """
    rows = {(row["index"], row["name"]): row for row in summary["videos"]}
    _check(videos, rows)
    try:
        (folder / "media").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"report: expected a folder that can be made, got {error.strerror or error}, in {folder / 'media'}"
        ) from None
    cards = [
        _card(folder, place, video, rows[video.index, video.name], summary["protocol"])
        for place, video in enumerate(videos)
    ]
    linked = {(video.index, video.name): card["anchor"] for video, card in zip(videos, cards, strict=True)}
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(ASSETS))
    text = environment.get_template("page.html").render(
        title=title,
        style=_asset("page.css"),
        script=_asset("page.js"),
        total=summary["total_videos"],
        published=published,
        metrics=_summary_rows(summary, published),
        notes=summary_notes(summary) + published_notes(summary, published),
        missing=_missing_rows(summary),
        left_out=_left_out(summary),
        columns=_columns(summary),
        rows=[_row(summary, row, linked.get((row["index"], row["name"]))) for row in summary["videos"]],
        cards=cards,
        run=to_json(summary["run"], indent=1),
    )
    write_text(folder / "index.html", text)
    return folder / "index.html"


def _check(videos: Sequence[PageVideo], rows: Mapping[tuple[int, str], Any]) -> None:
    counts = Counter((video.index, video.name) for video in videos)
    for video in videos:
        if (video.index, video.name) not in rows or counts[video.index, video.name] > 1:
            raise InputError(f"page: expected videos of the summary, each once, got {video.name!r} ({video.index})")
        if video.fps <= 0:
            raise InputError(f"page: expected more than 0 frames per second, got {video.fps} of {video.name!r}")
        for label, path in video.players.items():
            if path.suffix.lower() not in PLAYABLE:
                raise InputError(f"page: expected a video that browsers play ({', '.join(PLAYABLE)}), got {path}")
            if not path.is_file():
                raise InputError(f"page: expected a video for the player {label!r}, found no file {path}")


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


# Media


def _slug(text: str) -> str:
    """Of letters, digits, dots and dashes: safe as a file's name and in an address."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:60] or "video"


def _add_media(folder: Path, name: str, source: Path) -> str:
    """Put `source` under `media/`; its address on the page."""
    target = folder / "media" / name
    if not (target.exists() and target.samefile(source)):
        with replacing(target) as partial:
            try:
                os.link(source.resolve(), partial)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(source, partial)
    return f"media/{name}"


# What the template shows


def _label(metric: Mapping[str, Any]) -> str:
    # The arrow stays with the last word.
    return re.sub(" (?=[↑↓])", "\N{NO-BREAK SPACE}", label_text(metric))


def _summary_rows(summary: Mapping[str, Any], published: PublishedRow | None) -> list[dict[str, str]]:
    beside = comparable(summary, published)
    return [
        {
            "label": _label(metric),
            "about": metric["about"],
            "mean": number_text(metric["mean"], metric["digits"]),
            "interval": interval_text(metric),
            "videos": str(metric["videos"]),
            "published": number_text(beside.get(key), metric["digits"]),
        }
        for key, metric in summary["metrics"].items()
    ]


def _missing_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """What no video has a number of, for the end of the table."""
    return [
        {"label": label, "about": reason.partition("; fetch: ")[0]}
        for reason, labels in left_out_by_reason(summary)
        for label in labels
    ]


def _left_out(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Metrics by reason, the command that fetches weights apart (see `weights.absent`)."""
    found = []
    for reason, labels in left_out_by_reason(summary):
        why, _, fetch = reason.partition("; fetch: ")
        found.append({"labels": labels, "why": why, "fetch": fetch})
    return found


def _columns(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The metrics of which a video has a number."""
    said = {key for video in summary["videos"] for key in video["values"]}
    return [
        {"key": key, "label": _label(metric), "about": metric["about"]}
        for key, metric in summary["metrics"].items()
        if key in said
    ]


def _row(summary: Mapping[str, Any], video: Mapping[str, Any], anchor: str | None) -> dict[str, Any]:
    cells = []
    for column in _columns(summary):
        value = video["values"].get(column["key"])
        digits = summary["metrics"][column["key"]]["digits"]
        cells.append({"text": number_text(value, digits), "sort": "" if value is None else str(value)})
    return {"index": video["index"], "name": video["name"], "anchor": anchor, "cells": cells}


def _card(folder: Path, place: int, video: PageVideo, row: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    details, stem = row["details"], f"{place:04d}-{_slug(video.name)}"
    players = [
        {"label": label, "source": _add_media(folder, f"{stem}-{number}{path.suffix.lower()}", path)}
        for number, (label, path) in enumerate(video.players.items())
    ]
    height, width = details.get("height"), details.get("width")
    frames = details.get("frames") or max((len(values) for values in video.per_frame.values()), default=0)
    return {
        "anchor": f"video-{place}",
        "index": video.index,
        "name": video.name,
        "players": players,
        "ratio": f"{width} / {height}" if height and width else "auto",
        "frames": frames,
        "outlined": bool(video.outlines),
        "captions": [(what, details[key]) for key, what in _CAPTIONS.items() if details.get(key)],
        "facts": _facts(details, frames, video.fps),
        "data": json.loads(to_json(_plots(video, frames, protocol))),
    }


_CAPTIONS = {"prompt": "Video", "region_prompt": "Region"}


def _facts(details: Mapping[str, Any], frames: int, fps: float) -> str:
    facts = [f"{frames} frames at {fps:.4g} per second"]
    if details.get("height") and details.get("width"):
        facts.append(f"{details['width']}×{details['height']}")
    if details.get("hole_share") is not None:
        facts.append(f"hole {100 * details['hole_share']:.1f} %")
    return ", ".join(facts)


def _plots(video: PageVideo, frames: int, protocol: str) -> dict[str, Any]:
    """What the script draws: numbers to six digits, "inf" and null as in `metrics.json`."""
    plots = []
    for key, metric in METRICS.items():
        values = np.asarray(video.per_frame.get(key, ()), np.float64)
        if np.isnan(values).all():
            continue
        points = [float(f"{value:.{_PLOT_DIGITS}g}") for value in values]
        plots.append(
            {
                "label": f"{label_of(key, protocol)} {metric.arrow}",
                "unit": metric.unit,
                "digits": metric.digits,
                "pairs": metric.level == "pair",
                "values": points,
            }
        )
    drawn = {"borders": list(video.borders), "outlines": list(video.outlines), "plots": plots}
    return {"fps": video.fps, "frames": frames, **drawn}
