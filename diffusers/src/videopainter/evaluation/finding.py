"""Results of any program found on disk, each with the way to open it beside its original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from videopainter.data.clip import Clip
from videopainter.data.images import IMAGE_SUFFIXES
from videopainter.data.masks.views import DilatedMasks
from videopainter.data.rates import parse_fps, resample
from videopainter.data.records import RecordTable, open_clip, parse_sample_ids
from videopainter.data.resized import parse_size
from videopainter.data.tables import read_table
from videopainter.errors import InputError, complain
from videopainter.evaluation.options import ResultsOptions, ScoringOptions
from videopainter.evaluation.pairs import (
    Pair,
    borders_of,
    find_result,
    fitted,
    open_result,
    read_record,
    region_prompt_of,
    with_truth,
)
from videopainter.evaluation.players import FRAME_FOLDERS
from videopainter.evaluation.scoring import Entry
from videopainter.metrics.report.published import PUBLISHED
from videopainter.runs.samples import BENCHMARK_FPS

Prompts = dict[str, tuple[str, str]]  # {name: (prompt, region prompt)}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A result on disk and how to open its original; nothing is opened yet."""

    index: int
    name: str
    result: Path
    open_clip: Callable[[], Clip]

    @property
    def stem(self) -> str:
        return self.result.name if self.result.is_dir() else self.result.stem


def _check(options: ResultsOptions) -> None:
    """InputError for flags that do not go together, before anything is opened."""
    if not options.results:
        raise InputError("--results: expected a folder of results or a video, none came")
    if not Path(options.results).exists():
        raise InputError(f"--results: expected a file or folder, got none at {options.results}")
    if (options.originals is None) != (options.masks is None):
        raise InputError("--originals, --masks: expected both, got one of them")
    if options.originals is not None and options.inpainting_mask_meta is not None:
        raise InputError("--originals, --inpainting_mask_meta: expected one of them, got both")
    if options.set_name is not None and options.set_name not in PUBLISHED:
        raise InputError(f"--set_name: expected one of {', '.join(PUBLISHED)}, got {options.set_name}")
    if options.num_frames is not None and options.num_frames < 1:
        raise InputError(f"--num_frames: expected 1 or more, got {options.num_frames}")
    if options.dilate_size < 0:
        raise InputError(f"--dilate_size: expected 0 or more pixels, got {options.dilate_size}")
    if options.resize_to is not None:
        parse_size(options.resize_to, "--resize_to")
    parse_fps(options.down_sample_fps or "0", "--down_sample_fps")


def find_results(options: ResultsOptions) -> list[Found]:
    """Results with originals, in order; InputError for none, and where an original has no result."""
    if options.inpainting_mask_meta is not None:
        return _of_rows(options)
    if options.originals is not None:
        return _of_folders(options)
    return _of_release(options)


def _of_rows(options: ResultsOptions) -> list[Found]:
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

        found.append(Found(index=row, name=name, result=result, open_clip=open_row))
    return _complete(found, missing, results)


def _of_folders(options: ResultsOptions) -> list[Found]:
    results, originals, masks = (Path(str(path)) for path in (options.results, options.originals, options.masks))
    fps = options.down_sample_fps or "0"

    def opener(original: Path, mask: Path) -> Callable[[], Clip]:
        return lambda: resample(open_clip(original, mask, mask_id=options.mask_id), fps)

    if not originals.is_dir() or _holds_images(originals):
        name = originals.name if originals.is_dir() else originals.stem
        return [Found(index=0, name=name, result=results, open_clip=opener(originals, masks))]
    if not results.is_dir():
        raise InputError(f"--results: expected a folder, as --originals is one: {results}")
    found, missing = [], []
    for index, original in enumerate(sorted(p for p in originals.iterdir() if not p.name.startswith("."))):
        name = original.name if original.is_dir() else original.stem
        result, mask = find_result(results, (name,)), find_mask(masks, name)
        if result is None:
            missing.append(name)
        elif mask is None:
            raise InputError(f"--masks: expected a mask of {name}, got none, in {masks}")
        else:
            found.append(Found(index=index, name=name, result=result, open_clip=opener(original, mask)))
    return _complete(found, missing, results)


def find_mask(folder: Path, name: str) -> Path | None:
    """A video's mask: a file or folder of its name, or `NAME/all_masks.npz`."""
    for path in (folder / name / "all_masks.npz", folder / f"{name}.npz"):
        if path.exists():
            return path
    return find_result(folder, (name,))


def _of_release(options: ResultsOptions) -> list[Found]:
    results = Path(str(options.results))
    folders = [results] if (results / FRAME_FOLDERS[0]).is_dir() else sorted(results.glob(f"*/{FRAME_FOLDERS[0]}"))
    folders = [folder.parent if folder.name == FRAME_FOLDERS[0] else folder for folder in folders]
    if not folders:
        raise InputError(
            f"--results: expected {'/'.join(('NAME', FRAME_FOLDERS[0]))} (or --originals and --masks, "
            "or --inpainting_mask_meta), "
            f"got none, in {results}"
        )
    found = []
    for index, folder in enumerate(folders):
        lacking = [name for name in FRAME_FOLDERS if not (folder / name).is_dir()]
        if lacking:
            raise InputError(f"{folder}: expected {', '.join(FRAME_FOLDERS)}, {', '.join(lacking)} is missing")

        def open_folder(folder: Path = folder) -> Clip:
            clip = open_clip(folder / "ori_frames", folder / "masks", mask_id=options.mask_id)
            return replace(resample(clip, options.down_sample_fps or "0"), name=folder.name)

        found.append(Found(index=index, name=folder.name, result=folder, open_clip=open_folder))
    return found


def _complete(found: list[Found], missing: list[str], results: Path) -> list[Found]:
    if not found:
        raise InputError(f"--results: expected one of {', '.join(missing[:5]) or 'anything'}, got none, in {results}")
    of_result: dict[Path, Found] = {}
    for one in found:
        other = of_result.setdefault(one.result, one)
        if other is not one:
            raise InputError(
                "--results: expected a result each (call them NUMBER_NAME), got one of both "
                f"{other.index} ({other.name}) and "
                f"{one.index} ({one.name}), in {one.result}"
            )
    if missing:
        complain(f"warning: no result for {len(missing)} of {len(missing) + len(found)}: {', '.join(missing)}")
    return found


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def read_prompts(path: str | None) -> Prompts:
    """{name: (prompt, region prompt)} from a CSV with the columns name, prompt and, if wanted, region_prompt."""
    if path is None:
        return {}
    table = read_table(Path(path), ("name", "prompt"))
    regions = table["region_prompt"] if "region_prompt" in table.columns else [""] * len(table)
    return {name: (prompt, region) for name, prompt, region in zip(table["name"], table["prompt"], regions)}


def entries_of(options: ResultsOptions, scoring: ScoringOptions) -> list[Entry]:
    """What is scored, in order; all flags are checked, no video is opened.

    Raises:
        InputError: in one line, for the first thing that does not fit.
    """
    _check(options)
    prompts, folder = read_prompts(options.prompts_file), output_folder(options)
    return [
        Entry(
            label=found.stem,
            stem=found.stem,
            result=found.result,
            folder=folder,
            open=lambda found=found: _open(options, scoring, found, prompts),
        )
        for found in find_results(options)
    ]


def _open(options: ResultsOptions, scoring: ScoringOptions, found: Found, prompts: Prompts) -> Pair:
    """A result beside its original, of one length and size; InputError where they do not go together."""
    size = parse_size(options.resize_to, "--resize_to") if options.resize_to else None
    results, files = open_result(found.result)
    clip = found.open_clip()
    prompt, region = prompts.get(found.name, (clip.prompt, region_prompt_of(clip)))
    clip, results = fitted(
        replace(clip, prompt=prompt),
        results,
        where=found.result,
        size=size,
        num_frames=options.num_frames,
        allow_shorter=options.allow_shorter,
    )
    if options.dilate_size > 1:
        clip = clip.with_masks(DilatedMasks(clip.masks, options.dilate_size))
    record = read_record(found.result)
    given = options.borders is not None
    pair = Pair(
        index=found.index,
        name=found.name,
        clip=clip,
        results=results,
        files=files,
        region_prompt=region,
        borders=tuple(options.borders or ()) if given else borders_of(record, len(clip)),
        record=record,
    )
    return with_truth(pair, scoring.ground_truth, (found.stem, found.name))


def output_folder(options: ResultsOptions) -> Path:
    """Where scores and reports go."""
    if options.output_path is not None:
        return Path(options.output_path)
    results = Path(str(options.results))
    return (results if results.is_dir() else results.parent) / "evaluation"
