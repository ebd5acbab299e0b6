"""What a check found, as a CSV, as JSON, and as one page for the browser that needs no network."""

from __future__ import annotations

import base64
import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from videopainter.files import replacing, write_json, write_text
from videopainter.preparation.check.problems import PROBLEMS, Finding
from videopainter.preparation.units import counted

_ASSETS = Path(__file__).parent / "assets"
FINDINGS_FILE, _SUMMARY_FILE, PAGE_FILE = "findings.csv", "summary.json", "report.html"
# Of each problem the page shows so many rows; the CSV has all.
_EXAMPLES = 25


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What was checked and what was found.

    rows: {CSV: how many rows it has}; checked: of how many of them the files were looked at.
    left_out: {CSV: why}
    """

    title: str
    rows: dict[str, int]
    checked: int
    videos: int
    findings: Sequence[Finding]
    left_out: dict[str, str]
    options: dict[str, Any]
    seconds: float

    @property
    def bad_rows(self) -> int:
        """Rows that cannot be used."""
        return len({(finding.csv, finding.row) for finding in self.findings if finding.bad})

    def by_problem(self) -> dict[str, Counter[str]]:
        """{problem: rows per CSV}, the worst and most frequent first."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for finding in {(f.csv, f.row, f.problem): f for f in self.findings}.values():
            counts[finding.problem][finding.csv] += 1
        return dict(sorted(counts.items(), key=lambda item: (not PROBLEMS[item[0]].bad, -item[1].total())))


def write_report(folder: Path, result: CheckResult, sheet: bytes | None) -> Path:
    """Write findings.csv, summary.json and report.html; returns the page. WriteError where they cannot be written."""
    findings = sorted(result.findings)
    with replacing(folder / FINDINGS_FILE) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*(field.name for field in fields(Finding)), "usable"])
        writer.writerows([*astuple(finding), "no" if finding.bad else "yes"] for finding in findings)
    counts = result.by_problem()
    summary = {
        "rows": result.rows,
        "rows_checked": result.checked,
        "videos_checked": result.videos,
        "bad_rows": result.bad_rows,
        "problems": counts,
        "left_out": result.left_out,
        "options": result.options,
        "seconds": round(result.seconds, 1),
    }
    write_json(folder / _SUMMARY_FILE, summary, indent=1)
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(_ASSETS))
    page = environment.get_template("report.html").render(
        title=result.title,
        style=Markup((_ASSETS / "report.css").read_text(encoding="utf-8")),
        facts=_facts(result),
        tables=list(result.rows),
        rows=result.rows,
        problems=[_problem(name, per_csv, findings) for name, per_csv in counts.items()],
        left_out=result.left_out,
        options=result.options,
        findings_file=FINDINGS_FILE,
        sheet=Markup(base64.b64encode(sheet).decode()) if sheet else "",
    )
    write_text(folder / PAGE_FILE, page)
    return folder / PAGE_FILE


def _facts(result: CheckResult) -> list[str]:
    total = sum(result.rows.values())
    share = f"{100 * result.bad_rows / max(1, result.checked):.2f} %"
    part = "all" if result.checked == total else counted(result.checked, "row")
    rate = result.checked / max(result.seconds, 1e-3)
    return [
        f"{counted(total, 'row')} in {counted(len(result.rows), 'CSV')}; files of {part} looked at, "
        f"{counted(result.videos, 'video')}",
        f"{counted(result.bad_rows, 'row')} cannot be used ({share} of those looked at)",
        f"{result.seconds:.1f} s, {rate:.0f} rows a second",
    ]


def _problem(name: str, per_csv: Counter[str], findings: Sequence[Finding]) -> dict[str, Any]:
    examples = [finding for finding in findings if finding.problem == name][:_EXAMPLES]
    return {
        "name": name,
        "about": PROBLEMS[name].about,
        "bad": PROBLEMS[name].bad,
        "counts": per_csv,
        "total": per_csv.total(),
        "examples": examples,
    }
