"""A local web server for the tests of downloads, which misbehaves as asked: the first part of the path says how."""

import gzip
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!doctype html><title>Not found</title>" + b" " * 500


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "VideoServer"

    def log_message(self, *_):
        pass

    def do_GET(self):
        how, _, name = self.path.strip("/").partition("/")
        with self.server.lock:
            self.server.asked[self.path] += 1
            self.server.log.append((time.monotonic(), self.path, self.headers.get("Range")))
            turn = self.server.asked[self.path]
        getattr(self, f"_{how}")(name, turn)

    def _send(self, content, *, status=200, headers=(), declared=None, sent=None, kind="video/mp4"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if declared is None else declared))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if sent is None else content[:sent])
        if sent is not None or declared is not None:
            self.wfile.flush()
            self.close_connection = True

    def _file(self, name, turn, *, sent=None, tag=None, ranges=True):
        content = self.server.files[name]
        tag = tag or f'"{hash(content)}"'
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range", tag)
        if ranges and asked and condition == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self._send(b"", status=416, headers=[("Content-Range", f"bytes */{len(content)}")])
                return
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(content[start:], status=206, headers=[("Content-Range", where), ("ETag", tag)], sent=sent)
        else:
            self._send(content, headers=[("ETag", tag)], sent=sent)

    def _good(self, name, turn):
        self._file(name, turn)

    def _drops(self, name, turn):
        """Ends after almost a third of the file, three times."""
        self._file(name, turn, sent=(len(self.server.files[name]) - 1) // 3 if turn <= 3 else None)

    def _noranges(self, name, turn):
        """Drops twice, and always starts from the beginning."""
        self._file(name, turn, sent=len(self.server.files[name]) // 2 if turn <= 2 else None, ranges=False)

    def _changes(self, name, turn):
        """Another file, of another tag, once the first half of one has been sent."""
        if turn == 1:
            content = self.server.files[name]
            self._send(b"?" * len(content), headers=[("ETag", '"old"')], sent=len(content) // 2)
        else:
            self._file(name, turn)

    def _liar(self, name, turn):
        """Answers a range with the bytes of another one, once; then drops nothing."""
        content = self.server.files[name]
        if turn == 1:
            self._file(name, turn, sent=len(content) // 2)
        elif turn == 2:
            where = f"bytes 7-{len(content) - 1}/{len(content)}"
            self._send(content[7:], status=206, headers=[("Content-Range", where)])
        else:
            self._file(name, turn)

    def _busy(self, name, turn):
        if turn <= 2:
            self._send(PAGE, status=429, headers=[("Retry-After", "1")], kind="text/html")
        else:
            self._file(name, turn)

    def _later(self, name, turn):
        self._send(PAGE, status=503, headers=[("Retry-After", "86400")])

    def _unavailable(self, name, turn):
        self._send(PAGE, status=503 if turn % 2 else 500) if turn <= 2 else self._file(name, turn)

    def _gone(self, name, turn):
        self._send(PAGE, status=404, kind="text/html")

    def _short(self, name, turn):
        """Says fewer bytes than the file has: what comes is cut off, and looks whole."""
        content = self.server.files[name]
        self._send(content[: len(content) - 500])

    def _long(self, name, turn):
        """Says more bytes than come, always."""
        content = self.server.files[name]
        self._send(content, declared=len(content) + 500)

    def _unknown(self, name, turn):
        """No length at all; the end of the connection is the end of the file."""
        self.send_response(200)
        self.end_headers()
        content = self.server.files[name]
        self.wfile.write(content if turn > 1 else content[: len(content) // 2])
        self.close_connection = True

    def _html(self, name, turn):
        self._send(PAGE, kind="text/html; charset=utf-8")

    def _htmlvideo(self, name, turn):
        self._send(PAGE, kind="video/mp4")

    def _gzip(self, name, turn):
        if turn == 1:
            self._send(gzip.compress(self.server.files[name]), headers=[("Content-Encoding", "gzip")])
        else:
            self._file(name, turn)

    def _endless(self, name, turn):
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.end_headers()
        try:
            for _ in range(2000):
                self.wfile.write(bytes(100_000))
        except OSError:
            pass
        self.close_connection = True

    def _huge(self, name, turn):
        self._send(b"", declared=10**13)

    def _drips(self, name, turn):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass
        self.close_connection = True

    def _silent(self, name, turn):
        time.sleep(0.6)
        self.close_connection = True

    def _resets(self, name, turn):
        """Closes the connection without a word, twice."""
        if turn <= 2:
            self.close_connection = True
        else:
            self._file(name, turn)

    def _moved(self, name, turn):
        self._send(b"", status=302, headers=[("Location", f"/good/{name}")])

    def _circle(self, name, turn):
        self._send(b"", status=302, headers=[("Location", f"/circle/{name}")])

    def _local(self, name, turn):
        self._send(b"", status=302, headers=[("Location", f"file://{self.server.secret}")])

    def _teapot(self, name, turn):
        self._send(PAGE, status=418)


class VideoServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.secret = files, "/etc/hostname"
        self.asked, self.log, self.lock = Counter(), [], threading.Lock()

    def handle_error(self, *_):
        pass  # clients that hang up are what is tested

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


@contextmanager
def video_server(files):
    """`files`: {name: content}."""
    server = VideoServer(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
