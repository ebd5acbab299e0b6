"""From the numbers of videos to those of a set: what `metrics.json` holds.

The file is strict JSON, which knows no infinity: an infinite number is the string "inf" (or "-inf"), a missing one
null. `load_summary` gives floats back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.errors import InputError
from videopainter.files import read_json, write_json
from videopainter.metrics.catalog import METRICS, PROTOCOLS, Metric
from videopainter.metrics.report.intervals import bootstrap_mean
from videopainter.metrics.scores import VideoScores

SUMMARY_FILE = "metrics.json"
MISSING = "missing_videos"  # in `run`: names of videos of the set that have no scores
KIND = "videopainter metrics"
VERSION = 1
VFID = "vfid"
# The metrics that depend on the protocol.
PROTOCOL_KEYS = ("masked_psnr", "masked_ssim", "masked_lpips", "masked_mse", "masked_mae")
_SILENT = "no video says anything (empty masks, or frames that are all hole)"


def summarise(videos: Sequence[VideoScores], *, run: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """The set's numbers; `save_summary` writes them, `load_summary` reads them.

    run: settings, seeds, hashes, versions: kept as they are; `comparison` looks at `run["scoring"]` and `run["data"]`.

    Returns {kind, version, run, protocol, total_videos, metrics, left_out, videos}:
        metrics[key]: label, about, unit, direction ("higher" or "lower" is better), digits; mean over the videos whose
            number is finite (infinity if none is and some are infinite), low and high (95 % percentile bootstrap over
            those videos; None for fewer than two), videos (how many have a number), infinite (how many of these are
            infinite), left_out (how many were left out with a reason). VFID, a number of the set, has no interval, and
            also `singular`: too few videos for the covariance of its `features` (their number) to have full rank.
        left_out[key]: why no video has a number.
        videos: index, name, values by key (None: no number), left_out by key, details.

    Raises:
        InputError: no videos, two of one name and index, or an unknown protocol.
    """
    if not videos:
        raise InputError("summary: expected the scores of at least one video, got none")
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    twice = [name for name, count in Counter((video.index, video.name) for video in videos).items() if count > 1]
    if twice:
        raise InputError(f"summary: expected each video once, got {twice[0][1]!r} (number {twice[0][0]}) again")
    videos = sorted(videos, key=lambda video: (video.index, video.name))
    metrics: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for key, metric in METRICS.items():
        found = _vfid(videos) if key == VFID else _of_videos(key, videos)
        if found is not None:
            metrics[key] = _described(metric, protocol) | found
        elif (reason := _reason(key, videos)) is not None:
            left_out[key] = reason
    return {
        "kind": KIND,
        "version": VERSION,
        "run": dict(run),
        "protocol": protocol,
        "total_videos": len(videos),
        "metrics": metrics,
        "left_out": left_out,
        "videos": [_video(video) for video in videos],
    }


def label_of(key: str, protocol: str) -> str:
    """The metric's label; where the catalog says "background" of what another protocol measured, that is named."""
    label = METRICS[key].label if key in METRICS else key
    other = key in PROTOCOL_KEYS and protocol != "background"
    return label.replace("(background)", f"(masked, {protocol})") if other else label


def _described(metric: Metric, protocol: str) -> dict[str, Any]:
    return {
        "label": label_of(metric.key, protocol),
        "about": metric.about,
        "unit": metric.unit,
        "direction": "higher" if metric.higher_is_better else "lower",
        "digits": metric.digits,
    }


def _number(video: VideoScores, key: str) -> float | None:
    """The video's number, None for NaN as well."""
    value = video.value(key)
    return None if value is None or math.isnan(value) else float(value)


def _of_videos(key: str, videos: Sequence[VideoScores]) -> dict[str, Any] | None:
    numbers = [number for number in (_number(video, key) for video in videos) if number is not None]
    if not numbers:
        return None
    finite = np.array([number for number in numbers if math.isfinite(number)])
    interval = bootstrap_mean(finite) if len(finite) > 1 else None
    return {
        "mean": float(finite.mean()) if len(finite) else numbers[0],
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "videos": len(numbers),
        "infinite": len(numbers) - len(finite),
        "left_out": sum(key in video.left_out for video in videos),
    }


def _vfid(videos: Sequence[VideoScores]) -> dict[str, Any] | None:
    pairs = [
        (v.features["original"], v.features["result"]) for v in videos if {"original", "result"} <= set(v.features)
    ]
    if len(pairs) < 2:
        return None
    # Only now: it is needed for nothing else here.
    from videopainter.metrics.frechet import frechet

    found = frechet(np.stack([real for real, _ in pairs]), np.stack([fake for _, fake in pairs]))
    return {
        "mean": float(found.distance),
        "low": None,
        "high": None,
        "videos": len(pairs),
        "infinite": 0,
        "left_out": sum(VFID in video.left_out for video in videos),
        "singular": bool(found.singular),
        "features": len(pairs[0][0]),
    }


def _reason(key: str, videos: Sequence[VideoScores]) -> str | None:
    """Why there is no number in any video: the reason told most often; None if nobody asked for the metric."""
    told = Counter(video.left_out[key] for video in videos if key in video.left_out)
    if told:
        return told.most_common(1)[0][0]
    if key == VFID and any(video.features for video in videos):
        return "a Fréchet distance needs at least two videos"
    return _SILENT if any(key in video.per_frame or key in video.per_video for video in videos) else None


def _video(video: VideoScores) -> dict[str, Any]:
    asked = [key for key in METRICS if key in video.per_frame or key in video.per_video]
    return {
        "index": video.index,
        "name": video.name,
        "values": {key: _number(video, key) for key in asked},
        "left_out": dict(video.left_out),
        "details": dict(video.details),
    }


# The file


def save_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write `metrics.json`; InputError where it cannot be written."""
    write_json(path, summary, indent=1)


def load_summary(path: Path) -> dict[str, Any]:
    """What `save_summary` wrote, from the file or the folder that holds it; "inf" is a float again.

    Raises:
        InputError: for a path that is not there, or a file that is something else.
    """
    path = path / SUMMARY_FILE if path.is_dir() else path
    content = read_json(path, SUMMARY_FILE)
    try:
        if content["kind"] != KIND or content["version"] != VERSION:
            raise ValueError
        for metric in content["metrics"].values():
            metric.update({key: _float(metric[key]) for key in ("mean", "low", "high")})
            _ = metric["videos"], metric["infinite"], metric["label"], metric["direction"]
        for video in content["videos"]:
            video["values"] = {key: _float(value) for key, value in video["values"].items()}
            _ = dict(video["details"]), hash((video["index"], video["name"]))
        _ = dict(content["left_out"]), dict(content["run"]), hash(content["protocol"]), content["total_videos"]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{SUMMARY_FILE}: expected that of an evaluation (version {VERSION}), got something else, in {path}"
        ) from None
    return content


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
