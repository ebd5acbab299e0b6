"""State files as if the stages up to the backbone had run here, from the weights of a checkpoint that train.sh made.

    python train/tiny/start.py --work outputs/tiny --checkpoint ckpt/tiny
    python train/tiny/start.py --work outputs/tiny --keep_judge     # of <work>/judge.pt, beside this file

What is there already stays. The checkpoint holds averaged weights in float16, and no optimizer's state.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from export import BACKBONE
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from videopainter.files import replacing

JUDGE = Path(__file__).parent / "judge.safetensors"
FINISHED = 10**9  # more steps than any stage has


def start(checkpoint: Path, work: Path) -> None:
    """Write the states of all stages but the image stage, which the video stage went on from."""
    work.mkdir(parents=True, exist_ok=True)
    folder = checkpoint / BACKBONE
    vae = AutoencoderKLCogVideoX.from_pretrained(folder / "vae").float()
    transformer = CogVideoXTransformer3DModel.from_pretrained(folder / "transformer").float()
    text_encoder = T5EncoderModel.from_pretrained(folder / "text_encoder").float()
    backbone = {f"transformer.{key}": value for key, value in transformer.state_dict().items()}
    backbone |= {f"text_encoder.{key}": value for key, value in text_encoder.state_dict().items()}
    judge = {key: value.float() for key, value in load_file(JUDGE).items()}
    states = {"autoencoder": vae.state_dict(), "decoder": vae.decoder.state_dict(), "videos": backbone, "judge": judge}
    for name, weights in states.items():
        if not (work / f"{name}.pt").exists():
            with replacing(work / f"{name}.pt") as partial:
                torch.save({"model": weights, "average": weights, "step": FINISHED}, partial)
    if not (work / "scale.json").exists():
        (work / "scale.json").write_text(json.dumps(vae.config["scaling_factor"]))
    if not (work / "tokenizer").exists():
        shutil.copytree(folder / "tokenizer", work / "tokenizer")


def keep_judge(work: Path, file: Path) -> None:
    """Write the judge's averaged weights in float16."""
    weights = torch.load(work / "judge.pt", weights_only=True)["average"]
    with replacing(file) as partial:
        save_file({key: value.half().contiguous() for key, value in weights.items()}, partial)
    file.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=Path("ckpt/tiny"))
    parser.add_argument("--keep_judge", action="store_true")
    args = parser.parse_args()
    if args.keep_judge:
        keep_judge(args.work, JUDGE)
    else:
        start(args.checkpoint, args.work)


if __name__ == "__main__":
    main()
