"""Who may come in, at which address, and which models work: what the flags say of it, checked, loading none."""

from __future__ import annotations

import socket
from pathlib import Path

from videopainter.app.filling import model_options
from videopainter.app.options import AppOptions
from videopainter.captions.backends import asks_somebody, check_backend
from videopainter.errors import InputError
from videopainter.models.checks import check_checkpoints
from videopainter.pipelines.first_frame import check_filler
from videopainter.pipelines.quantization import check_quantization
from videopainter.runs.processes import check_device
from videopainter.runs.weights import resolve_weights
from videopainter.segmentation.choosing import SegmenterOptions, choose_segmenter


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


def check_access(options: AppOptions) -> None:
    """InputError for flags that let nobody in, before seconds are spent on imports."""
    read_accounts(options.auth)
    root_path_of(options)
    check_address(options)


def check_models(options: AppOptions) -> None:
    """InputError, in one line, for weights that are not there or do not fit each other, or a device there is none of.

    Who is named and cannot work is told at the start, not to the first user.
    """
    models = model_options(options)
    check_device(models.device)
    check_quantization(models.quantization)
    weights = resolve_weights(models)
    check_checkpoints(weights.model_path, weights.inpainting_branch, weights.id_adapter)
    check_filler(options.img_inpainting_model)
    segmenter = SegmenterOptions(segmenter=options.segmenter, text_model=options.text_model)
    choose_segmenter(segmenter, words=options.text_model is not None)
    if asks_somebody(options.llm_model):
        check_backend(options.llm_model or "")
