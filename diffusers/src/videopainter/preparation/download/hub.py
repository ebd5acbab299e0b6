"""Files of hub repositories, laid out where we want them: told first, then fetched by the hub's own library.

`HF_ENDPOINT`, `HF_TOKEN` and the hub's other variables work as anywhere.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videopainter.errors import InputError, one_line
from videopainter.files import make_folder
from videopainter.preparation.units import size_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

_TRIES, _FIRST_WAIT = 4, 2.0
_POINTER_BYTES = 1024


class HubError(InputError):
    """The hub has not, or does not give, what was asked for."""


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Some files of a repository.

    folder: Where its root goes, below the root of what is fetched; "" is that root itself.
    files, but: Patterns of names to take, and among them to leave (`*` also matches `/`).
    """

    repo: str
    folder: str = ""
    files: tuple[str, ...] = ("*",)
    but: tuple[str, ...] = ()
    kind: Literal["model", "dataset"] = "model"

    def takes(self, name: str) -> bool:
        """Whether a file is wanted."""
        wanted = any(fnmatchcase(name, pattern) for pattern in self.files)
        return wanted and not any(fnmatchcase(name, pattern) for pattern in self.but)


@dataclass(frozen=True)
class HubFile:
    """One file of a plan, `name` below the repository's root. `here`: it is there already."""

    name: str
    size: int
    here: bool


@dataclass(frozen=True)
class HubPlan:
    """What of a repository's `revision` goes into `folder`."""

    source: HubFiles
    revision: str
    folder: Path
    files: tuple[HubFile, ...]

    @property
    def missing(self) -> list[HubFile]:
        """What is to be fetched."""
        return [file for file in self.files if not file.here]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def missing_size(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.missing)


def plan_hub(source: HubFiles, root: Path) -> HubPlan:
    """Ask the hub for names and sizes, and look what is there.

    Raises:
        HubError: no such repository, not for us, no such file in it, or no connection.
        InputError: a file of ours has the place of one to fetch.
    """
    folder = root / source.folder
    with _hub_errors(source.repo):
        api = _api()
        revision = api.repo_info(source.repo, repo_type=source.kind).sha
        tree = list(api.list_repo_tree(source.repo, recursive=True, revision=revision, repo_type=source.kind))
    assert revision is not None
    found = [file for file in tree if hasattr(file, "blob_id") and source.takes(file.path)]
    if not found:
        raise HubError(f"{source.repo}: expected files like {', '.join(source.files)}, found none")
    files = tuple(HubFile(file.path, file.size, _is_here(file, folder)) for file in found)  # type: ignore[arg-type]
    return HubPlan(source, revision, folder, files)


def fetch_hub(plan: HubPlan, *, workers: int = 4) -> None:
    """Fetch what is missing; files appear whole, and one that was begun goes on.

    Raises:
        HubError: it did not work in several tries, or not all files came as long as they are.
    """
    from huggingface_hub import snapshot_download

    names = [file.name for file in plan.missing]
    if not names:
        return
    make_folder(plan.folder)
    for turn in range(_TRIES):
        try:
            with _hub_errors(plan.source.repo):
                snapshot_download(
                    plan.source.repo,
                    repo_type=plan.source.kind,
                    revision=plan.revision,
                    local_dir=plan.folder,
                    allow_patterns=names,
                    max_workers=workers,
                    endpoint=_endpoint(),
                )
            wrong = [file.name for file in plan.missing if not _has_size(plan.folder / file.name, file.size)]
            if not wrong:
                return
            raise HubError(f"{plan.source.repo}: {len(wrong)} files did not come whole, the first is {wrong[0]}")
        except HubError as error:
            if turn == _TRIES - 1 or isinstance(error, HubRefusal):
                raise
            time.sleep(_FIRST_WAIT * 2**turn)


class HubRefusal(HubError):
    """Asking again changes nothing."""


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """What the hub's library raises, in a line."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise HubRefusal(
            f"{repo}: its owner wants the terms accepted first: https://huggingface.co/{repo}, then `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubRefusal(f"{repo}: the hub has no such repository, or not for you (`hf auth login`)") from None
    except errors.OfflineModeIsEnabled:
        raise HubRefusal(f"{repo}: HF_HUB_OFFLINE is set, unset it to fetch") from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, httpx2.HTTPError) as error:
        raise HubError(f"{repo}: the hub cannot be reached, or did not answer ({one_line(error)[:200]})") from None
    except (errors.FileMetadataError, OSError) as error:
        raise HubError(f"{repo}: cannot fetch ({one_line(error)[:200]})") from None


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint())


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _is_here(file: RepoFile, folder: Path) -> bool:
    """Whether the file is there; InputError where another one has its place that did not come from the hub."""
    local = folder / file.path
    if not local.exists():
        return False
    size = local.stat().st_size if local.is_file() else -1
    if size == file.size and (file.lfs is not None or _blob_id(local) == file.blob_id):
        return True
    fetched = (folder / ".cache" / "huggingface" / "download" / f"{file.path}.metadata").exists()
    if fetched or (file.lfs is not None and 0 <= size <= _POINTER_BYTES):  # an older version, or git-lfs' pointer
        return False
    raise InputError(
        f"expected the file of {size_text(file.size)} that the hub has, found another of {size_text(size)} "
        f"in its place (move it away): {local}"
    )


def _has_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _blob_id(file: Path) -> str:
    """git's name of a file's content."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
