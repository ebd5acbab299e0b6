"""The web server: who may come in, what it hands out, and how it ends. Needs gradio."""

from __future__ import annotations

import threading
import traceback
import warnings

import gradio as gr
from starlette.middleware import Middleware

from videopainter.app.desk import Desk
from videopainter.app.options import AppOptions
from videopainter.app.projects import Projects
from videopainter.app.ui.access import check_address, read_accounts, root_path_of
from videopainter.app.ui.look import stylesheet, theme
from videopainter.app.ui.page import build_page
from videopainter.app.ui.served import ClosedDoors, Served

CLEANING_SECONDS = 600.0
_THREADS = 200  # most of them wait: for their turn to click, or for the desk


class Server:
    """The app behind its address. `with Server(options) as server:` starts it; `server.address` says where."""

    def __init__(self, options: AppOptions) -> None:
        self.options = options
        self.accounts, self.root_path = read_accounts(options.auth), root_path_of(options)
        self.port = check_address(options)
        self.projects = Projects(options=options)
        self.desk = Desk(self.projects)
        self.address = ""
        self._ended = threading.Event()

    def __enter__(self) -> Server:
        self.desk.start()
        try:
            # Only now: it empties the folder, which may have been another server's.
            self.served = Served(self.projects.root)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._blocks = build_page(self.projects, self.desk, self.served, self.options)
                self.address = _launch(self._blocks, self)
        except BaseException:
            self.desk.stop()
            raise
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
            for clean in (lambda: self.projects.clean(self.options.idle_hours * 3600), self.served.clean):
                try:
                    clean()
                except Exception:  # a folder that cannot be removed now: the next round tries again
                    traceback.print_exc()


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
        max_threads=_THREADS,
        app_kwargs={"middleware": [Middleware(ClosedDoors)]},
    )
    return address
