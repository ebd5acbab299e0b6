"""Memory by card: which mode `--memory auto` picks for CogVideoX-5B-I2V, and the computed peak; 480×720, any length.

Computed from live storages of the real modules on tensors without storage, not measured on a GPU: what offload
streams, page-locked memory, cuDNN's workspaces and the allocator take beyond is not seen; 1 GiB and 5 % of the card
stand for it.
    python benchmarks/inference_memory.py [--height 480 --width 720 --frames 49]
"""

from __future__ import annotations

import argparse

from videopainter.models.backbones.registry import backbone_of
from videopainter.pipelines.memory import (
    FILLER_ROOM,
    GIB,
    RESERVE,
    USABLE,
    ModelSizes,
    Workload,
    choose,
    filler_mode,
    fits,
    model_sizes,
)

CARDS = (8, 12, 16, 24, 32, 40, 80)  # GB on the label, taken as GiB, as the drivers show them
# FLUX.1-Fill-dev in bfloat16: 11.9 G parameters, T5-XXL, CLIP-L, VAE.
FLUX = {"transformer": 23_804_000_000, "text_encoder_2": 9_525_000_000, "text_encoder": 246_000_000, "vae": 168_000_000}
FLUX_BLOCKS = 3 * 680_000_000  # its double blocks, three at a time: at work, coming, leaving


def published_sizes(name: str = "CogVideoX-5b-I2V", rank: int = 0, quantization: str = "none") -> ModelSizes:
    """Sizes of a published backbone with its branch, VAE, T5-XXL and an ID adapter of `rank`; nothing is allocated."""
    import torch

    from videopainter.models.backbones.cogvideox.published import (
        build_backbone,
        build_branch,
        build_text_encoder,
        build_vae,
    )

    with torch.device("meta"):
        backbone = build_backbone(name, rank=rank)
        models = {"text_encoder": build_text_encoder(), "vae": build_vae(name), "branch": build_branch(name)}
    headers = {part: _header(model.state_dict()) for part, model in models.items()}
    state = _header(backbone.state_dict())
    headers["adapters"] = {key: entry for key, entry in state.items() if "lora_" in key}
    headers["transformer"] = {
        key.replace(".base_layer", ""): entry for key, entry in state.items() if "lora_" not in key
    }
    return model_sizes(headers, backbone_of(backbone).facts, models["vae"].config, quantization=quantization)


def _header(state: dict) -> dict:
    return {name: {"shape": list(tensor.shape)} for name, tensor in state.items()}


def rows(height: int, width: int, frames: int) -> dict[str, tuple[int, Workload]]:
    """Adapter's rank and workload by name. ID resampling hands on from window to window: what takes most."""
    work = Workload(height=height, width=width, num_frames=frames)
    size = {"height": height, "width": width, "num_frames": frames, "hands_on": True}
    return {
        "no ID": (0, work),
        "exact ID, hole 30 %": (256, Workload(form="exact", hole_share=0.3, **size)),
        "exact ID, hole 100 %": (256, Workload(form="exact", hole_share=1.0, **size)),
        "compact ID, hole 30 %": (256, Workload(form="compact", hole_share=0.3, **size)),
    }


def flux_cell(card: int) -> tuple[str, float]:
    """How FLUX is held on a card, and its peak. It runs before the video model loads, so the larger peak counts."""
    mode = filler_mode(FLUX, card * GIB)
    largest = max(FLUX.values()) if mode == "model_offload" else FLUX_BLOCKS
    return mode, largest + FILLER_ROOM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=720)
    parser.add_argument("--frames", type=int, default=49)
    arguments = parser.parse_args()
    sizes = {rank: published_sizes(rank=rank) for rank in (0, 256)}
    works = rows(arguments.height, arguments.width, arguments.frames)
    print("| card, GB | " + " | ".join(works) + " | FLUX |\n| " + "--- | " * (len(works) + 2))
    advice = {}
    for card in CARDS:
        cells = []
        for name, (rank, work) in works.items():
            try:
                choice = choose(sizes[rank], [work], card * GIB)
            except ValueError as error:
                cells.append("—")
                advice[f"{card} GB, {name}"] = str(error)
                continue
            cells.append(f"{choice.mode}{', tiles' if choice.tiling else ''}: {choice.peak / GIB:.1f}")
        mode, peak = flux_cell(card)
        cells.append(f"{mode}: {peak / GIB:.1f}" if fits(peak, card * GIB) else "—")
        print(f"| {card} | {' | '.join(cells)} |")
    print(
        f"\nPeaks in GiB, without a reserve of {RESERVE / GIB:.0f}; with it below {100 * USABLE:.0f} % of the card.\n"
    )
    for case, line in advice.items():
        print(f"{case}: {line}")


if __name__ == "__main__":
    main()
