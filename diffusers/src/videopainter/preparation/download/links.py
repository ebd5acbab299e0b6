"""Lists of links, as VPData has them: which address goes to which file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from videopainter.data.records import record_paths
from videopainter.errors import InputError, one_line

# What may be part of a file's name.
_ID = re.compile(r"[\w-]+(?:\.[\w-]+)*")
SUBSETS = ("pexels", "videovo")


@dataclass(frozen=True)
class VideoLink:
    """One video to fetch. `path`: below the data folder; "" with a `fault` where the row says none."""

    row: int
    name: str
    url: str
    path: str
    fault: str = ""


def read_links(csv_file: Path, subset: str) -> list[VideoLink]:
    """The rows of `pexels.csv` or `videovo.csv`.

    pexels: `videoId` and `link`; the row's number (from 0) and the id are the name, `{row:012d}_{videoId}.mp4`.
    videovo: `path`, the name as in the other CSVs (`000005000000.0.mp4`), and `link`.
    Raises InputError for a file that is missing, no CSV, without rows, or that lacks a column.
    """
    columns = ("videoId", "link") if subset == "pexels" else ("path", "link")
    links: list[VideoLink] = []
    rows: dict[str, int] = {}
    for number, row in enumerate(_rows(csv_file, columns)):
        link = _link(number, row, subset)
        first = rows.setdefault(link.path, number) if link.path else number
        if first != number:
            link = replace(link, path="", fault=f"row {first} has the same name")
        links.append(link)
    if not links:
        raise InputError(f"links: expected rows, got none, in {csv_file}")
    return links


def _rows(csv_file: Path, columns: tuple[str, str]) -> Iterator[dict[str, str]]:
    try:
        with csv_file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"links: expected the columns {' and '.join(columns)}, found no {', '.join(missing)}, in {csv_file}"
                )
            for row in reader:
                yield {name: (row[name] or "").strip() for name in columns}
    except FileNotFoundError:
        raise InputError(f"links: expected a CSV, found none at {csv_file}") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"links: expected a CSV, it cannot be read ({one_line(error)}): {csv_file}") from None


def _link(number: int, row: dict[str, str], subset: str) -> VideoLink:
    url = row["link"]
    if subset == "pexels":
        name = f"{number:012d}_{row['videoId']}.mp4"
        fault = "" if _ID.fullmatch(row["videoId"]) else f"videoId: expected letters and digits, got {row['videoId']!r}"
    else:
        name = row["path"]
        fault = "" if _ID.fullmatch(name) and name.endswith(".0.mp4") else f"path: expected NUMBER.0.mp4, got {name!r}"
    if not fault and not url.lower().startswith(("http://", "https://")):
        fault = f"link: expected an http address, got {url!r}"
    path = "" if fault else record_paths(name)[0].as_posix()
    return VideoLink(row=number, name=name, url=url, path=path, fault=fault)
