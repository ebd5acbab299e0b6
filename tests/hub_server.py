"""A small hub on localhost, as far as the hub's own library asks: repositories, trees, files with ranges."""

import hashlib
import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REVISION = "a" * 40


def entry(path, content, large):
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    made = {"type": "file", "path": path, "size": len(content), "oid": oid}
    if large:
        made["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return made


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "HubServer"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(head=True)

    def do_GET(self):
        self._answer(head=False)

    def _answer(self, head):
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/"):
            self._api(path.removeprefix("/api/"))
        else:
            self._file(path, head)

    def _api(self, path):
        kind, _, rest = path.partition("/")
        repo = "/".join(rest.split("/")[:2])
        if repo in self.server.gated:
            self._send(b"{}", 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        elif (kind, repo) not in self.server.repos:
            self._send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in rest:
            files = self.server.repos[kind, repo]
            self._json([entry(name, content, name.endswith(self.server.large)) for name, content in files.items()])
        else:
            self._json({"id": repo, "sha": REVISION, "private": False, "tags": [], "downloads": 0, "likes": 0})

    def _file(self, path, head):
        repo, _, name = path.partition(f"/resolve/{REVISION}/")
        repo = repo.strip("/")
        kind = "datasets" if repo.startswith("datasets/") else "models"
        content = self.server.repos[kind, repo.removeprefix("datasets/")][name]
        found = entry(name, content, name.endswith(self.server.large))
        headers = {"X-Repo-Commit": REVISION, "ETag": f'"{found["lfs"]["oid"] if "lfs" in found else found["oid"]}"'}
        start, status = 0, 200
        if asked := self.headers.get("Range"):
            start, status = int(asked.removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if head:
            self._send(content, 200, headers, body=b"")
            return
        with self.server.lock:
            self.server.fetched[name] += 1
            self.server.ranges.append((name, asked))
            drop = self.server.drops.pop(name, None)
        body = content[start:]
        self._send(body, status, headers, body=body if drop is None else body[:drop])
        self.close_connection = self.close_connection or drop is not None

    def _json(self, content):
        self._send(json.dumps(content).encode(), 200, {"Content-Type": "application/json"})

    def _send(self, content, status, headers, body=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if body is None else body)


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    large = (".zip", ".safetensors", ".pt")

    def __init__(self, repos):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.gated, self.lock = repos, set(), threading.Lock()
        self.fetched, self.ranges, self.drops = Counter(), [], {}

    def handle_error(self, *_):
        pass

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def hub_server(repos):
    """`repos`: {("models" or "datasets", repository): {file: content}}."""
    server = HubServer(repos)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
