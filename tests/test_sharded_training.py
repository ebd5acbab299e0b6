"""Two gloo processes in bf16 with sharded weights: ZeRO-3 through DeepSpeed, FSDP2 through accelerate's own code.

accelerate refuses FSDP2 on a CPU, so the processes here tell it that it has it; all the rest is as on GPUs. The scripts
as people launch them are tried by `make test-launch`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from conftest import adapter_flags, clean_process
from safetensors.torch import load_file
from wan_models import write_checkpoint

from videopainter.cli.train import train_branch, train_id_adapter
from videopainter.models.checkpoint_files import ADAPTER_FILE
from videopainter.training.tracking.trackers import read_metrics

ENGINES = {
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
    "fsdp2": {
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    },
}
WEIGHTS = {"branch": "branch/diffusion_pytorch_model.safetensors", "id_adapter": ADAPTER_FILE}


def two_processes(kind: str, engine: str, runs: list[list[str]], told: Path) -> None:
    """Train on two processes, once for each list of flags; what they saw is in `told`/RANK.json."""
    told.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [clean_process(train_as_rank, rank, port, kind, engine, runs, told) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, "the processes wait for each other"
    assert [process.exitcode for process in processes] == [0, 0]


def train_as_rank(rank: int, port: int, kind: str, engine: str, runs: list[list[str]], told: Path) -> None:
    """What the launcher would start."""
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}", **ENGINES[engine]}
    if engine == "fsdp2":
        pretend_fsdp2()
    else:
        # An extension for faster reductions in shared memory, compiled for minutes on a fresh machine.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
    seen = watch()
    for argv in runs:
        AcceleratorState._reset_state(True)
        assert {"branch": train_branch, "id_adapter": train_id_adapter}[kind](argv) == 0
    (told / f"{rank}.json").write_text(json.dumps({name: sorted(values) for name, values in seen.items()}))


def pretend_fsdp2() -> None:
    """accelerate's state of a run with FSDP2, which it does not take on without a GPU."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    from videopainter.training import engine

    class Sharding(Accelerator):
        def __init__(self, **options) -> None:
            super().__init__(**options)
            plugin = FullyShardedDataParallelPlugin()
            plugin.set_mixed_precision(self.mixed_precision)
            AcceleratorState._shared_state |= {"fsdp_plugin": plugin, "distributed_type": DistributedType.FSDP}
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    engine.Accelerator = Sharding
    engine.check_engine = lambda options: None  # refuses it on a CPU


def watch() -> dict[str, set[str]]:
    """Dtypes of rotary tables, of weights at work and of DeepSpeed's sums of gradients; names of weights saved."""
    from videopainter.models.backbones.wan_video.transformer import VideoPainterWanBlock
    from videopainter.models.transformer import VideoPainterBlock
    from videopainter.training.engine import Engine

    seen: dict[str, set[str]] = {"rotary": set(), "weights": set(), "gathered": set(), "sums": set()}
    whole_state = Engine.whole_state

    def watch_blocks(block: Any, feed_forward: str) -> None:
        forward = block.forward

        def watched_forward(self, *args, **options):
            found = [*args, *options.values()]
            tables = next(x for x in found if isinstance(x, tuple) and len(x) == 2 and torch.is_tensor(x[0]))
            seen["rotary"] |= {str(table.dtype) for table in tables}
            seen["weights"].add(str(getattr(self, feed_forward).net[0].proj.weight.dtype))
            return forward(self, *args, **options)

        block.forward = watched_forward

    def watched_state(self, tensors):
        seen["gathered"] |= {name for name in tensors if not name.startswith(("average.", "optimization_step"))}
        if self.is_deepspeed:
            seen["sums"].add(str(self.model.optimizer.gradient_accumulation_dtype))
        return whole_state(self, tensors)

    watch_blocks(VideoPainterBlock, "ff")
    watch_blocks(VideoPainterWanBlock, "ffn")
    Engine.whole_state = watched_state
    return seen


# Three of eight: each costs as much as twenty other tests. VIDEOPAINTER_ALL_ENGINES=1 tries them all.
CASES = [("zero3", "id_adapter", "CogVideoX"), ("fsdp2", "branch", "CogVideoX"), ("fsdp2", "branch", "Wan")]
if os.environ.get("VIDEOPAINTER_ALL_ENGINES"):
    CASES = [(engine, kind, "CogVideoX") for engine in ENGINES for kind in WEIGHTS]
    CASES += [("fsdp2", "branch", "Wan"), ("zero3", "id_adapter", "Wan")]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "kind", "family"), CASES)
def test_two_processes_train_validate_and_save(flags, checkpoint, clips, tmp_path, engine, kind, family):
    """And go on: DeepSpeed's launches are killed and resumed by `make test-launch`, FSDP2 cannot be launched there."""
    if engine != "fsdp2" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    changes = {"mixed_precision": "bf16", "max_train_steps": 3, "gradient_checkpointing": True, "max_num_frames": 5}
    changes |= {"val_meta_file_path": clips, "validating_steps": 2, "num_inference_steps": 1, "validation_samples": 2}
    changes |= {"use_ema": engine != "zero3", "gradient_accumulation_steps": 2 if engine == "zero2" else 1}
    if family == "Wan":
        checkpoint = write_checkpoint(tmp_path / "wan")
        changes |= {"pretrained_model_name_or_path": checkpoint}
    if kind == "id_adapter":
        # By the seed one of the steps learns from previous clips and the others do not. Without losses before it, a
        # video finds no weights put together for them.
        changes |= adapter_flags(checkpoint) | {"prev_clip_prob": 0.5, "validation_samples": 0}
        changes |= {"id_resample_form": "compact"} if family == "Wan" else {}
    run, again = tmp_path / "run", tmp_path / "again"
    runs = [flags(run, train_batch_size=1, **changes)]
    if engine == "fsdp2":
        runs.append(flags(again, train_batch_size=1, resume_from_checkpoint=run / "checkpoint-2", **changes))
    two_processes(kind, engine, runs, tmp_path / "told")
    told = [json.loads((tmp_path / f"told/{rank}.json").read_text()) for rank in range(2)]
    for seen in told:
        assert (seen["rotary"], seen["weights"]) == (["torch.float32"], ["torch.bfloat16"])
        assert seen["sums"] == ([] if engine == "fsdp2" else ["torch.float32"])
    assert not (run / "validation/errors.log").exists()
    assert (run / "validation/step-2/0-row0.mp4").is_file()
    # One process with batches twice as large does the same; it holds trained weights in float32.
    AcceleratorState._reset_state(True)
    alone = tmp_path / "alone"
    assert {"branch": train_branch, "id_adapter": train_id_adapter}[kind](flags(alone, **changes)) == 0
    AcceleratorState._reset_state(True)
    assert measured(run) == pytest.approx(measured(alone), rel=5e-3)
    saved, expected = (load_file(folder / "checkpoint-3" / WEIGHTS[kind]) for folder in (run, alone))
    assert saved.keys() == expected.keys()
    assert len(told[0]["gathered"]) == len(saved)  # and not the backbone
    assert_trained_alike(saved, expected)
    if engine == "fsdp2":
        assert measured(again) == measured(run)[-1:]
        resumed = load_file(again / "checkpoint-3" / WEIGHTS[kind])
        assert all(torch.equal(resumed[name], saved[name]) for name in saved)


def measured(folder: Path) -> list[float]:
    return [row[n] for row in read_metrics(folder / "metrics.jsonl") for n in ("loss", "validation/loss") if n in row]


def assert_trained_alike(saved: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in saved.items():
        assert tensor.dtype == torch.float32 and tensor.shape == expected[name].shape
        assert torch.allclose(tensor, expected[name], atol=5e-3), name
    # Adam's steps are far smaller than bfloat16's: what is saved are the weights that it works on.
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in saved.values())


def test_a_lock_that_a_kill_left_is_told(tmp_path, monkeypatch, caplog):
    """DeepSpeed would wait for it without a word."""
    from videopainter.training import engine

    (tmp_path / "py311_cu130/cpu_adam").mkdir(parents=True)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    engine._tell_of_locked_extensions()
    assert not caplog.records
    (tmp_path / "py311_cu130/cpu_adam/lock").touch()
    engine._tell_of_locked_extensions()
    assert "py311_cu130/cpu_adam/lock" in caplog.text
