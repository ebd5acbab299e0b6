"""One file from one address: resumed where it was left, tried again with patience, and only whole under its name."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import httpx2

from videopainter.errors import InputError, one_line
from videopainter.files import write_errors
from videopainter.flags import flag
from videopainter.preparation.download.answers import Gone, Later, NotTheFile, TooLarge, read_answer, whole_size
from videopainter.preparation.download.limits import DiskLimit, Patience, RateLimit, Stop
from videopainter.preparation.download.part import Part, PartOrigin
from videopainter.preparation.units import parse_bytes, size_text, time_text

AGENT = "videopainter (https://github.com/TencentARC/VideoPainter)"
# A server that is slower than this for so long is asked anew.
_SLOWEST, _SLOW_SECONDS = 1000, 30.0
# Waits between tries grow from a second to a minute.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
# What is no video is asked for once more; a server can be confused.
_TRIES_OF_OTHER_CONTENT = 2
# However much each try brings, or however busy a server is: an end.
_MOST_TRIES = 10

DONE, DEAD, OTHER, FAILED = "done", "dead", "no video", "failed"


@dataclass(kw_only=True)
class FetchOptions:
    """How hard a server is asked."""

    _argument_group_name: ClassVar[str] = "how hard servers are asked"

    attempts: int = flag(
        5, "How many tries in a row may bring nothing new before a link is given up for this run.", least=1
    )
    timeout: float = flag(30.0, "Seconds without a byte after which a connection is given up.", above=0)
    max_wait: float = flag(
        600.0, "How many seconds a server may ask to wait (Retry-After) without being given up.", least=0
    )
    max_file: str = flag("4GB", "No file is larger than this; what goes on without end is cut off here.")

    def check(self) -> None:
        """InputError for what is no size."""
        parse_bytes(self.max_file, "--max_file")


@dataclass(frozen=True)
class Fetched:
    """What became of a link: `status` is DONE, DEAD (for good), OTHER (what came is no video) or FAILED (for now)."""

    status: str
    reason: str = ""
    size: int = 0
    attempts: int = 0


class Fetcher:
    """Fetches files over one pool of connections; any number of threads may share it.

    Args:
        told: Called with the number of bytes whenever some have come.
    """

    def __init__(
        self,
        options: FetchOptions,
        *,
        stop: Stop,
        rate: RateLimit,
        disk: DiskLimit,
        connections: int = 8,
        told: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.options, self.stop, self.told = options, stop, told
        self._rate, self._disk = rate, disk
        self._patience = Patience(stop)
        self._largest = parse_bytes(options.max_file, "--max_file")
        self._client = httpx2.Client(
            follow_redirects=True,
            max_redirects=10,
            timeout=httpx2.Timeout(options.timeout, pool=None),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, url: str, target: Path, check: Callable[[Path], None] = lambda file: None) -> Fetched:
        """Bring `url` to `target`, which appears when it is whole and `check` has no objection (InputError).

        Raises:
            Stopped: the run is to end; what came is kept for the next one.
            WriteError: it cannot be written.
        """
        try:
            host = urlsplit(url).netloc
        except ValueError as error:
            return Fetched(DEAD, one_line(error))
        part = Part(target)
        tries, in_vain, others, most = 0, 0, 0, part.size
        while True:
            if self._patience.left(host) > self.options.max_wait:
                wait = time_text(self._patience.left(host))
                return Fetched(FAILED, f"the server asks to come again in {wait}", attempts=tries)
            self._patience.wait(host)
            tries += 1
            try:
                self._transfer(url, part)
                self._judge(part, check)
            except Gone as error:
                part.discard()
                return Fetched(DEAD, str(error), attempts=tries)
            except TooLarge as error:
                part.discard()
                return Fetched(FAILED, str(error), attempts=tries)
            except NotTheFile as error:
                part.discard()
                others, reason, wait = others + 1, str(error), None
                if others >= _TRIES_OF_OTHER_CONTENT:
                    return Fetched(OTHER, reason, attempts=tries)
            except Later as error:
                reason, wait = str(error), error.after
                brought, most = part.size > most, max(most, part.size)
                in_vain = 0 if brought else in_vain + (not error.busy)
                if error.busy:
                    self._patience.ask_for(host, self._pause(tries) if wait is None else wait)
            else:
                size = part.size
                part.publish()
                return Fetched(DONE, size=size, attempts=tries)
            if in_vain >= self.options.attempts or tries >= _MOST_TRIES * self.options.attempts:
                return Fetched(FAILED, reason, attempts=tries)
            if self._patience.left(host) <= 0:
                self.stop.sleep(self._pause(max(in_vain, 1)) if wait is None else min(wait, self.options.max_wait))

    @staticmethod
    def _pause(tries: int) -> float:
        """Seconds: twice as long each time, and drawn, so that threads do not come back all at once."""
        return random.uniform(0.5, 1.0) * min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (tries - 1))

    def _transfer(self, url: str, part: Part) -> None:
        """One try. Returns when all bytes are in the part; raises Gone, Later or NotTheFile otherwise."""
        if part.origin is not None and not (part.size and part.origin.can_go_on(url)):
            part.discard()
        headers = {}
        if part.origin is not None:
            headers["Range"] = f"bytes={part.size}-"
            if part.origin.validator:
                headers["If-Range"] = part.origin.validator
        try:
            with self._client.stream("GET", url, headers=headers) as answer:
                if answer.status_code == 416 and self._is_whole(answer, part):
                    return
                self._receive(url, answer, part)
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
            raise Gone(one_line(error)) from None
        except (httpx2.HTTPError, httpx2.StreamError, UnicodeError) as error:
            raise Later(_connection_text(error, part)) from None

    def _is_whole(self, answer: httpx2.Response, part: Part) -> bool:
        if part.origin is not None and whole_size(answer) == part.size == part.origin.total:
            return True
        part.discard()
        return False

    def _receive(self, url: str, answer: httpx2.Response, part: Part) -> None:
        try:
            body = read_answer(answer, part.size)
        except Later:
            if answer.status_code == 206:
                part.discard()
            raise
        origin = PartOrigin(url, body.validator, body.total)
        if body.total is not None and body.total > self._largest:
            raise TooLarge(f"the file has {size_text(body.total)}, more than --max_file {self.options.max_file}")
        if body.start and not (part.origin is not None and part.origin.is_same(origin)):
            part.discard()
            raise Later("the file changed since the part that is there came")
        if not body.start:
            part.begin(origin)
        with write_errors(part.file), part.file.open("ab", buffering=0) as file:
            for chunk in self._chunks(answer):
                self._disk.take(len(chunk))
                file.write(chunk)
                self.told(len(chunk))
                if file.tell() > self._largest:
                    raise TooLarge(f"the file goes on behind {size_text(self._largest)}, see --max_file")
                self._rate.take(len(chunk))
        if body.total is not None and part.size != body.total:
            size = part.size
            if size > body.total:
                part.discard()
            raise Later(f"the connection ended after {size} of {body.total} bytes")

    def _chunks(self, answer: httpx2.Response) -> Iterator[bytes]:
        """The bytes as they come; Later where they come too slowly, by the time that was spent waiting for them."""
        waited, since = 0.0, 0
        chunks = answer.iter_raw()
        while True:
            self.stop.check()
            started = time.monotonic()
            chunk = next(chunks, None)
            if chunk is None:
                return
            waited, since = waited + time.monotonic() - started, since + len(chunk)
            yield chunk
            if waited > _SLOW_SECONDS:
                if since < _SLOWEST * waited:
                    raise Later(f"it sends {size_text(since / waited)} a second")
                waited, since = 0.0, 0

    def _judge(self, part: Part, check: Callable[[Path], None]) -> None:
        if not part.size:
            raise NotTheFile("it sent an empty file")
        try:
            check(part.file)
        except InputError as error:
            raise NotTheFile(str(error).replace(str(part.file), "the file")) from None


def _connection_text(error: Exception, part: Part) -> str:
    what = one_line(error) if str(error) else type(error).__name__
    return f"{what} (after {part.size} bytes)" if part.size else what
