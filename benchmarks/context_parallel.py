"""What one of 1, 2 or 4 processes has to do in a pass of branch and backbone whose tokens they share. No GPU is used.

Random weights, both families, with ID resampling (compact, a quarter of the tokens) and guidance. On one machine's
cores wall time says little; what is measured per process is its tokens, CPU time, activations at their peak, and the
bytes that it sends. Ratios of one run.
    python benchmarks/context_parallel.py
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing
from torch.utils._python_dispatch import TorchDispatchMode

from videopainter import CogvideoXBranchModel, VideoPainterTransformer3DModel
from videopainter.models.backbones.denoiser import Conditions, Denoiser
from videopainter.models.backbones.leading import TokenGroup
from videopainter.models.backbones.wan_video.branch import WanBranchModel
from videopainter.models.backbones.wan_video.transformer import VideoPainterWanTransformer3DModel
from videopainter.models.live_bytes import LiveBytes, weights_of
from videopainter.models.token_share import TokenShare, share_tokens

PROCESSES = (1, 2, 4)
HEADS, HEAD = 4, 64
TEXT, TEXT_WIDTH = 226, 64
LATENTS, ROWS, COLUMNS = 9, 30, 30  # 9 x 15 x 15 tokens
BLOCKS, PASSES = 4, 2


def make(family: str) -> tuple[Any, Any]:
    """Backbone and context encoder."""
    torch.manual_seed(0)
    common = {"num_attention_heads": HEADS, "attention_head_dim": HEAD, "num_layers": BLOCKS}
    if family == "CogVideoX":
        options = {"time_embed_dim": 64, "text_embed_dim": TEXT_WIDTH, "use_rotary_positional_embeddings": True}
        transformer = VideoPainterTransformer3DModel(**common, **options, in_channels=16, out_channels=16).eval()
        return transformer, CogvideoXBranchModel.from_transformer(transformer, num_layers=2).eval()
    options = {"text_dim": TEXT_WIDTH, "freq_dim": 64, "ffn_dim": 4 * HEADS * HEAD}
    wan = VideoPainterWanTransformer3DModel(**common, **options, in_channels=16, out_channels=16).eval()
    return wan, WanBranchModel.from_transformer(wan, num_layers=2).eval()


class SentBytes(TorchDispatchMode):
    """Bytes that this process sends to the others of a group of `size`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.total = size, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if "all_to_all_single" in name:  # what stays here is not sent
            self.total += args[0].nbytes * (self.size - 1) / self.size
        elif "c10d::allgather_" in name:
            self.total += sum(x.nbytes for x in args[1]) * (self.size - 1)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def measured(family: str, size: int, group: TokenGroup | None) -> dict[str, float]:
    """Of this process: video tokens, CPU and wall seconds, bytes at the peak and sent, of a pass."""
    transformer, branch = make(family)
    if group is not None:
        share_tokens([transformer, branch], group.mesh)
    draw = torch.Generator().manual_seed(1)
    noisy, masked = (torch.randn(2, LATENTS, 16, ROWS, COLUMNS, generator=draw) for _ in range(2))
    mask = torch.zeros(2, LATENTS, 1, ROWS, COLUMNS)
    mask[..., : ROWS // 2, : COLUMNS // 2] = 1
    text = torch.randn(2, TEXT, TEXT_WIDTH, generator=draw)
    denoiser = Denoiser(transformer, branch, form="compact")
    clip = denoiser.prepare(Conditions(masked_latents=masked, mask=mask))
    inputs = noisy, clip, text, torch.tensor([500, 500])
    denoiser(*inputs)  # whatever is made once
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(PASSES):
        denoiser(*inputs)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    with LiveBytes(known=[*weights_of(transformer, branch), noisy, text]) as live:
        denoiser(*inputs)
    with SentBytes(size) as sent:
        denoiser(*inputs)
    share = TokenShare.of(transformer)
    tokens = clip.num_tokens if share is None else share.lengths(clip.num_tokens)[share.rank]
    return {"tokens": tokens, "cpu": cpu / PASSES, "wall": wall / PASSES, "peak": live.peak, "sent": sent.total}


def work(rank: int, size: int, port: int, folder: str) -> None:
    """What each process does: its figures go to a file."""
    torch.set_num_threads(1)
    group = None
    if size > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        group = TokenGroup.meet(size, torch.device("cpu"), timedelta(hours=1))
    figures = {family: measured(family, size, group) for family in ("CogVideoX", "Wan")}
    Path(folder, f"{size}_{rank}.json").write_text(json.dumps(figures))


def main() -> None:
    """Print the table: the largest of the processes' figures."""
    with tempfile.TemporaryDirectory() as folder:
        for size in PROCESSES:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            multiprocessing.spawn(work, (size, port, folder), nprocs=size)
        figures = {
            size: [json.loads(Path(folder, f"{size}_{rank}.json").read_text()) for rank in range(size)]
            for size in PROCESSES
        }
    print("| family | processes | video tokens | CPU time | activations | sent, MiB | wall time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for family in ("CogVideoX", "Wan"):
        [one] = (each[family] for each in figures[1])
        for size in PROCESSES:
            most = {name: max(each[family][name] for each in figures[size]) for name in one}
            ratios = " | ".join(f"{most[name] / one[name]:.2f}" for name in ("cpu", "peak"))
            wall = f"{most['wall'] / one['wall']:.2f}"
            print(f"| {family} | {size} | {most['tokens']:.0f} | {ratios} | {most['sent'] / 2**20:.1f} | {wall} |")


if __name__ == "__main__":
    main()
