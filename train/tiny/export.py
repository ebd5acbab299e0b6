"""Put trained parts together as a checkpoint in the released layout, in float16.

`--part backbone`: VAE, text encoder, backbone, from the states in --work.
`--part trained`: branch and ID adapter, from checkpoints of the two training scripts (--branch, --id_adapter).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from autoencoder import load_autoencoder
from backbone import Backbone, build_scheduler
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from safetensors import safe_open
from safetensors.torch import save_file
from text import load_tokenizer

from videopainter.files import replacing_folder, write_json
from videopainter.runs.weights import DEFAULTS_FILE

# The windows themselves paint a first frame better than colours that go on into it do.
DEFAULTS = {"num_inference_steps": 4, "guidance_scale": 2.0, "img_inpainting_model": "none"}
BACKBONE, BRANCH, ADAPTER = "CogVideoX-5b-I2V", "VideoPainter/checkpoints/branch", "VideoPainterID/checkpoints"


def stock_transformer(backbone: Backbone) -> CogVideoXTransformer3DModel:
    """Upstream's class with the same weights, so that upstream's pipelines load the folder."""
    config = {k: v for k, v in backbone.transformer.config.items() if not k.startswith("_")}
    stock = CogVideoXTransformer3DModel(**config)
    stock.load_state_dict(backbone.transformer.state_dict())
    return stock


def export_backbone(work: Path, target: Path) -> None:
    """Write the backbone's folder: VAE, text encoder and transformer with the averaged weights of their trainings."""
    tokenizer, vae = load_tokenizer(work), load_autoencoder(work)
    backbone = Backbone(len(tokenizer))
    saved = torch.load(work / "videos.pt", weights_only=True)
    backbone.load_state_dict(saved["average"])
    print(f"backbone: step {saved['step']}")
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
        write_json(partial / DEFAULTS_FILE, DEFAULTS, indent=2)
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
    parser.add_argument("--branch", type=Path, help="a checkpoint-N of VideoPainter.sh")
    parser.add_argument("--id_adapter", type=Path, help="a checkpoint-N of VideoPainterID.sh")
    args = parser.parse_args()
    if args.part == "backbone":
        export_backbone(args.work, args.target)
        return
    if args.branch:
        export_trained(args.branch / "branch", "diffusion_pytorch_model.safetensors", args.target / BRANCH)
    if args.id_adapter:
        export_trained(args.id_adapter, "pytorch_lora_weights.safetensors", args.target / ADAPTER)


if __name__ == "__main__":
    main()
