"""The web server: who may come in, what it hands out, and how it ends. Needs gradio."""

from __future__ import annotations

import socket
import threading
import warnings
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from videopainter.app.desk import Desk
from videopainter.app.options import AppOptions
from videopainter.app.projects import Projects
from videopainter.app.ui.look import stylesheet, theme
from videopainter.app.ui.page import build_page
from videopainter.app.ui.served import ClosedDoors, Served
from videopainter.errors import InputError

CLEANING_SECONDS = 600.0


def read_accounts(file: str | None) -> list[tuple[str, str]] | None:
    """Names and passwords, a line NAME:PASSWORD each; empty lines and those that begin with # are left out.

    Raises:
        InputError: no such file, a line without a name or a password, a name that comes twice, or nobody.
    """
    if file is None:
        return None
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        told = "text in UTF-8" if isinstance(error, UnicodeDecodeError) else "a file that can be read"
        raise InputError(f"--auth: expected {told} with lines NAME:PASSWORD, got none, in {file}") from None
    accounts: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        name = name.strip()
        # The line itself may be a password: it is not told.
        if not (name and colon and password):
            raise InputError(f"--auth: expected NAME:PASSWORD, got another text in line {number}, in {file}")
        if name in accounts:
            raise InputError(f"--auth: expected every name once, got {name!r} again in line {number}, in {file}")
        accounts[name] = password
    if not accounts:
        raise InputError(f"--auth: expected lines NAME:PASSWORD, got none, in {file}")
    return list(accounts.items())


def check_address(options: AppOptions) -> int:
    """The port to listen at. InputError where it is taken, or where the address is not this machine's."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host.strip("[]"), options.port))
        except OSError as error:
            where = f"{options.host}:{options.port}"
            told = f"got {where} ({error.strerror})"
            raise InputError(f"--host, --port: expected an address that is free, {told}") from None
        return probe.getsockname()[1]


def root_path_of(options: AppOptions) -> str | None:
    """`--root_path` as a path. InputError for another text."""
    path = options.root_path
    if path is None:
        return None
    plain = path.startswith("/") and not path.startswith("//") and not any(c in path for c in "?#\\ ")
    if not (plain or path.startswith(("http://", "https://"))):
        raise InputError(f"--root_path: expected a path such as /videopainter, or a whole address, got {path!r}")
    return path.rstrip("/")


class Server:
    """The app behind its address. `with Server(options) as server:` starts it; `server.address` says where."""

    def __init__(self, options: AppOptions) -> None:
        self.options = options
        self.accounts, self.root_path = read_accounts(options.auth), root_path_of(options)
        self.port = check_address(options)
        self.projects = Projects(options=options)
        self.desk = Desk(self.projects)
        self.served = Served(self.projects.root)
        self.address = ""
        self._ended = threading.Event()

    def __enter__(self) -> Server:
        self.desk.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._blocks = build_page(self.projects, self.desk, self.served, self.options)
            self.address = _launch(self._blocks, self)
        threading.Thread(target=self._clean, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.desk.stop()
        self._blocks.close(verbose=False)

    def wait(self) -> None:
        """Until Ctrl-C."""
        self._ended.wait()

    def _clean(self) -> None:
        while not self._ended.wait(CLEANING_SECONDS):
            self.projects.clean(self.options.idle_hours * 3600)
            self.served.clean()


def _launch(blocks: gr.Blocks, server: Server) -> str:
    """Starts the web server; the address."""
    options = server.options
    # Events are short, as long work is the desk's: nobody waits for another's.
    blocks.queue(default_concurrency_limit=None, max_size=1000)
    _, address, _ = blocks.launch(
        server_name=options.host,
        server_port=server.port,
        auth=server.accounts,
        root_path=server.root_path,
        max_file_size=options.max_upload_mb * 10**6,
        allowed_paths=[],
        blocked_paths=[str(server.projects.folder)],
        theme=theme(),
        css_paths=[stylesheet()],
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        prevent_thread_lock=True,
        quiet=True,
        state_session_capacity=200,
        app_kwargs={"middleware": [Middleware(ClosedDoors)]},
    )
    return address
