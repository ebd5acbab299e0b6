"""Step time and peak memory of training with and without a latent cache, on the same clips, as ratios of one run.

Two stacks: `ckpt/tiny` at 9×64×96, and one of random weights (VAE 32 to 128 wide, T5 512 wide, 4 blocks of 512) at
17×64×96. Each training is a process of its own, the real command, without validation; its `metrics.jsonl` is read.
    python benchmarks/latent_cache.py [--steps 12 --batch_size 2 --only tiny]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
TINY = ROOT / "ckpt" / "tiny" / "CogVideoX-5b-I2V"
FRAMES = {"tiny": 9, "mid": 17}
CLIPS, HEIGHT, WIDTH, WARM_UP = 8, 64, 96, 2


def write_clips(root: Path) -> Path:
    """A training set of drifting gradients with a moving box, 960×540 at 24 fps; returns its CSV."""
    from videopainter.data.video.writer import VideoWriter

    rows = ["path,start_frame,end_frame,fps,mask_id,caption"]
    ramp = np.add.outer(np.arange(540), np.arange(960))
    for number in range(CLIPS):
        base = f"{number:012d}_{number}"
        masks = root / "video_inpainting" / "pexels" / base / "all_masks.npz"
        masks.parent.mkdir(parents=True)
        ids = np.zeros((60, 540, 960), np.uint8)
        with VideoWriter(root / "pexels/pexels/raw_video" / base[:9] / f"{base}.mp4", fps=24) as writer:
            for t in range(len(ids)):
                frame = np.stack([ramp + 3 * t, ramp - t, ramp * (number + 1)], axis=-1) % 256
                writer.write(frame[None].astype(np.uint8))
                ids[t, 180:360, 40 + 6 * t : 240 + 6 * t] = 1
        np.savez_compressed(masks, ids)
        rows.append(
            f"{base}.mp4,0,{len(ids)},24,1,A box drifts over a gradient of colours and nothing else moves {number}"
        )
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    return root / "train.csv"


def write_mid_model(folder: Path) -> Path:
    """A checkpoint of random weights that is larger where a cache saves: in VAE and text encoder."""
    import torch
    from diffusers import AutoencoderKLCogVideoX
    from transformers import T5Config, T5EncoderModel

    from videopainter import VideoPainterTransformer3DModel

    torch.manual_seed(0)
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    vae = AutoencoderKLCogVideoX.load_config(TINY / "vae")
    vae |= {"block_out_channels": (32, 64, 64, 128), "layers_per_block": 2}
    AutoencoderKLCogVideoX.from_config(vae).save_pretrained(folder / "vae")
    text = T5Config.from_pretrained(TINY / "text_encoder")
    text.update({"d_model": 512, "d_ff": 1536, "num_layers": 8, "num_heads": 8, "d_kv": 64})
    T5EncoderModel(text).save_pretrained(folder / "text_encoder")
    backbone = VideoPainterTransformer3DModel.load_config(TINY / "transformer")
    backbone |= {"num_attention_heads": 8, "attention_head_dim": 64, "num_layers": 4, "text_embed_dim": 512}
    VideoPainterTransformer3DModel.from_config(backbone).save_pretrained(folder / "transformer")
    return folder


def run(door: str, *flags: str) -> float:
    """Seconds that a command of `train/` took."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "train" / door), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}")
    return time.perf_counter() - started


def train(output: Path, *flags: str) -> tuple[float, float]:
    """(median seconds of a step after the first ones, peak memory in MiB) of one training."""
    common = ("--report_to", "none", "--logging_steps", "1", "--validating_steps", "0", "--lr_warmup_steps", "0")
    run("train_cogvideox_inpainting_i2v_video.py", *flags, *common, "--output_dir", str(output))
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = [step for step in steps if "seconds_per_step" in step]
    seconds = statistics.median(step["seconds_per_step"] for step in steps[WARM_UP:])
    return seconds, max(step["peak_memory_bytes"] for step in steps) / 2**20


def compare(name: str, model: Path, csv: Path, work: Path, arguments: argparse.Namespace) -> None:
    """One row of the table for each way of training, and what the cache cost."""
    data = ("--pretrained_model_name_or_path", str(model), "--meta_file_path", str(csv), "--height", str(HEIGHT))
    data += ("--width", str(WIDTH), "--max_num_frames", str(FRAMES[name]))
    batch = str(arguments.batch_size)
    steps = ("--train_batch_size", batch, "--max_train_steps", str(arguments.steps), "--dataloader_num_workers", "0")
    cache = work / "cache"
    seconds = run("cache_latents.py", *data, "--latent_cache", str(cache), "--variants", "2", "--batch_size", batch)
    size = sum(path.stat().st_size for path in cache.iterdir()) / 1e6
    plain = train(work / "plain", *data, *steps)
    cached = train(work / "cached", *data, *steps, "--latent_cache", str(cache))
    print(f"| {name} | on the fly | {plain[0]:.2f} | 1.00 | {plain[1]:.0f} | 1.00 |")
    ratios = (plain[0] / cached[0], cached[1] / plain[1])
    print(f"| {name} | from a cache | {cached[0]:.2f} | 1/{ratios[0]:.1f} | {cached[1]:.0f} | {ratios[1]:.2f} |")
    print(f"{name}: {CLIPS} clips × 2 variants cached in {seconds:.0f} s (start included), {size:.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--only", choices=tuple(FRAMES))
    arguments = parser.parse_args()
    print(
        "| stack | batches | s per step | ratio | peak MiB | ratio |\n| --- | --- | --- | --- | --- | --- |", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        csv = write_clips(root / "clips")
        for name in [arguments.only] if arguments.only else FRAMES:
            model = TINY if name == "tiny" else write_mid_model(root / "mid-model")
            compare(name, model, csv, root / name, arguments)


if __name__ == "__main__":
    main()
