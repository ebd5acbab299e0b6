"""Where results go: one file, or one per sample and seed."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Sequence
from pathlib import Path

from videopainter.data.video.pictures import GIF, check_image_folder, image_name_of
from videopainter.errors import InputError
from videopainter.files import make_folder
from videopainter.locks import sweep
from videopainter.runs.results.manifest import manifest_path

RESULT_SUFFIXES = (".mp4", ".mov", ".mkv", GIF)
FIELDS = {"name", "id", "seed"}


def output_paths(
    output_path: str | None, names: Sequence[tuple[int | None, str]], seeds: Sequence[int], *, lossless: bool = False
) -> dict[tuple[int, int], Path]:
    """{(index in `names`, seed): result}; `names` are (row of the CSV or None, clip name).

    A result is a file, or the folder of its images where `output_path` is like ``folder/%05d.png``.

    Raises:
        InputError: one file for several results, an unknown field, no video suffix, or two results in one file.
    """
    several_clips, several_seeds = len(names) > 1, len(seeds) > 1
    pattern = _pattern(output_path, several_clips, several_seeds, ".mkv" if lossless else ".mp4")
    images = output_path is not None and image_name_of(output_path)
    if lossless and not images and not pattern.lower().endswith(".mkv"):
        raise InputError(f"--output_path: expected .mkv for --lossless, got {output_path}")
    _check_pattern(pattern, several_clips, several_seeds)
    paths: dict[tuple[int, int], Path] = {}
    for index, (row, name) in enumerate(names):
        for seed in seeds:
            paths[index, seed] = Path(_fill(pattern, name=name, id=row if row is not None else index, seed=seed))
    if len(set(paths.values())) < len(paths):
        raise InputError(f"--output_path: expected a file for each result (use {{id}} and {{seed}}), got {output_path}")
    return paths


def _pattern(output_path: str | None, several_clips: bool, several_seeds: bool, suffix: str) -> str:
    """A file name with `{name}`, `{id}` and `{seed}` where they are needed."""
    if output_path is None:
        output_path = "outputs" if several_clips or several_seeds else f"output{suffix}"
    path = Path(output_path)
    if image_name_of(output_path):
        return str(path.parent)
    if path.suffix.lower() in RESULT_SUFFIXES and not path.is_dir():
        return output_path
    is_folder = several_clips or several_seeds or path.is_dir() or output_path.endswith("/")
    if path.suffix and not is_folder:
        raise InputError(
            f"--output_path: expected a folder, a file ending in {_list(RESULT_SUFFIXES)}, or images as in "
            f"folder/%05d.png, got {output_path}"
        )
    name = "{id}_{name}" if several_clips else "{name}"
    folder = str(path).replace("{", "{{").replace("}", "}}")
    return f"{folder}/{name}{'_seed{seed}' if several_seeds else ''}{suffix}"


def _check_pattern(pattern: str, several_clips: bool, several_seeds: bool) -> None:
    try:
        parts = [part for part in string.Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise InputError(f"--output_path {pattern}: {error}") from None
    used = {field for _, field, _, _ in parts}
    wrong = [spec for _, _, spec, conversion in parts if conversion or not re.fullmatch(r"(0?\d{1,2}d?)?", spec or "")]
    if wrong:
        raise InputError(f"--output_path: expected at most a width such as {{id:05d}}, got {wrong[0]!r}, in {pattern}")
    if used - FIELDS:
        raise InputError(f"--output_path {pattern}: expected {{name}}, {{id}} or {{seed}}, got {used - FIELDS}")
    if several_clips and not used & {"name", "id"}:
        raise InputError(f"--output_path: expected a folder, or {{id}} in the name, for several samples, got {pattern}")
    if several_seeds and "seed" not in used:
        raise InputError(f"--output_path: expected a folder, or {{seed}} in the name, for several seeds, got {pattern}")


def _fill(pattern: str, **values: object) -> str:
    try:
        return pattern.format(**values)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"--output_path {pattern}: {error}") from None


def check_writable(
    results: Sequence[Path], inputs: Sequence[Path], beside: Sequence[Path] = (), *, images: bool = False
) -> None:
    """Make the folders of `results` (files, or folders of images), try to write there, remove what killed runs left.

    Raises:
        InputError: a folder cannot be made or written, or a result, its JSON or one of the files `beside` results would
            replace one of the `inputs`.
    """
    for result in results:
        if images:
            check_image_folder(result)
        elif result.is_dir():
            raise InputError(f"--output_path: expected a file, got a folder: {result}")
        check_no_input(result, inputs)
        if any(_same(manifest_path(result), file) for file in inputs):
            raise InputError(
                f"--output_path: expected another name, the JSON beside {result} would replace the input "
                f"{manifest_path(result)}"
            )
    for file in beside:
        check_no_input(file, inputs, "--save_comparison, --contact_sheet")
    for folder in sorted({result.parent for result in results}):
        make_folder(folder)
        sweep(folder)


def check_no_input(result: Path, inputs: Sequence[Path], name: str = "--output_path") -> None:
    """InputError, of the flag `name`, where a result would replace one of the `inputs`."""
    if any(_same(result, file) for file in inputs):
        raise InputError(f"{name}: expected another file than the input, got {result}")


def companion(result: Path, kind: str, suffix: str | None = None) -> Path:
    """A file beside a result: `x.mp4` -> `x_comparison.mp4`."""
    return result.with_name(f"{result.stem}_{kind}{suffix or result.suffix}")


def sheet_of(result: Path) -> Path:
    """Where candidates of a result's first frame are shown."""
    return companion(result, "first_frames", ".png")


def _same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)  # Path.resolve raises where links go round


def _list(values: Sequence[str]) -> str:
    return ", ".join(values)
