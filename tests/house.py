"""Holds the house to its plan: rooms of at most 14 files, one meaning per name, nothing that nobody uses.

    python tests/house.py        # part of `make check`; exit code 1 and a line for everything that is wrong

Which room may import which, and that there is no circle inside one, is import-linter's part (`pyproject.toml`).
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from vulture import Vulture

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "diffusers" / "src" / "videopainter"
# Who may use what the package offers. Tests do not count: what only they call belongs to them.
USERS = ("infer", "train", "evaluate", "data_utils", "app", "comfyui", "benchmarks")

MOST_FILES = 14
# What a file of its kind is expected to have.
EVERYBODYS_NAMES = {"main", "read_options"}
# Unused as far as the code can tell: name -> who uses it.
USED_ELSEWHERE = {
    "__getattr__": "Python",
    "__dir__": "Python",
    "readable": "io.RawIOBase",
    "readinto": "io.RawIOBase",
    "_format_action_invocation": "argparse",
    "_get_help_string": "argparse",
    "model_cpu_offload_seq": "diffusers",
    "leave": "tests/test_memory.py, whose stand-ins cost nothing",
    "ADAPTER_RANK": "tests at the published sizes",
    "fuse_qkv_projections": "diffusers' users",
    "unfuse_qkv_projections": "diffusers' users",
    "flip_sin_to_cos": "configs of published weights",
    "freq_shift": "configs of published weights",
    "timestep_activation_fn": "configs of published weights",
    **{name: "configs of published weights" for name in ("freq_dim", "ffn_dim", "cross_attn_norm", "qk_norm", "eps")},
    **{name: "configs of published weights" for name in ("rope_max_seq_len", "image_dim", "pos_embed_seq_len")},
    "added_kv_proj_dim": "configs of published weights",
    "generate_type": "commands of the release",
    "cache_dir": "commands of the release",
    "meta_file": "settings.json of a latent cache",
    "frames_per_second": "metrics.jsonl of a training",
    "hole_squared": "fields of a NamedTuple, read by position",
    "types": "the signature of a torch dispatch mode",
    "worker": "the signature of a DataLoader's worker_init_fn",
    "zq": "the signature of upstream's decoder",
    "conv_cache": "the signature of upstream's decoder",
}
# Rooms that are built and tested, but not yet called by the ones above: whoever calls them takes their names out.
WAITING = {
    *("move_to", "fill_frame", "Quality", "QUALITIES", "speck", "camera_flow"),  # propagation/, vision/flow.py
}


def crowded(package: Path) -> Iterator[str]:
    """Folders with more files than a room has, `__init__.py` aside."""
    for folder in sorted({file.parent for file in package.rglob("*.py")}):
        count = sum(file.name != "__init__.py" for file in folder.glob("*.py"))
        if count > MOST_FILES:
            room = folder.relative_to(package.parent)
            yield f"{room}: expected at most {MOST_FILES} files, got {count}: make subfolders"


def defined_twice(package: Path) -> Iterator[str]:
    """Public names that two modules define at their top level."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(package.rglob("*.py")):
        for name in sorted(_public_names(ast.parse(file.read_text(encoding="utf-8")))):
            places[name].append(str(file.relative_to(package.parent)))
    for name, files in sorted(places.items()):
        if len(files) > 1 and name not in EVERYBODYS_NAMES:
            yield f"{name}: expected one meaning, got {len(files)}: {', '.join(files)}"


def _public_names(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return {name for name in names if not name.startswith("_")}


def unused(package: Path, users: Sequence[Path]) -> Iterator[str]:
    """Functions, classes, variables and arguments of `package` that neither it nor `users` mention."""
    search = Vulture(ignore_names=[*USED_ELSEWHERE, *WAITING])
    search.scavenge([str(path) for path in (package, *users) if path.exists()])
    for item in search.get_unused_code(min_confidence=60):
        # Attributes are set on the objects of libraries, which read them.
        if item.typ != "attribute" and Path(item.filename).is_relative_to(package):
            file = Path(item.filename).relative_to(package.parent)
            yield f"{file}:{item.first_lineno}: unused {item.typ} {item.name}"


def main() -> int:
    wrong = [*crowded(PACKAGE), *defined_twice(PACKAGE), *unused(PACKAGE, [REPO / name for name in USERS])]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
