"""Put trained parts together as a checkpoint in the released layout, in float16.

`--part backbone`: VAE, text encoder, backbone, from the states in --work; with `--bold STAGE` those of bold.sh, the
backbone as that stage left it.
`--part trained`: branch and ID adapter, from checkpoints of the two training scripts (--branch, --id_adapter).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from autoencoder import load_autoencoder
from backbone import Backbone, build_scheduler
from bold import build_model, load_tokenizer
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from safetensors import safe_open
from safetensors.torch import save_file
from text import make_tokenizer
from transformers import T5Tokenizer
from vae import load_vae

from videopainter.files import replacing_folder

TRAINING_CAPTIONS = "short_captions.json"
BACKBONE, BRANCH, ADAPTER = "CogVideoX-5b-I2V", "VideoPainter/checkpoints/branch", "VideoPainterID/checkpoints"


def stock_transformer(backbone: Backbone) -> CogVideoXTransformer3DModel:
    """Upstream's class with the same weights, so that upstream's pipelines load the folder."""
    config = {k: v for k, v in backbone.transformer.config.items() if not k.startswith("_")}
    stock = CogVideoXTransformer3DModel(**config)
    stock.load_state_dict(backbone.transformer.state_dict())
    return stock


def trained_parts(work: Path, bold: str | None) -> tuple[T5Tokenizer, Any, Backbone]:
    """Tokenizer, VAE and backbone with the averaged weights of their trainings."""
    if bold:
        tokenizer, vae = load_tokenizer(work), load_autoencoder(work)
        backbone = build_model(len(tokenizer))
    else:
        captions = json.loads((work / TRAINING_CAPTIONS).read_text())
        tokenizer = make_tokenizer([words[k] for words in captions for k in ("full", "without")], work / "tokenizer")
        vae, backbone = load_vae(work), Backbone(len(tokenizer))
    saved = torch.load(work / f"{bold or 'backbone'}.pt", weights_only=True)
    backbone.load_state_dict(saved["average"])
    print(f"backbone: step {saved['step']}")
    return tokenizer, vae, backbone


def export_backbone(work: Path, target: Path, bold: str | None = None) -> None:
    """Write the backbone's folder; `bold`: the stage of bold.sh that the backbone comes from."""
    tokenizer, vae, backbone = trained_parts(work, bold)
    vae.register_to_config(scaling_factor=json.loads((work / "scale.json").read_text()))
    with replacing_folder(target / BACKBONE) as partial:
        CogVideoXImageToVideoPipeline(
            tokenizer=tokenizer,
            text_encoder=backbone.text_encoder.half(),
            vae=vae.half(),
            transformer=stock_transformer(backbone).half(),
            scheduler=build_scheduler(),
        ).save_pretrained(partial)
        shutil.copy(work / "tokenizer" / "spiece.model", partial / "tokenizer")
        make_readable(partial)


def export_trained(checkpoint: Path, name: str, target: Path) -> None:
    """Copy what a training script wrote to `target`, its weights in half precision and its metadata as they are."""
    with replacing_folder(target) as partial:
        with safe_open(checkpoint / name, "pt") as file:
            tensors = {key: file.get_tensor(key).half() for key in file.keys()}  # noqa: SIM118
            save_file(tensors, partial / name, metadata=file.metadata())
        config = checkpoint / "config.json"
        if config.exists():
            shutil.copy(config, partial)
        make_readable(partial)


def make_readable(folder: Path) -> None:
    """For others, too: safetensors writes for its owner alone."""
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("backbone", "trained"), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", type=Path, default=Path("ckpt/tiny"))
    parser.add_argument("--bold", choices=("images", "videos"), help="the stage of bold.sh whose backbone is exported")
    parser.add_argument("--branch", type=Path, help="a checkpoint-N of VideoPainter.sh")
    parser.add_argument("--id_adapter", type=Path, help="a checkpoint-N of VideoPainterID.sh")
    args = parser.parse_args()
    if args.part == "backbone":
        export_backbone(args.work, args.target, args.bold)
        return
    if args.branch:
        export_trained(args.branch / "branch", "diffusion_pytorch_model.safetensors", args.target / BRANCH)
    if args.id_adapter:
        export_trained(args.id_adapter, "pytorch_lora_weights.safetensors", args.target / ADAPTER)


if __name__ == "__main__":
    main()
