"""A comparison of runs as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from videopainter.metrics.report.comparison import DRAWS, EXACT_PAIRS, Comparison, Difference
from videopainter.metrics.report.tables import count, label_text, markdown_table, number_text


def comparison_markdown(found: Comparison) -> str:
    """Means, then paired differences of each other run against the first, then warnings."""
    parts = [f"{count(found.matched, 'video')} in all of: {', '.join(found.runs)}\n"]
    parts += [f"Warning: {warning}\n" for warning in found.warnings]
    rows = [
        [label_text(metric), *(number_text(mean, metric["digits"]) for mean in found.means[key])]
        for key, metric in found.described.items()
    ]
    parts.append(markdown_table(["mean of the shared videos", *found.runs], rows))
    for name in found.runs[1:]:
        head = [f"{name} − {found.runs[0]}", "difference", "95 % interval", "p", "p (Holm)", "pairs", "better"]
        rows = [_difference_row(d, found.described[d.key], found.runs[0]) for d in found.differences if d.run == name]
        parts.append(markdown_table(head, rows))
    parts.append(
        "Differences are paired by video: 95 % percentile bootstrap; two-sided sign-flip permutation test, exact for "
        f"up to {EXACT_PAIRS} pairs, else {DRAWS} random draws, also corrected over a table's metrics after Holm. "
        "“Better” names the run that is where the interval excludes 0 and p (Holm) < 0.05. Means are of the finite "
        "numbers of each run; pairs with an infinite number are left out of the differences and counted (∞). VFID is a "
        "number of the set: no test.\n"
    )
    if found.matched <= EXACT_PAIRS:
        least = _p_text(2 / 2**found.matched)
        parts.append(f"With {count(found.matched, 'pair')} no p can be below {least}, before correction.\n")
    return "\n".join(parts)


def better_run(difference: Difference, described: Mapping[str, Any], first: str) -> str:
    """Which of the two runs is better beyond chance (interval without 0, Holm-corrected p < 0.05); "" for neither."""
    if difference.p_holm is None or difference.low is None or difference.high is None or difference.p_holm >= 0.05:
        return ""
    if difference.low <= 0 <= difference.high:
        return ""
    return difference.run if (difference.low > 0) == (described["direction"] == "higher") else first


def _difference_row(difference: Difference, metric: Mapping[str, Any], first: str) -> list[str]:
    digits = metric["digits"]
    interval = "–"
    if difference.low is not None and difference.high is not None:
        ends = (number_text(end, digits, signed=True) for end in (difference.low, difference.high))
        interval = f"[{', '.join(ends)}]"
    infinite = f" (+{difference.not_finite} ∞)" if difference.not_finite else ""
    return [
        label_text(metric),
        number_text(difference.mean, digits, signed=True),
        interval,
        _p_text(difference.p),
        _p_text(difference.p_holm),
        f"{difference.pairs}{infinite}",
        better_run(difference, metric, first),
    ]


def _p_text(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def comparison_csv(found: Comparison) -> str:
    """A row per metric and other run: means of both and the difference; empty cells for what there is not."""
    table = io.StringIO()
    columns = ("metric", "unit", "direction", "first", "run", "first_mean", "run_mean", "pairs", "not_finite")
    writer = csv.writer(table)
    writer.writerow([*columns, "difference", "low", "high", "p", "p_holm"])
    for d in found.differences:
        metric, means = found.described[d.key], found.means[d.key]
        row = [d.key, metric["unit"], metric["direction"], found.runs[0], d.run]
        row += [means[0], means[found.runs.index(d.run)], d.pairs, d.not_finite]
        writer.writerow([*row, d.mean, d.low, d.high, d.p, d.p_holm])
    return table.getvalue()
