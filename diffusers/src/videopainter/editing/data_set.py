"""The data set that pairs make: its table, the list of what is not in it, and its card; all from pairs' records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopainter.captions.backends import asks_somebody, make_backend
from videopainter.data.tables import write_table
from videopainter.editing.measures import BACKGROUND, CHANGE, DIRECTION, faults
from videopainter.editing.options import PairOptions
from videopainter.editing.pairs import CARD, DROPPED, METADATA, RECORDS, PairFiles
from videopainter.errors import InputError, complain
from videopainter.files import read_json, write_text
from videopainter.locks import held
from videopainter.runs.results.manifest import manifest_path, run_file

_MEASURES = (BACKGROUND, CHANGE, DIRECTION)
_ROW = (
    *("path", "mask_id", "start_frame", "end_frame", "fps", "caption"),
    *("Original_video_caption", "Edited_video_caption", "Edited_image_caption", "Editing_instruction", "kind"),
    *("source_file_name", "edited_file_name", "mask_file_name", "masks", "frames", "height", "width", "seed"),
)
_VERDICT = ("verdict_by", "verdict")
_FAILED = "failed: "  # told when it happened
_MARK = "Made by `infer/edit_bench.py` of VideoPainter."


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """How many pairs there are, and why others are not, by their names."""

    kept: int
    dropped: dict[str, str]


def write_data_set(folder: Path, options: PairOptions) -> DataSet:
    """Write table, list and card anew from the records in the folder, those of earlier runs and other rows, too."""
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    judge = _judge(options)
    with held(folder / METADATA, patience=float("inf")):  # runs that share out a set's rows
        for stem, record in _records(folder):
            reasons = _reasons(folder, stem, record, options, judge)
            row = {key: record.get(key, "") for key in _ROW} | _facts(record)
            if reasons:
                dropped.append({"name": stem, "reason": "; ".join(reasons), **row})
            else:
                rows.append(row)
        write_table(folder / METADATA, (*_ROW, *_MEASURES, *_VERDICT), rows)
        write_table(folder / DROPPED, ("name", "reason", "Editing_instruction", "kind", *_MEASURES, *_VERDICT), dropped)
        _write_card(folder, len(rows), len(dropped))
    return DataSet(kept=len(rows), dropped={one["name"]: one["reason"] for one in dropped})


def tell(folder: Path, found: DataSet, most: int = 10) -> None:
    """A line of what is there, and one for each of the first pairs that were made and are not."""
    sifted = [(name, reason) for name, reason in found.dropped.items() if not reason.startswith(_FAILED)]
    for name, reason in sifted[:most]:
        complain(f"dropped: {name}: {reason}")
    others = f"; {len(found.dropped)} not, {folder / DROPPED} says why" if found.dropped else ""
    complain(f"pairs: {found.kept} in {folder / METADATA}{others}")


def _records(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((folder / RECORDS).glob("*.json")):
        if not file.name.startswith("."):
            record = read_json(file)
            if not isinstance(record, dict):
                raise InputError(f"pairs: expected a record, got something else, in {file}")
            yield file.stem, record


def _judge(options: PairOptions) -> str | None:
    """As verdicts have it; None if nobody is to look at pairs."""
    return make_backend(options.judge_model or "").name if asks_somebody(options.judge_model) else None


def _reasons(folder: Path, stem: str, record: dict[str, Any], options: PairOptions, judge: str | None) -> list[str]:
    if "failed" in record:
        return [f"{_FAILED}{record['failed']}"]
    if not PairFiles.of(stem).are_in(folder):
        return ["files are missing; the same command makes them again"]
    if not _is_of_its_video(folder / PairFiles.of(stem).edited, record):
        return ["its video was made anew and is not recorded yet; the same command does it"]
    found, verdict = faults(record["measures"], options), record["verdict"]
    if verdict is not None and not verdict["keep"]:
        found.append(f"{verdict['model']} says no: {verdict['reason'] or 'without a reason'}")
    if judge is not None and not found and (verdict is None or verdict["model"] != judge):
        found.append(f"not judged yet by {judge}")
    return found


def _is_of_its_video(edited: Path, record: dict[str, Any]) -> bool:
    """Whether the video that lies there is the one of this record: a run may have ended after it, or after its JSON."""
    about = manifest_path(edited)
    try:
        made_by = read_json(about, lenient=True).get("fingerprint")
    except (InputError, AttributeError):
        return False
    between = run_file(edited).exists() and edited.stat().st_mtime_ns > about.stat().st_mtime_ns
    return made_by == record["made_by"] and not between


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    measures, verdict = record.get("measures", {}), record.get("verdict") or {}
    shown = {key: "" if measures.get(key) is None else f"{float(measures[key]):.6g}" for key in _MEASURES}
    told = "" if not verdict else "yes" if verdict["keep"] else "no"
    return {**shown, "verdict_by": verdict.get("model", ""), "verdict": told}


def _write_card(folder: Path, kept: int, dropped: int) -> None:
    """What `datasets` loads (without it, words such as `train` in a clip's name would be taken for splits)."""
    file = folder / CARD
    if file.exists() and _MARK not in file.read_text(encoding="utf-8"):
        return  # the user's own
    none = "" if kept else f"\n\nNothing reads a set without a pair: `{METADATA}` has no rows yet."
    text = f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - {METADATA}
    - edited/*.mp4
    - masks/*.mp4
    - pexels/**/*.mp4
---
# Video editing pairs

{_MARK} {kept} pairs; {dropped} more are not in the set, for the reasons in `{DROPPED}`.{none}

A row of `{METADATA}` is a pair: `source_file_name` and `edited_file_name` (videos of one length and size),
`mask_file_name` (white = edited; `masks` has the same as ids, in VPData's layout), captions of both, the edited region
and the instruction under the names of VideoPainter's release. `background_psnr` (dB) is measured outside the mask,
`change` (levels of 255) inside, both of the files; `clip_direction` where CLIP's weights were there. `pairs/NAME.json`
has who said what, `edited/NAME.json` everything about the run.

- `datasets.load_dataset(FOLDER)`: columns `source`, `edited`, `mask` and the text.
- Training: `--meta_file_path {METADATA}`: the sources with their masks and captions.
- Evaluation: `--sets edit_standard={METADATA}`: a model's edits of the sources, by the edited captions.
"""
    write_text(file, text)
