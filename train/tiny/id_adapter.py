"""Train the tiny ID-resample adapter: LoRA on the backbone, branch frozen; writes `<work>/id_adapter.pt`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from backbone import LatentSet, add_noise, build_scheduler, with_first_frame
from branch import build_branch, draw_inpainting, load_backbone
from common import Trainer
from peft import LoraConfig, get_peft_model_state_dict

from videopainter.models.id_adapter import IDAdapter
from videopainter.models.id_resample import HoleTokens, IDResample
from videopainter.models.transformer import token_mask
from videopainter.pipelines.conditioning import rotary_embedding

ADAPTER = IDAdapter(form="exact", rank=8, alpha=8.0)


def add_adapter(transformer):
    """The backbone with a fresh LoRA (its B matrices zero); only the LoRA trains."""
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(**ADAPTER.lora_config()), adapter_name="default")
    return transformer


def adapter_weights(transformer) -> dict[str, torch.Tensor]:
    """LoRA weights under peft's names."""
    return get_peft_model_state_dict(transformer)


def adapter_loss(transformer, frozen, branch, scheduler, sets, rng: np.random.Generator) -> torch.Tensor:
    """Denoising loss, whole and in the hole, with every block attending to its own hole tokens a second time."""
    clean, tokens, first, condition = draw_inpainting(sets, rng)
    clean, tokens, first, condition = (part[:12] for part in (clean, tokens, first, condition))
    t = torch.from_numpy(rng.integers(1000, size=len(clean)))
    keep = torch.from_numpy(rng.random(len(clean)) >= 0.35)
    noisy, weight = add_noise(scheduler, clean, torch.randn_like(clean), t)
    rotary = rotary_embedding(transformer.config, 8, 12, clean.shape[1])
    mask = condition[:, :, 16:]
    hole = token_mask(mask, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            text = frozen.text_encoder(tokens).last_hidden_state
            features = branch(noisy, text, condition, t, image_rotary_emb=rotary)
        output = transformer(
            with_first_frame(noisy, first, keep),
            text,
            t,
            image_rotary_emb=rotary,
            return_dict=False,
            branch_features=features,
            background_mask=~hole,
            id_resample=IDResample(HoleTokens.from_mask(hole), ADAPTER.form),
        )[0]
    error = weight * (scheduler.get_velocity(output.float(), noisy, t) - clean) ** 2
    return error.mean() + (error * mask).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer, scale, frozen = load_backbone(args.work)
    branch = build_branch(frozen.transformer).eval().requires_grad_(False)
    branch.load_state_dict(torch.load(args.work / "branch.pt", weights_only=True)["average"])
    transformer = add_adapter(frozen.transformer)
    sets = [LatentSet(args.work, "short", tokenizer, scale)]
    heldout = [LatentSet(args.work, "heldout", tokenizer, scale)]
    scheduler = build_scheduler()
    trainer = Trainer(transformer, state=args.work / "id_adapter.pt", steps=args.steps, lr=args.lr, decay=0.98)

    def report(step: int) -> None:
        torch.manual_seed(1)
        with torch.no_grad():
            losses = [
                adapter_loss(trainer.average, frozen, branch, scheduler, heldout, np.random.default_rng(k))
                for k in range(4)
            ]
        print(f"id adapter step {step} held-out loss {torch.stack(losses).mean():.4f}", flush=True)

    def loss_of(step: int) -> torch.Tensor:
        return adapter_loss(transformer, frozen, branch, scheduler, sets, np.random.default_rng((4, step)))

    trainer.run(loss_of, report=report, every=50)


if __name__ == "__main__":
    main()
