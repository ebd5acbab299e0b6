"""A local server that speaks OpenAI's chat protocol and misbehaves as its script says, answer after answer."""

import json
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "CaptionServer"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            how = self.server.script.pop(0) if self.server.script else self.server.otherwise
        if callable(how):
            how = how(body)
        if isinstance(how, str):
            self._send(200, completion(how))
        else:
            getattr(self, f"_{how[0]}")(*how[1:])

    def _send(self, status, content, headers=()):
        text = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _status(self, status, message, *headers):
        self._send(status, {"error": {"message": message, "type": "server", "param": None, "code": None}}, headers)

    def _raw(self, text):
        self._send(200, text)

    def _refuses(self, text):
        answer = completion("")
        answer["choices"][0]["message"] |= {"content": None, "refusal": text}
        self._send(200, answer)

    def _slow(self, seconds, text):
        time.sleep(seconds)
        self._send(200, completion(text))

    def _cut(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.wfile.flush()
        self.close_connection = True


def completion(text):
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "some",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }


# An instruction of each kind, by what the question says of it.
INSTRUCTIONS = {
    "that adds one": "Add a red kite.",
    "that removes": "Remove the red ball.",
    "that replaces": "Replace the red ball with a blue star.",
    "that changes one property": "Change the red ball to a green ball.",
}


def by_question(body):
    """Answers of a model that sees a red ball on grass, by what it is asked."""
    text = json.dumps(body["messages"])
    if "Invent one instruction" in text:
        return next(answer for words, answer in INSTRUCTIONS.items() if words in text)
    if "Does the edited video show" in text:
        return "Yes."
    if "fewer than 20 words" in text:
        return "A blue star."
    edited = "Write the description of the edited video" in text
    return "A blue star on grass." if edited else "A red ball on grass."


class CaptionServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.requests, self.script, self.otherwise = [], [], "A grey wall."

    def handle_error(self, request, client_address):
        """Prints nothing of a client that gave up waiting: tests are about it, and the next one reads stderr."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def serving():
    server = CaptionServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# ---- what tests of captions share

KEY = "sk-secret-0123456789"
CAPTION = "A man in a red coat walks a dog along a beach. The sea is calm."


def pictures(count=2, side=40) -> list[np.ndarray]:
    return [np.full((side, side + 10, 3), 60 * i + 40, np.uint8) for i in range(count)]


def files_with(text: str, folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]
