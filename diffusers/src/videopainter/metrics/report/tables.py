"""A summary as the release's CSV and as Markdown beside the paper's row."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from videopainter.files import write_text
from videopainter.metrics.catalog import CSV_COLUMNS, METRICS
from videopainter.metrics.report.published import PROTOCOL, PublishedRow
from videopainter.metrics.report.summary import MISSING, PROTOCOL_KEYS, VFID, label_of

PROTOCOL_TEXT = {
    "background": "background: the hole is black in both images of the masked fidelity metrics",
    "whole": "whole: nothing is masked, the masked fidelity metrics equal the unmasked ones",
    "release": "release: the hole is black in the result only, as in the release's evaluation script",
}


# CSV


def write_csv(path: Path, summary: Mapping[str, Any]) -> None:
    """The release's columns: a row per video, then `Average` (of the finite values; FID_Score is only there).

    A cell without a number is empty, an infinite one "inf"; numbers are written to full precision.

    Raises:
        InputError: where it cannot be written.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, CSV_COLUMNS)
    writer.writeheader()
    for video in summary["videos"]:
        writer.writerow(
            {
                "Video_Index": video["index"],
                "Video_Name": video["name"],
                "Video_Caption": video["details"].get("prompt") or "",
                "Masked_Target_Caption": video["details"].get("region_prompt") or "",
                **_cells(summary, video["values"]),
            }
        )
    means = {key: metric["mean"] for key, metric in summary["metrics"].items()}
    writer.writerow({"Video_Index": "Average", **_cells(summary, means)})
    write_text(path, table.getvalue())


def _cells(summary: Mapping[str, Any], values: Mapping[str, float | None]) -> dict[str, Any]:
    columns = {metric.column: values.get(key) for key, metric in METRICS.items() if metric.column}
    # None becomes an empty cell.
    return {"Total_Videos": summary["total_videos"], **columns}


# Text


def number_text(value: float | None, digits: int, *, signed: bool = False) -> str:
    """`value` with `digits` decimals, more where two digits of it would not show, "–" for None; as in `page.js`."""
    if value is None or math.isnan(value):
        return "–"
    sign = "+" if signed else ""
    if math.isinf(value):
        return f"{value:{sign}}".replace("inf", "∞")
    if value and abs(value) < 1e-4:
        return f"{value:{sign}.1e}"
    decimals = max(digits, 1 - math.floor(math.log10(abs(value)))) if value else digits
    return f"{value:{sign}.{decimals}f}"


def interval_text(metric: Mapping[str, Any]) -> str:
    """`[low, high]`, or "–"."""
    if metric["low"] is None:
        return "–"
    return f"[{number_text(metric['low'], metric['digits'])}, {number_text(metric['high'], metric['digits'])}]"


def label_text(metric: Mapping[str, Any]) -> str:
    """`PSNR (whole) ↑, dB`."""
    arrow = "↑" if metric["direction"] == "higher" else "↓"
    return f"{metric['label']} {arrow}" + (f", {metric['unit']}" if metric["unit"] else "")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right; cells may hold anything."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def markdown(summary: Mapping[str, Any], published: PublishedRow | None = None) -> str:
    """The set's means with their intervals, beside the paper's where these are of the same kind; then what to know."""
    metrics = summary["metrics"]
    beside = comparable(summary, published)
    head = ["metric", "mean", "95 % interval", "videos"]
    if published is not None:
        head.append(f"paper, {published.label}")
    rows = []
    for key, metric in metrics.items():
        row = [label_text(metric), number_text(metric["mean"], metric["digits"]), interval_text(metric)]
        row.append(str(metric["videos"]))
        if published is not None:
            row.append(number_text(beside.get(key), metric["digits"]))
        rows.append(row)
    table = markdown_table(head, rows) if rows else "No metric has a number.\n"
    notes = summary_notes(summary) + published_notes(summary, published) + left_out_notes(summary)
    return table + "\n" + "\n".join(f"- {_cell(note)}" for note in notes) + "\n"


def comparable(summary: Mapping[str, Any], row: PublishedRow | None) -> dict[str, float]:
    """The paper's numbers that may stand beside the summary's."""
    if row is None:
        return {}
    same = summary["protocol"] == PROTOCOL
    return {key: value for key, value in row.values.items() if same or key not in PROTOCOL_KEYS}


def published_notes(summary: Mapping[str, Any], row: PublishedRow | None) -> list[str]:
    """How the paper's numbers differ in kind from the summary's."""
    if row is None:
        return []
    notes = [
        f"Paper: VideoPainter's full-size model on the whole of {row.label} (arXiv 2503.05639); this run: "
        f"{count(summary['total_videos'], 'video')}. The paper prints LPIPS, MSE and MAE times 100, here they are "
        "divided by 100. Its CLIP (M) stands beside the score against the video prompt.",
    ]
    if summary["protocol"] != PROTOCOL:
        notes.append(
            f"The paper's fidelity is of protocol {PROTOCOL}, this run's of {summary['protocol']}: they are "
            "not set beside each other."
        )
    if summary["protocol"] != "release" and "clip_score" in summary["metrics"]:
        notes.append(
            "Of prompts with more than 77 tokens torchmetrics' CLIPScore cuts the end token off; here it is kept, but "
            "under protocol release."
        )
    missing = [label_of(key, summary["protocol"]) for key in row.values if key not in summary["metrics"]]
    if missing:
        notes.append(f"In the paper but without a number here: {', '.join(missing)}.")
    return notes


def summary_notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the means must know: protocol, infinite and missing numbers, VFID of few videos."""
    notes = [f"Protocol {PROTOCOL_TEXT.get(summary['protocol'], summary['protocol'])}."]
    if missing := summary["run"].get(MISSING):
        total = summary["total_videos"] + len(missing)
        notes.append(f"Not the whole set: {len(missing)} of {total} videos have no scores ({', '.join(missing)}).")
    if any(metric["low"] is not None for metric in summary["metrics"].values()):
        notes.append(
            f"Intervals: 95 % percentile bootstrap over the {count(summary['total_videos'], 'video')} (Efron 1979)."
        )
    for key, metric in summary["metrics"].items():
        if metric["infinite"]:
            what = "nothing was changed there" if "psnr" in key else "no finite number"
            notes.append(
                f"{metric['label']}: infinite in {metric['infinite']} of {count(metric['videos'], 'video')} ({what}); "
                "the mean and the interval are of the others."
            )
        if metric["left_out"]:
            notes.append(f"{metric['label']}: left out in {count(metric['left_out'], 'video')}.")
    vfid = summary["metrics"].get(VFID)
    if vfid:
        rank = f", too few for the covariance of {vfid['features']} features (singular)" if vfid["singular"] else ""
        notes.append(
            f"VFID is of {count(vfid['videos'], 'video')}{rank}; it depends on their number, so compare it only with "
            "a VFID of the same videos."
        )
    return notes


def left_out_notes(summary: Mapping[str, Any]) -> list[str]:
    """A line per reason for which metrics are left out; it ends in the command that fetches weights, if any."""
    return [f"Left out: {', '.join(labels)}: {reason}" for reason, labels in left_out_by_reason(summary)]


def left_out_by_reason(summary: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """(reason, labels of the metrics) for what no video has a number of."""
    grouped: dict[str, list[str]] = {}
    for key, reason in summary["left_out"].items():
        grouped.setdefault(reason, []).append(label_of(key, summary["protocol"]))
    return list(grouped.items())


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
