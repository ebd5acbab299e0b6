"""The app in the browser: `app/app.py`."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from typing import Any

from videopainter.app.options import AppOptions
from videopainter.app.ui.access import check_access, check_models
from videopainter.cli.door import parse_options
from videopainter.cli.running import advise
from videopainter.flags import check_installed
from videopainter.runs.weights import FIRST_FRAME_FLAG, checkpoint_defaults

_DESCRIPTION = "Click an object, track it, fill or edit it, in the browser. Without any flag: the tiny checkpoint."
_COMMON = (
    *("model_path", "inpainting_branch", "id_adapter", "img_inpainting_model", "llm_model", "segmenter"),
    *("memory", "quantization", "host", "port", "auth", "root_path", "work_dir", "max_upload_mb"),
)


def read_options(argv: Sequence[str] | None = None) -> AppOptions:
    """The flags of `app/app.py`, from `argv` or the command line."""
    (options,) = parse_options((AppOptions,), argv, description=_DESCRIPTION, common=_COMMON, defaults=_defaults)
    return options


def _defaults(given: Mapping[str, Any]) -> Mapping[str, str]:
    """Steps and guidance are a matter of each fill's settings."""
    return {name: text for name, text in checkpoint_defaults(given).items() if name == FIRST_FRAME_FLAG}


def serve_app(options: AppOptions) -> int:
    """Serve the app until Ctrl-C; the exit code.

    Raises:
        InputError: for flags that do not fit, an address that is taken, weights that are not there.
    """
    check_installed("app/app.py", "gradio", install="-e app")
    check_access(options)
    check_models(options)
    from videopainter.app.ui.serving import Server

    advise(lambda: "projects are kept: start the app again to go on")
    with Server(options) as server:
        print(f"VideoPainter: {server.address}  (Ctrl-C ends it)", flush=True)
        if options.open:
            webbrowser.open(server.address)
        server.wait()
    return 0
