"""Reports of scored results: metrics.csv, metrics.json, metrics.md, a page with players; the overview of a sweep."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from videopainter.errors import complain
from videopainter.evaluation.benchmark import BenchmarkRun, entry_of
from videopainter.evaluation.finding import output_folder
from videopainter.evaluation.options import EvaluateOptions, ResultsOptions, ScoringOptions
from videopainter.evaluation.pairs import Pair
from videopainter.evaluation.players import PLAYERS, write_players
from videopainter.evaluation.scoring import SCORE_VERSION, Entry, Scoring
from videopainter.files import write_text
from videopainter.metrics.catalog import METRICS
from videopainter.metrics.report.page import PageVideo, write_page
from videopainter.metrics.report.published import PUBLISHED
from videopainter.metrics.report.summary import MISSING, SUMMARY_FILE, save_summary, summarise
from videopainter.metrics.report.tables import label_text, markdown, markdown_table, number_text, write_csv
from videopainter.metrics.scores import VideoScores
from videopainter.runs.results.manifest import Hasher, versions
from videopainter.runs.weights import weight_digests

CSV, MARKDOWN, PAGE = "metrics.csv", "metrics.md", "report"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A video's scores, where its files are named by `stem`, and how to open it again."""

    scores: VideoScores
    stem: str
    open: Callable[[], Pair]

    @classmethod
    def all_of(cls, entries: Sequence[Entry], failed: Collection[str]) -> list[Scored]:
        """Those that have scores and are not among the labels `failed`."""
        return [
            cls(scores=VideoScores.load(entry.scores_file), stem=entry.stem, open=entry.open)
            for entry in entries
            if entry.label not in failed and entry.scores_file.is_file()
        ]


def report_runs(options: EvaluateOptions, runs: Sequence[BenchmarkRun], ckpt: Path, *, failed: Collection[str]) -> None:
    """The reports of every run that has scores, and an overview of all of them.

    Jobs whose label is among `failed` are left out: what lies there of them was made otherwise, or is not whole.
    """
    hasher = Hasher()
    scoring = Scoring(options=options.scoring, device="cpu", ckpt=ckpt, hasher=hasher)
    summaries: dict[str, dict[str, Any]] = {}
    for run in runs:
        videos = Scored.all_of([entry_of(options, run, job) for job in run.jobs], failed)
        if not videos:
            continue
        scored = {video.stem for video in videos}
        missing = [job.output.stem for job in run.jobs if job.output.stem not in scored]
        about = {
            "set": run.set_name,
            MISSING: missing,
            "name": run.name,
            "data": {"dilate_size": run.dilate_size, "sets": options.benchmark.sets, **_data_of(options)},
            "sampling": asdict(run.jobs[0].settings) | {"scheduler": options.sampling.scheduler},
            "seed": options.sampling.seed,
            "weights": weight_digests(run.jobs[0].plan.weights.roles(), hasher),
            "options": {group: asdict(values) for group, values in vars(options).items()},
            **_about_scoring(options.scoring, scoring),
        }
        summaries[run.name] = write_reports(run.folder, videos, about, options.scoring)
    if len(summaries) > 1:
        write_overview(Path(options.benchmark.output_path), summaries)
    for name in summaries:
        complain(f"report: {Path(options.benchmark.output_path) / name / MARKDOWN}")


def report_results(
    options: ResultsOptions, entries: Sequence[Entry], scoring: Scoring, *, failed: Collection[str]
) -> None:
    """The reports of results of any program; `failed` are the labels of those that could not be scored."""
    folder = output_folder(options)
    about = {
        "set": options.set_name,
        MISSING: list(failed),
        "name": Path(str(options.results)).name,
        "data": {"dilate_size": options.dilate_size, "resize_to": options.resize_to, "num_frames": options.num_frames},
        "options": {"results": asdict(options), "scoring": asdict(scoring.options)},
        **_about_scoring(scoring.options, scoring),
    }
    write_reports(folder, Scored.all_of(entries, failed), about, scoring.options)
    complain(f"report: {folder / MARKDOWN}")


def _data_of(options: EvaluateOptions) -> dict[str, Any]:
    benchmark = options.benchmark
    names = ("resize_to", "inpainting_frames", "down_sample_fps", "long_sets", "native_fps_sets")
    return {name: getattr(benchmark, name) for name in names}


def _about_scoring(options: ScoringOptions, scoring: Scoring) -> dict[str, Any]:
    return {
        "scoring": {
            "version": SCORE_VERSION,
            "vfid_segment": options.vfid_segment,
            "ground_truth": options.ground_truth,
            "weights": scoring.weights(),
        },
        "versions": versions(),
    }


def write_reports(
    folder: Path, videos: Sequence[Scored], about: Mapping[str, Any], options: ScoringOptions
) -> dict[str, Any]:
    """All reports of one set of scores, in `folder`; returns the content of metrics.json."""
    summary = summarise([video.scores for video in videos], run=about, protocol=options.protocol)
    folder.mkdir(parents=True, exist_ok=True)
    save_summary(folder / SUMMARY_FILE, summary)
    write_csv(folder / CSV, summary)
    title = f"# {about['name']}\n\n"
    published = PUBLISHED.get(str(about["set"]))
    write_text(folder / MARKDOWN, title + markdown(summary, published))
    if options.html:
        players = [_page_video(folder, video) for video in videos]
        write_page(folder / PAGE, summary, players, str(about["name"]), published=published)
    return summary


def _page_video(folder: Path, video: Scored) -> PageVideo:
    players = write_players(video.open(), folder / PLAYERS, video.stem, video.scores.fingerprint)
    details = video.scores.details
    fps = float(Fraction(details["fps"]))
    return PageVideo.of(video.scores, players.videos, fps=fps, borders=details["borders"], outlines=players.outlines)


def write_overview(folder: Path, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """`sweep.csv` (every mean) and `sweep.md` of all runs."""
    keys = [key for key in METRICS if any(key in summary["metrics"] for summary in summaries.values())]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["run", *keys])
    rows = []
    for name, summary in summaries.items():
        means = [summary["metrics"].get(key, {}).get("mean") for key in keys]
        writer.writerow([name, *("" if mean is None else mean for mean in means)])
        rows.append([name, *(number_text(mean, METRICS[key].digits) for key, mean in zip(keys, means))])
    write_text(folder / "sweep.csv", table.getvalue())
    described = [next(s["metrics"][key] for s in summaries.values() if key in s["metrics"]) for key in keys]
    write_text(folder / "sweep.md", markdown_table(["run", *map(label_text, described)], rows))
