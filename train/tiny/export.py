"""Put what is trained so far together as `ckpt/tiny`, in the released layout; what is missing comes from its start."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from backbone import Backbone, build_scheduler
from branch import build_branch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from id_adapter import ADAPTER, adapter_weights, add_adapter
from text import make_tokenizer
from vae import load_vae

TRAINING_CAPTIONS = "short_captions.json"


def load_average(model: Any, work: Path, name: str) -> Any:
    """The averaged weights of `<work>/<name>.pt`, if there are any yet."""
    file = work / f"{name}.pt"
    if file.exists():
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["average"])
        print(f"{name}: step {saved['step']}")
    else:
        print(f"{name}: untrained")
    return model.eval()


def stock_transformer(backbone: Backbone) -> CogVideoXTransformer3DModel:
    """Upstream's class with the same weights, so that upstream's pipelines load the folder."""
    config = {k: v for k, v in backbone.transformer.config.items() if not k.startswith("_")}
    stock = CogVideoXTransformer3DModel(**config)
    stock.load_state_dict(backbone.transformer.state_dict())
    return stock


def scaling_factor(work: Path, vae: Any) -> float:
    """1 / standard deviation of the training latents; of the untrained VAE: its default."""
    scale = work / "scale.json"
    return json.loads(scale.read_text()) if scale.exists() else vae.config.scaling_factor


def export(work: Path, target: Path) -> None:
    """Write the whole tree beside `target` and put it in its place (README.md and so on stay)."""
    temporary = target.with_name(target.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    captions = json.loads((work / TRAINING_CAPTIONS).read_text())
    tokenizer = make_tokenizer([words[k] for words in captions for k in ("full", "without")], work / "tokenizer")
    torch.manual_seed(0)
    vae = load_vae(work)
    vae.register_to_config(scaling_factor=scaling_factor(work, vae))
    backbone = load_average(Backbone(len(tokenizer)), work, "backbone")
    branch = load_average(build_branch(backbone.transformer), work, "branch")
    CogVideoXImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=backbone.text_encoder.half(),
        vae=vae.half(),
        transformer=stock_transformer(backbone).half(),
        scheduler=build_scheduler(),
    ).save_pretrained(temporary / "CogVideoX-5b-I2V")
    shutil.copy(work / "tokenizer" / "spiece.model", temporary / "CogVideoX-5b-I2V" / "tokenizer")
    branch.half().save_pretrained(temporary / "VideoPainter" / "checkpoints" / "branch")
    adapted = load_average(add_adapter(backbone.transformer.float()), work, "id_adapter")
    ADAPTER.save(
        temporary / "VideoPainterID" / "checkpoints",
        {name: weight.half() for name, weight in adapter_weights(adapted).items()},
    )
    for file in temporary.rglob("*.safetensors"):
        file.chmod(0o644)
    target.mkdir(parents=True, exist_ok=True)
    for part in temporary.iterdir():
        shutil.rmtree(target / part.name, ignore_errors=True)
        part.rename(target / part.name)
    temporary.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", type=Path, default=Path("ckpt/tiny"))
    args = parser.parse_args()
    export(args.work, args.target)


if __name__ == "__main__":
    main()
