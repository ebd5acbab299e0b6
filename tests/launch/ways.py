"""The ways in which a training is started: every accelerate config of train/, and torchrun without one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
TRAIN = REPO / "train"
TINY = REPO / "ckpt/tiny"
SCRIPTS = {"branch": "VideoPainter.sh", "ID adapter": "VideoPainterID.sh"}


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to start the processes.

    Args:
        name: As the table shows it.
        config: `CONFIG_FILE`; None: the script's own choice without GPUs (torchrun, DDP).
        processes: Over all machines.
        machines: Each is a launch of its own, all on this one.
        compiles: DeepSpeed's CPU Adam is compiled at its first use.
        wan: A backbone of Wan with random weights, instead of the tiny checkpoint.
    """

    name: str
    config: str | None
    processes: int = 2
    machines: int = 1
    compiles: bool = False
    wan: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """What the shell sets for it."""
        found = {"NUM_PROCESSES": str(self.processes)}
        return found if self.config is None else found | {"CONFIG_FILE": self.config}

    def flags(self, task: str) -> list[str]:
        """What the backbone wants to be told."""
        return ["--id_resample_form", "compact"] if self.wan and task == "ID adapter" else []


WAYS = [
    Way(name="ZeRO-2, optimizer offload", config="accelerate_config_machine_single_ds.yaml", compiles=True),
    Way(name="ZeRO-2", config="accelerate_config_machine_single_ds_wo_cpu.yaml"),
    Way(name="ZeRO-3", config="accelerate_config_machine_single_ds_zero3.yaml"),
    Way(name="ZeRO-2, two machines", config="accelerate_config_multi_node.yaml", machines=2),
    Way(name="DDP, torchrun", config=None),
    Way(name="DDP, torchrun, Wan", config=None, wan=True),
    Way(name="DDP, accelerate", config="accelerate_config_ddp.yaml"),
    Way(name="one process", config="accelerate_config_cpu.yaml", processes=1),
    Way(name="one process, GPU config", config="accelerate_config_one_gpu.yaml", processes=1),
]
# What `few` launches: the scripts' own choices, and every kind of engine and of launch once.
FEW = {
    ("ZeRO-2, optimizer offload", "branch"),
    ("ZeRO-3", "branch"),
    ("ZeRO-2, two machines", "ID adapter"),
    ("DDP, torchrun, Wan", "ID adapter"),
    ("DDP, accelerate", "branch"),
    ("one process", "ID adapter"),
}
# accelerate wants a GPU for it; tests/test_sharded_training.py trains with it on gloo, past that check.
REFUSED = Way(name="FSDP2", config="accelerate_config_fsdp2.yaml")


def cells(share: str) -> list[tuple[Way, str]]:
    """The launches of `all` ways with both scripts, or a `few` of them: those of CI.

    Raises:
        ValueError: `share` is neither.
    """
    if share not in ("all", "few"):
        raise ValueError(f"LAUNCHES: expected all or few, got {share}")
    return [(way, task) for way in WAYS for task in SCRIPTS if share == "all" or (way.name, task) in FEW]


def has_compiler() -> bool:
    """Whether DeepSpeed can compile its extensions here."""
    return shutil.which("g++") is not None and shutil.which("ninja") is not None
