"""Results of any program scored against originals and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from videopainter.cli.door import complain, parse_options
from videopainter.cli.evaluate_options import SCORE_OPTIONS, ResultsOptions, ScoringOptions
from videopainter.cli.options import ModelOptions
from videopainter.cli.outputs import check_writable
from videopainter.cli.pairs import (
    Pair,
    borders_of,
    find_result,
    fitted,
    open_result,
    read_record,
    region_prompt_of,
    with_truth,
)
from videopainter.cli.players import FRAME_FOLDERS, show
from videopainter.cli.samples import BENCHMARK_FPS
from videopainter.cli.scoring import Scoring, find_ckpt, tell_absent, wanted_weights
from videopainter.cli.shards import Shard
from videopainter.data.clip import Clip
from videopainter.data.errors import InputError
from videopainter.data.images import IMAGE_SUFFIXES
from videopainter.data.masks import DilatedMasks
from videopainter.data.records import RecordTable, open_clip, parse_sample_ids
from videopainter.data.resized import parse_size
from videopainter.data.sampling import resample
from videopainter.metrics.published import PUBLISHED

DESCRIPTION = "Score results of any method against originals and masks."


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A result found on disk and how to open its original; nothing is opened yet."""

    index: int
    name: str
    result: Path
    open_clip: Callable[[], Clip]

    @property
    def stem(self) -> str:
        return self.result.name if self.result.is_dir() else self.result.stem


def read_options(argv: Sequence[str] | None = None) -> tuple[ResultsOptions, ScoringOptions]:
    """The flags of `evaluate/score.py`, from `argv` or the command line."""
    results, scoring = parse_options(SCORE_OPTIONS, argv, description=DESCRIPTION)
    return results, scoring


def score(options: ResultsOptions, scoring: ScoringOptions) -> int:
    """Score every result, write the reports; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start, or the only result failed.
    """
    check(options)
    candidates, shard = find_candidates(options), Shard.from_env()
    prompts = read_prompts(options.prompts_file)
    check_writable([scores_path(options, candidate) for candidate in candidates], [])
    ckpt = find_ckpt(scoring.ckpt)
    if shard.rank == 0:
        tell_absent(ckpt, wanted_weights(scoring))
    outcome = Outcome(several=len(candidates) > 1)
    from videopainter.cli.devices import resolve_precision

    device = resolve_precision(ModelOptions(device=options.device), shard).device
    room = Scoring(options=scoring, device=device, ckpt=ckpt, overwrite=options.overwrite)
    for candidate in shard.own(candidates):
        with outcome.attempt(candidate.stem):
            pair = open_pair(options, scoring, candidate, prompts)
            scores = room.score(pair, scores_path(options, candidate))
            show(pair, output_folder(options), candidate.stem, scores.fingerprint, scoring)
            if not options.quiet:
                complain(f"scored: {candidate.result}")
    outcomes = shard.gather(outcome)
    failed = {name: text for each in outcomes for name, text in each.failed.items()}
    if shard.rank == 0:
        if failed:
            complain(f"error: {len(failed)} of {len(candidates)} failed: {', '.join(failed)}")
        if len(failed) < len(candidates):
            from videopainter.cli.evaluation_report import report_results

            scored = [candidate for candidate in candidates if candidate.stem not in failed]
            report_results(options, scoring, scored, prompts, room, failed=failed)
    return 0 if not failed else 1 if len(failed) < len(candidates) else 2


@dataclass(kw_only=True)
class Outcome:
    """What could not be scored; with one result only, its error ends the run."""

    several: bool
    failed: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError) as error:
            if not self.several:
                raise
            self.failed[name] = str(error)
            complain(f"failed: {name}: {error}")


def check(options: ResultsOptions) -> None:
    """InputError for flags that do not go together, before anything is opened."""
    if options.results is None:
        raise InputError("--results: expected a folder of results or a video, none came")
    if not Path(options.results).exists():
        raise InputError(f"--results: no such file or folder: {options.results}")
    if (options.originals is None) != (options.masks is None):
        raise InputError("--originals and --masks go together: one of them came")
    if options.originals is not None and options.inpainting_mask_meta is not None:
        raise InputError("expected --originals and --masks, or --inpainting_mask_meta: both came")
    if options.set_name is not None and options.set_name not in PUBLISHED:
        raise InputError(f"--set_name: expected one of {', '.join(PUBLISHED)}, got {options.set_name}")
    if options.num_frames is not None and options.num_frames < 1:
        raise InputError(f"--num_frames: expected 1 or more, got {options.num_frames}")
    if options.dilate_size < 0:
        raise InputError(f"--dilate_size: expected 0 or more pixels, got {options.dilate_size}")
    if options.resize_to is not None:
        parse_size(options.resize_to, "--resize_to")


def find_candidates(options: ResultsOptions) -> list[Candidate]:
    """Results with originals, in order; InputError for none, and where an original has no result."""
    if options.inpainting_mask_meta is not None:
        return _of_rows(options)
    if options.originals is not None:
        return _of_folders(options)
    return _of_release(options)


def _of_rows(options: ResultsOptions) -> list[Candidate]:
    table = RecordTable(str(options.inpainting_mask_meta))
    fps = options.down_sample_fps or ("0" if table.is_davis else BENCHMARK_FPS)
    results, found, missing = Path(str(options.results)), [], []
    for row in parse_sample_ids(options.inpainting_sample_id or "all", len(table)):
        name = table.name(row)
        names = (f"{row}_{name}", name, str(row), f"{row:04d}", f"{row:05d}")
        result = find_result(results, names)
        if result is None:
            missing.append(f"{row}_{name}")
            continue

        def open_row(row: int = row) -> Clip:
            return resample(table.open(row, data_root=options.image_or_video_path), fps)

        found.append(Candidate(index=row, name=name, result=result, open_clip=open_row))
    return _complete(found, missing, results)


def _of_folders(options: ResultsOptions) -> list[Candidate]:
    results, originals, masks = (Path(str(path)) for path in (options.results, options.originals, options.masks))
    fps = options.down_sample_fps or "0"

    def opener(original: Path, mask: Path) -> Callable[[], Clip]:
        return lambda: resample(open_clip(original, mask, mask_id=options.mask_id), fps)

    if not originals.is_dir() or _holds_images(originals):
        name = originals.name if originals.is_dir() else originals.stem
        return [Candidate(index=0, name=name, result=results, open_clip=opener(originals, masks))]
    if not results.is_dir():
        raise InputError(f"--results: expected a folder, as --originals is one: {results}")
    found, missing = [], []
    for index, original in enumerate(sorted(p for p in originals.iterdir() if not p.name.startswith("."))):
        name = original.name if original.is_dir() else original.stem
        result, mask = find_result(results, (name,)), find_mask(masks, name)
        if result is None:
            missing.append(name)
        elif mask is None:
            raise InputError(f"--masks: no mask of {name} in {masks}")
        else:
            found.append(Candidate(index=index, name=name, result=result, open_clip=opener(original, mask)))
    return _complete(found, missing, results)


def find_mask(folder: Path, name: str) -> Path | None:
    """A video's mask: a file or folder of its name, or `NAME/all_masks.npz`."""
    for path in (folder / name / "all_masks.npz", folder / f"{name}.npz"):
        if path.exists():
            return path
    return find_result(folder, (name,))


def _of_release(options: ResultsOptions) -> list[Candidate]:
    results = Path(str(options.results))
    folders = [results] if (results / FRAME_FOLDERS[0]).is_dir() else sorted(results.glob(f"*/{FRAME_FOLDERS[0]}"))
    folders = [folder.parent if folder.name == FRAME_FOLDERS[0] else folder for folder in folders]
    if not folders:
        raise InputError(
            f"--results {results}: no {'/'.join(('NAME', FRAME_FOLDERS[0]))} in it; other results need "
            "--originals and --masks, or --inpainting_mask_meta"
        )
    found = []
    for index, folder in enumerate(folders):
        lacking = [name for name in FRAME_FOLDERS if not (folder / name).is_dir()]
        if lacking:
            raise InputError(f"{folder}: expected {', '.join(FRAME_FOLDERS)}, {', '.join(lacking)} is missing")

        def open_folder(folder: Path = folder) -> Clip:
            clip = open_clip(folder / "ori_frames", folder / "masks", mask_id=options.mask_id)
            return replace(resample(clip, options.down_sample_fps or "0"), name=folder.name)

        found.append(Candidate(index=index, name=folder.name, result=folder, open_clip=open_folder))
    return found


def _complete(found: list[Candidate], missing: list[str], results: Path) -> list[Candidate]:
    if not found:
        raise InputError(f"--results: found no result in {results} for {', '.join(missing[:5]) or 'anything'}")
    of_result: dict[Path, Candidate] = {}
    for candidate in found:
        other = of_result.setdefault(candidate.result, candidate)
        if other is not candidate:
            raise InputError(
                f"--results: {candidate.result} would be the result of both {other.index} ({other.name}) and "
                f"{candidate.index} ({candidate.name}); call results NUMBER_NAME"
            )
    if missing:
        complain(f"warning: no result for {len(missing)} of {len(missing) + len(found)}: {', '.join(missing)}")
    return found


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def read_prompts(path: str | None) -> dict[str, tuple[str, str]]:
    """{name: (prompt, region prompt)} from a CSV with the columns name, prompt and, if wanted, region_prompt."""
    if path is None:
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--prompts_file: not a CSV that can be read: {path} ({type(error).__name__})") from None
    lacking = [name for name in ("name", "prompt") if name not in table.columns]
    if lacking:
        raise InputError(f"--prompts_file: lacks the column {', '.join(lacking)}: {path}")
    regions = table["region_prompt"] if "region_prompt" in table.columns else [""] * len(table)
    return {name: (prompt, region) for name, prompt, region in zip(table["name"], table["prompt"], regions)}


def open_pair(
    options: ResultsOptions, scoring: ScoringOptions, candidate: Candidate, prompts: dict[str, tuple[str, str]]
) -> Pair:
    """A result beside its original, of one length and size; InputError where they do not go together."""
    size = parse_size(options.resize_to, "--resize_to") if options.resize_to else None
    results, files = open_result(candidate.result)
    clip = candidate.open_clip()
    prompt, region = prompts.get(candidate.name, (clip.prompt, region_prompt_of(clip)))
    clip, results = fitted(
        replace(clip, prompt=prompt),
        results,
        where=candidate.result,
        size=size,
        num_frames=options.num_frames,
        allow_shorter=options.allow_shorter,
    )
    if options.dilate_size > 1:
        clip = clip.with_masks(DilatedMasks(clip.masks, options.dilate_size))
    record = read_record(candidate.result)
    given = options.borders is not None
    pair = Pair(
        index=candidate.index,
        name=candidate.name,
        clip=clip,
        results=results,
        files=files,
        region_prompt=region,
        borders=tuple(options.borders or ()) if given else borders_of(record, len(clip)),
        record=record,
    )
    return with_truth(pair, scoring.ground_truth, (candidate.stem, candidate.name))


def output_folder(options: ResultsOptions) -> Path:
    """Where scores and reports go."""
    if options.output_path is not None:
        return Path(options.output_path)
    results = Path(str(options.results))
    return (results if results.is_dir() else results.parent) / "evaluation"


def scores_path(options: ResultsOptions, candidate: Candidate) -> Path:
    """Where a result's scores are kept."""
    return output_folder(options) / "scores" / f"{candidate.stem}.json"
