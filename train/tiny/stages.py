"""Keep finished stages of the bold stack in git, and go on from there: `train/tiny/stages/*.safetensors`, float16.

python train/tiny/stages.py pack --work outputs/bold     # averaged weights of every stage that is there
python train/tiny/stages.py unpack --work outputs/bold   # state files as if the stages had run here
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from videopainter.files import replacing

FOLDER = Path(__file__).parent / "stages"
NAMES = ("autoencoder", "judge", "bold_decoder", "images", "videos")


def pack(work: Path, folder: Path) -> None:
    """Write the averaged weights of the stages in `work`, the latents' scale and the tokenizer to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if not (work / f"{name}.pt").exists():
            continue
        saved = torch.load(work / f"{name}.pt", weights_only=True)
        weights = {key: value.half().contiguous() for key, value in saved["average"].items()}
        with replacing(folder / f"{name}.safetensors") as partial:
            save_file(weights, partial, metadata={"step": str(saved["step"])})
        (folder / f"{name}.safetensors").chmod(0o644)
        size = (folder / f"{name}.safetensors").stat().st_size / 1e6
        print(f"{name}: step {saved['step']}, {size:.1f} MB")
    if (work / "scale.json").exists():
        shutil.copy(work / "scale.json", folder)
    if (work / "tokenizer").exists():
        shutil.copytree(work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)


def unpack(folder: Path, work: Path) -> None:
    """Write state files that trainings and measurements of `work` go on from; what is there already stays."""
    work.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.glob("*.safetensors")):
        if (work / f"{file.stem}.pt").exists():
            continue
        with safe_open(file, "pt") as stored:
            weights = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118
            step = int(stored.metadata()["step"])
        with replacing(work / f"{file.stem}.pt") as partial:
            # Without optimizers' states: a training that goes on starts them anew.
            torch.save({"model": weights, "average": weights, "step": step}, partial)
    if (folder / "scale.json").exists() and not (work / "scale.json").exists():
        shutil.copy(folder / "scale.json", work)
    if (folder / "tokenizer").exists() and not (work / "tokenizer").exists():
        shutil.copytree(folder / "tokenizer", work / "tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("pack", "unpack"))
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    if args.action == "pack":
        pack(args.work, FOLDER)
    else:
        unpack(FOLDER, args.work)


if __name__ == "__main__":
    main()
