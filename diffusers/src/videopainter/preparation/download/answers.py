"""What a server's answer means for a download: go on, come again later, or never."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2

# It is not there, or not for us: asking again changes nothing.
_FOR_GOOD = (400, 401, 402, 403, 404, 405, 406, 410, 414, 451)
_BUSY = (429, 503)
_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)")
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d+)")
# What servers send in place of a file.
_PAGES = ("text/", "application/json", "application/xhtml", "application/xml")


class Gone(Exception):
    """The link is dead: asking again is of no use."""


class TooLarge(Exception):
    """There is more than may be taken."""


class Later(Exception):
    """It did not work this time.

    after: seconds that the server asks for; None: it says nothing.
    busy: the server has too much to do, which is nobody's fault.
    """

    def __init__(self, reason: str, *, after: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.after, self.busy = after, busy


class NotTheFile(Exception):
    """What came is something else: a web page, or bytes that do not decode."""


@dataclass(frozen=True)
class Body:
    """An answer that brings bytes: those from `start` on, of `total` (None: it does not say)."""

    start: int
    total: int | None
    validator: str


def read_answer(answer: httpx2.Response, asked_from: int) -> Body:
    """What is coming.

    Raises:
        Gone, Later, NotTheFile: nothing that helps.
    """
    status = answer.status_code
    if status in _FOR_GOOD:
        raise Gone(_status_text(status))
    if status == 416:
        raise Later("the part that was there does not fit the file")
    if status in _BUSY:
        raise Later(_status_text(status), after=retry_after(answer.headers.get("Retry-After", "")), busy=True)
    if status not in (200, 206):
        raise Later(_status_text(status), after=retry_after(answer.headers.get("Retry-After", "")))
    kind = answer.headers.get("Content-Type", "").strip().lower()
    if kind.startswith(_PAGES):
        raise NotTheFile(f"it sent {kind.partition(';')[0]} instead of a video")
    if answer.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise Later("it sent the file packed, though asked not to")
    start, total = 0, _number(answer.headers.get("Content-Length"))
    if status == 206:
        match = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != asked_from:
            raise Later(f"asked from byte {asked_from} on, got {answer.headers.get('Content-Range') or 'no range'}")
        start, total = asked_from, _number(match[3])
    return Body(start=start, total=total, validator=_validator(answer))


def whole_size(answer: httpx2.Response) -> int | None:
    """How long the file is, by an answer that there is nothing behind the part (416)."""
    match = _UNSATISFIED.fullmatch(answer.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3), which has a number or a date; None where it has neither."""
    text = text.strip()
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _validator(answer: httpx2.Response) -> str:
    """What If-Range compares: a strong entity tag, or the date of the last change."""
    tag = answer.headers.get("ETag", "")
    return answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


def _status_text(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"
