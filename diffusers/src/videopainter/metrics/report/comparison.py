"""Runs against each other on the videos they share: paired differences, how sure, and what makes them incomparable."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.errors import InputError
from videopainter.metrics.catalog import METRICS
from videopainter.metrics.report.intervals import bootstrap_mean
from videopainter.metrics.report.summary import PROTOCOL_KEYS, VFID, load_summary

EXACT_PAIRS = 12
DRAWS = 10_000
# What must be the same of two runs for their numbers to be comparable: groups of `run`, and details of each video.
RUN_GROUPS = ("scoring", "data")
DETAILS = ("frames", "height", "width", "prompt", "region_prompt", "hole_share")


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run by the name it is shown under."""

    name: str
    summary: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of `run` minus that of the first run, over the videos that both have a finite number for.

    low, high: 95 % percentile bootstrap; p: two-sided paired sign-flip permutation test; p_holm: the same after Holm's
    correction over the metrics of this run. None where too few pairs allow none. not_finite: pairs left out because one
    or both numbers are infinite.
    """

    key: str
    run: str
    pairs: int
    not_finite: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare_runs` found: descriptions and means by metric key, one mean per run, then differences."""

    runs: list[str]
    described: dict[str, dict[str, Any]]
    means: dict[str, list[float | None]]
    differences: list[Difference]
    matched: int
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        """For `summary.to_json`."""
        return asdict(self)


# Tests


def sign_flip_p(differences: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of the paired sign-flip permutation test of `differences` (N,) having mean 0 (Fisher 1935).

    Exact over all 2^N signs for up to 12 differences, else of `draws` random ones, the observed one counted among them.

    Raises:
        ValueError: for no values or values that are not finite.
    """
    differences = np.asarray(differences, np.float64)
    if differences.ndim != 1 or not len(differences) or not np.isfinite(differences).all():
        raise ValueError(f"expected at least one finite difference, got {differences.tolist()}")
    count = len(differences)
    # Sums of the same numbers in other signs differ by rounding: equal ones must count as equal.
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    if count <= EXACT_PAIRS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))
        return float(np.mean(np.abs(signs @ differences) >= observed))
    generator, as_large = np.random.default_rng(seed), 0
    for start in range(0, draws, 1000):  # in parts: thousands of videos would need much memory at once
        signs = generator.choice(np.array([1.0, -1.0]), size=(min(1000, draws - start), count))
        as_large += int(np.count_nonzero(np.abs(signs @ differences) >= observed))
    return (as_large + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979), in the order given."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


# Runs


def load_runs(places: Sequence[str]) -> list[RunSummary]:
    """Runs from folders or `metrics.json` files, `NAME=` in front of either; InputError as `load_summary`."""
    if len(places) < 2:
        raise InputError(f"expected at least two runs (folders with a metrics.json), got {len(places)}")
    found = []
    for place in places:
        # A path may hold "=" itself.
        name, _, rest = ("", "", place) if Path(place).exists() else place.partition("=")
        path = Path(rest or place)
        summary = load_summary(path)
        folder = path if path.is_dir() else path.parent
        found.append((name or folder.resolve().name or place, summary))
    names = Counter(name for name, _ in found)
    return [
        RunSummary(name=f"{name} ({number})" if names[name] > 1 else name, summary=summary)
        for number, (name, summary) in enumerate(found, 1)
    ]


def compare_runs(runs: Sequence[RunSummary]) -> Comparison:
    """Every other run against the first, over the videos that all of them have; means are of these videos too.

    Videos are matched by name, by name and index where a run has a name twice. Differing protocols leave out the
    metrics that depend on it; whatever else differs in what matters is told in `warnings`.
    """
    tables, warnings = _matched(runs)
    warnings += _differing_protocols(runs) + _differing_runs(runs) + _differing_videos(runs, tables)
    protocols = {run.summary["protocol"] for run in runs}
    skipped = PROTOCOL_KEYS if len(protocols) > 1 else ()
    described: dict[str, dict[str, Any]] = {}
    for run in runs:
        described |= {
            key: metric for key, metric in run.summary["metrics"].items() if key not in {*skipped, *described}
        }
    order = [key for key in METRICS if key in described] + [key for key in described if key not in METRICS]
    described = {key: described[key] for key in order}
    values = {key: np.array([_column(table, key) for table in tables]) for key in described if key != VFID}
    means: dict[str, list[float | None]] = {key: [_mean(row) for row in rows] for key, rows in values.items()}
    if VFID in described:
        means[VFID] = [run.summary["metrics"].get(VFID, {}).get("mean") for run in runs]
        warnings += _differing_vfid(runs, len(tables[0]))
    differences = [
        difference
        for number in range(1, len(runs))
        for difference in _against_first(runs[number].name, number, described, values, means)
    ]
    return Comparison(
        runs=[run.name for run in runs],
        described=described,
        means={key: means[key] for key in described},
        differences=differences,
        matched=len(tables[0]),
        warnings=warnings,
    )


def _matched(runs: Sequence[RunSummary]) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """Per run its videos that all runs have, in one order, and a warning for each run that has more.

    Raises:
        InputError: no video is in all runs.
    """
    unique = all(max(Counter(v["name"] for v in run.summary["videos"]).values(), default=1) == 1 for run in runs)

    def identity(video: dict[str, Any]) -> Any:
        return video["name"] if unique else (video["name"], video["index"])

    tables = [{identity(video): video for video in run.summary["videos"]} for run in runs]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if not shared:
        raise InputError(f"expected runs of the same videos, got none that all of {_listed(r.name for r in runs)} have")
    warnings = []
    for run, table in zip(runs, tables, strict=True):
        alone = [video["name"] for key, video in table.items() if key not in shared]
        if alone:
            warnings.append(f"{run.name}: {len(alone)} of {len(table)} videos are not in all runs: {_listed(alone)}")
    return [[table[key] for key in shared] for table in tables], warnings


def _listed(names: Any, most: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")


def _column(table: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """(N,): the numbers of a run's videos, NaN where there is none."""
    numbers = [video["values"].get(key) for video in table]
    return [math.nan if number is None else number for number in numbers]


def _mean(row: np.ndarray) -> float | None:
    """Of the finite numbers; infinity if there are only infinite ones; None if there is none."""
    finite, said = row[np.isfinite(row)], row[~np.isnan(row)]
    return float(finite.mean()) if len(finite) else float(said[0]) if len(said) else None


def _against_first(
    name: str,
    number: int,
    described: Mapping[str, Any],
    values: Mapping[str, np.ndarray],
    means: Mapping[str, Sequence[float | None]],
) -> list[Difference]:
    found = [
        _set_difference(key, name, means[key][0], means[key][number])
        if key == VFID
        else _difference(key, name, values[key][0], values[key][number])
        for key in described
    ]
    tested = [place for place, difference in enumerate(found) if difference.p is not None]
    corrected = holm([found[place].p or 0.0 for place in tested])
    for place, p_holm in zip(tested, corrected, strict=True):
        found[place] = Difference(**{**asdict(found[place]), "p_holm": p_holm})
    return found


def _difference(key: str, name: str, first: np.ndarray, other: np.ndarray) -> Difference:
    both = ~np.isnan(first) & ~np.isnan(other)
    finite = np.isfinite(first) & np.isfinite(other)
    paired = other[finite] - first[finite]
    interval = bootstrap_mean(paired) if len(paired) > 1 else None
    return Difference(
        key=key,
        run=name,
        pairs=len(paired),
        not_finite=int(np.count_nonzero(both & ~finite)),
        mean=float(paired.mean()) if len(paired) else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=sign_flip_p(paired) if len(paired) > 1 else None,
    )


def _set_difference(key: str, name: str, first: float | None, other: float | None) -> Difference:
    mean = None if first is None or other is None else other - first
    return Difference(key=key, run=name, pairs=0, not_finite=0, mean=mean, low=None, high=None, p=None)


# What makes runs incomparable


def _differing_protocols(runs: Sequence[RunSummary]) -> list[str]:
    protocols = {run.name: run.summary["protocol"] for run in runs}
    if len(set(protocols.values())) == 1:
        return []
    told = ", ".join(f"{name}: {protocol}" for name, protocol in protocols.items())
    return [f"protocols differ ({told}): the masked fidelity metrics are not compared"]


def _differing_runs(runs: Sequence[RunSummary]) -> list[str]:
    flat = [_flat({group: run.summary["run"].get(group, {}) for group in RUN_GROUPS}) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    # What a run does not tell is no difference: results of other programs come with fewer settings.
    told_of = {key: [settings[key] for settings in flat if key in settings] for key in keys}
    differ = [key for key, values in told_of.items() if any(value != values[0] for value in values)]
    if not differ:
        return []
    told = [f"{key} ({' against '.join(_short(settings.get(key)) for settings in flat)})" for key in differ]
    return [f"runs were scored differently: {_listed(told)}"]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _differing_videos(runs: Sequence[RunSummary], tables: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """One line per detail in which the same video is not the same in all runs; where a run does not tell, none."""
    warnings = []
    for detail in DETAILS:
        rows = [[video["details"].get(detail) for video in videos] for videos in zip(*tables, strict=True)]
        differ = [place for place, row in enumerate(rows) if not _same([value for value in row if value is not None])]
        if differ:
            name, row = tables[0][differ[0]]["name"], rows[differ[0]]
            told = ", ".join(f"{run.name}: {_short(value)}" for run, value in zip(runs, row, strict=True))
            warnings.append(f"{detail} differs in {len(differ)} of {len(rows)} videos, first in {name} ({told})")
    return warnings


def _short(value: Any) -> str:
    # Captions are long, and a warning is one line.
    return "none" if value is None else textwrap.shorten(str(value), 60, placeholder=" …")


def _same(values: Sequence[Any]) -> bool:
    if all(isinstance(value, int | float) for value in values):
        return all(math.isclose(value, values[0], rel_tol=1e-6) for value in values)
    return all(value == values[0] for value in values)


def _differing_vfid(runs: Sequence[RunSummary], matched: int) -> list[str]:
    counts = [run.summary["metrics"].get(VFID, {}).get("videos") for run in runs]
    if all(count in (matched, None) for count in counts):
        return []
    told = ", ".join(f"{run.name}: {count}" for run, count in zip(runs, counts, strict=True))
    return [f"VFID is of other videos than the {matched} compared ({told} videos) and depends on their number"]
