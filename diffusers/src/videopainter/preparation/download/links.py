"""Lists of links, as VPData has them: which address goes to which file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from videopainter.data.records import record_paths
from videopainter.errors import InputError, one_line

# What may be part of a file's name.
_ID = re.compile(r"[\w-]+(?:\.[\w-]+)*")
SUBSETS = ("pexels", "videovo")
_DELIMITERS = ",;\t"


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
    for number, row in enumerate(read_link_rows(csv_file, columns)):
        links.append(named_once(_link(number, row, subset), rows))
    return links


def named_once(link: VideoLink, rows: dict[str, int]) -> VideoLink:
    """The link, or a fault where a row before it has its path; `rows`: {path: row}, which is added to."""
    first = rows.setdefault(link.path, link.row) if link.path else link.row
    return link if first == link.row else replace(link, path="", fault=f"row {first} has the same name")


def read_link_rows(csv_file: Path, needed: Sequence[str], also: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Of each row the columns `needed`, and those of `also` that the table has. Commas, semicolons or tabs part them.

    Raises InputError for a file that is missing, no CSV, without rows, or that lacks a column.
    """
    number = 0
    try:
        with csv_file.open(newline="", encoding="utf-8-sig") as stream:
            header = stream.readline()
            stream.seek(0)
            delimiter = max(_DELIMITERS, key=header.count)
            # What is behind the last column is a part of it: links have commas, and few tables quote them.
            reader = csv.DictReader(stream, delimiter=delimiter, restkey="")
            reader.fieldnames = names = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in needed if name not in names]
            if missing:
                raise InputError(
                    f"links: expected the columns {' and '.join(needed)}, found no {', '.join(missing)}, in {csv_file}"
                )
            columns = [*needed, *(name for name in also if name in names)]
            for number, row in enumerate(reader, start=1):  # noqa: B007 (how many there were)
                if rest := delimiter.join(row.get("") or ()).rstrip(delimiter):
                    row[names[-1]] += delimiter + rest
                yield {name: (row[name] or "").strip() for name in columns}
    except FileNotFoundError:
        raise InputError(f"links: expected a CSV, found none at {csv_file}") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"links: expected a CSV, it cannot be read ({one_line(error)}): {csv_file}") from None
    if not number:
        raise InputError(f"links: expected rows, got none, in {csv_file}")


def is_web_address(url: str) -> bool:
    """Whether it is an address that can be fetched."""
    return url.lower().startswith(("http://", "https://"))


def _link(number: int, row: dict[str, str], subset: str) -> VideoLink:
    url = row["link"]
    if subset == "pexels":
        name = f"{number:012d}_{row['videoId']}.mp4"
        fault = "" if _ID.fullmatch(row["videoId"]) else f"videoId: expected letters and digits, got {row['videoId']!r}"
    else:
        name = row["path"]
        fault = "" if _ID.fullmatch(name) and name.endswith(".0.mp4") else f"path: expected NUMBER.0.mp4, got {name!r}"
    if not fault and not is_web_address(url):
        fault = f"link: expected an http address, got {url!r}"
    path = "" if fault else record_paths(name)[0].as_posix()
    return VideoLink(row=number, name=name, url=url, path=path, fault=fault)
