"""What depends on how processes work together: DDP, DeepSpeed ZeRO-2/3, FSDP, or one process."""

from __future__ import annotations

import importlib
import logging
import os
import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.utils import cpp_extension

from videopainter.errors import InputError
from videopainter.training.options import TrainedModelOptions, TrainingOptions

_logger = logging.getLogger("videopainter.training")
_PLAIN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_STATE_FILE = "training_state.pt"


def check_engine(options: TrainingOptions) -> None:
    """InputError for what this machine's processors cannot do; makes nothing yet."""
    if not _on_cpu(options):
        return
    if _wants_fsdp():
        # accelerate would go on with DDP, silently.
        raise InputError("FSDP: expected GPUs, got a CPU; choose another CONFIG_FILE")
    if options.model.mixed_precision == "fp16":
        # accelerate would compute in float32, silently, on weights in float16.
        raise InputError("mixed_precision: expected no or bf16 on a CPU, got fp16")


def _on_cpu(options: TrainingOptions) -> bool:
    return options.run.cpu or not torch.cuda.is_available()


def _wants_fsdp() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def make_accelerator(options: TrainingOptions) -> Accelerator:
    """The accelerator of this process, by the flags and what `accelerate launch` or `torchrun` set.

    Raises:
        InputError: as `check_engine`, and where accelerate or DeepSpeed would do other than was asked for.
    """
    check_engine(options)
    handlers: list[Any] = [DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"
    cpu = _on_cpu(options)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # While one process makes a validation video the others wait for it.
        handlers.append(InitProcessGroupKwargs(backend="gloo" if cpu else "nccl", timeout=timedelta(hours=2)))
    accelerator = Accelerator(
        mixed_precision=options.model.mixed_precision,
        gradient_accumulation_steps=options.run.gradient_accumulation_steps,
        cpu=cpu and not deepspeed,  # DeepSpeed finds the CPU itself and refuses the flag
        kwargs_handlers=handlers,
    )
    if _wants_fsdp() and accelerator.distributed_type != DistributedType.FSDP:
        raise InputError(f"FSDP: expected GPUs, got {accelerator.distributed_type.value}; choose another CONFIG_FILE")
    if options.model.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    if accelerator.state.deepspeed_plugin is not None:
        complete_deepspeed(accelerator.state.deepspeed_plugin.deepspeed_config, options)
    if accelerator.distributed_type == DistributedType.FSDP:
        accelerator.state.fsdp_plugin.mixed_precision_policy = fsdp_policy(options.model)
    return accelerator


def complete_deepspeed(config: dict[str, Any], options: TrainingOptions) -> None:
    """Add to DeepSpeed's configuration what it is to know of a training; say where it will do otherwise.

    Raises:
        InputError: for frozen weights in float32.
    """
    # Both are usually read off a prepared data loader; ours is already cut up among the processes.
    config["train_micro_batch_size_per_gpu"] = options.run.train_batch_size
    config["gradient_clipping"] = options.optimizer.max_grad_norm
    config.setdefault("communication_data_type", "fp32")  # sums over processes
    config.setdefault("data_types", {"grad_accum_dtype": "fp32"})  # and over batches
    offload = config.get("zero_optimization", {}).get("offload_optimizer", {}).get("device")
    half = options.model.mixed_precision != "no"
    if half and offload not in (None, "none") and options.run.gradient_accumulation_steps > 1:
        _logger.warning("DeepSpeed adds up gradients in half precision where its optimizer is offloaded")
    if options.model.frozen_dtype == "float32" and half:
        raise InputError("frozen_dtype: DeepSpeed holds all weights in mixed_precision's dtype, got float32")


def fsdp_policy(model: TrainedModelOptions) -> MixedPrecisionPolicy:
    """FSDP2: weights travel in half precision, gradients are summed in float32, inputs stay as they are.

    accelerate's own would cast all that goes into a block, rotary tables too; `InpaintingModel` casts what has to be.
    """
    half = HALVES.get(model.mixed_precision)
    return MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)


def frozen_dtype(model: TrainedModelOptions) -> torch.dtype:
    """Of weights that are not trained: `--frozen_dtype`, by default what `--mixed_precision` computes in.

    On every device and under every engine alike, so that a CPU sees the dtypes that a GPU would.
    """
    if model.frozen_dtype != "auto":
        return getattr(torch, model.frozen_dtype)
    return HALVES.get(model.mixed_precision, torch.float32)


def _tell_of_locked_extensions() -> None:
    """DeepSpeed waits, without an end and a word, for a lock that a killed run left while it compiled."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
    for lock in (*root.glob("*/lock"), *root.glob("*/*/lock")):
        _logger.warning(
            f"DeepSpeed waits for {lock}: another run compiles there; delete it if none does, as after a kill"
        )


class Engine:
    """The prepared model with its optimizer: steps, whole weights, and the state of a checkpoint.

    Args:
        accelerator: As `make_accelerator` gives it.
        model: Prepared here; `model` is then the wrapped, `bare` the plain module.
        optimizer: Over the model's trained parameters.
        lr_scheduler: Stepped once per optimizer step, whatever the number of processes.
        max_grad_norm: 0: gradients stay as they are.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        *,
        max_grad_norm: float,
    ) -> None:
        self.accelerator, self.lr_scheduler, self.max_grad_norm = accelerator, lr_scheduler, max_grad_norm
        if accelerator.state.deepspeed_plugin is not None:
            _tell_of_locked_extensions()
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        # Offloading puts another optimizer in the place of ours, which shares its parameter groups until a state is
        # loaded into it; the schedule must write to those that are used.
        self.stepping = _innermost(self.optimizer)
        self.lr_scheduler.optimizer = self.stepping
        self.bare: Any = accelerator.unwrap_model(self.model)
        if not self.is_plain:  # all weights at work are in half precision, and accelerate adds no autocast
            self.bare.input_dtype = HALVES.get(accelerator.mixed_precision)
        self.parameters = [p for p in self.bare.parameters() if p.requires_grad]

    @property
    def is_plain(self) -> bool:
        """Whether every process holds all weights and the optimizer."""
        return self.accelerator.distributed_type in _PLAIN

    @property
    def is_deepspeed(self) -> bool:
        return self.accelerator.state.deepspeed_plugin is not None

    @property
    def learning_rate(self) -> float:
        """What the next step takes, read off the optimizer that steps."""
        return float(self.stepping.param_groups[0]["lr"])

    @property
    def is_zero3(self) -> bool:
        return self.is_deepspeed and self.accelerator.state.deepspeed_plugin.zero_stage == 3

    def backward(self, loss: torch.Tensor) -> torch.Tensor | None:
        """Backward, and an optimizer step where the accumulation ends; returns the norm of the gradients then."""
        norm = None
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            if self.max_grad_norm > 0:
                norm = self.accelerator.clip_grad_norm_(self.parameters, self.max_grad_norm)
            elif self.is_plain:
                norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.accelerator.sync_gradients:
            self.lr_scheduler.step()
        if isinstance(norm, DTensor):  # FSDP2: the part of this process's shards
            norm = norm.full_tensor()
        return None if norm is None else torch.as_tensor(norm)

    def masters(self) -> list[torch.Tensor]:
        """The trained weights that the optimizer works on, float32, in the order of `parameters`.

        DeepSpeed holds them cut up among the processes: all call this, and put them together. FSDP2's stay cut up.
        """
        return [self._whole(p) for p in self.parameters] if self.is_deepspeed else list(self.parameters)

    def drop_gathered(self) -> None:
        """Let weights be put together anew, after they were changed in place.

        FSDP2 keeps its outermost ones together after a pass that no backward one follows, as validation's.
        """
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def whole_state(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Parameters of the model, whole, on the CPU, trained ones in float32; all processes call this.

        One by one, so that no GPU holds more than one of them; only the main process keeps them, others get nothing.
        """
        state = {}
        for name, tensor in tensors.items():
            whole = self._whole(tensor)
            if self.accelerator.is_main_process:
                state[name] = whole.detach().to("cpu", copy=True)
        return state

    def _whole(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, DTensor):  # FSDP2
            return tensor.full_tensor()
        if not self.is_deepspeed or not isinstance(tensor, nn.Parameter):
            return tensor
        deepspeed = importlib.import_module("deepspeed")  # an extra: there where it runs
        if tensor.requires_grad:
            # Not the module's own, which is in half precision.
            master = deepspeed.utils.safe_get_full_fp32_param(tensor)
            return tensor if master is None else master
        if not self.is_zero3:
            return tensor
        with deepspeed.zero.GatheredParameters([tensor]):
            return tensor.detach().clone()

    # -- checkpoints

    def save_state(self, folder: Path, *, extra: dict[str, Any]) -> None:
        """Write optimizer, schedule and random state; all processes call this. `extra`: state dicts by name."""
        folder.mkdir(parents=True, exist_ok=True)
        index = self.accelerator.process_index
        torch.save(_random_state(), folder / f"random-{index}.pt")
        state: dict[str, Any] = {"lr_scheduler": self.lr_scheduler.state_dict(), **extra}
        if self.is_plain:
            state["optimizer"] = self.optimizer.state_dict()
            state["weights"] = {name: p.detach() for name, p in self.bare.trained_parameters().items()}
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
        else:
            self.accelerator.save_state(str(folder / "sharded"), exclude_frozen_parameters=True)
        if self.accelerator.is_main_process:
            torch.save(state, folder / _STATE_FILE)

    def load_state(self, folder: Path) -> dict[str, Any]:
        """Go on where `save_state` was called; returns what was `extra` there."""
        state = torch.load(folder / _STATE_FILE, map_location="cpu", weights_only=True)
        self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if self.is_plain:
            if "optimizer" not in state:
                raise InputError(f"{folder}: expected the state of one process or DDP, got that of DeepSpeed or FSDP")
            self._load_weights(state["weights"], folder)
            self.optimizer.load_state_dict(state["optimizer"])
            if self.accelerator.scaler is not None and "scaler" in state:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        else:
            if not (folder / "sharded").is_dir():
                raise InputError(f"{folder}: expected the state of DeepSpeed or FSDP, got that of one process or DDP")
            # Frozen weights are not in it. (`load_kwargs` would go to torch.load.)
            self.accelerator.load_state(str(folder / "sharded"), load_module_strict=False)
        random_file = folder / f"random-{self.accelerator.process_index}.pt"
        if random_file.exists():  # more processes than before have none, and need none
            _set_random_state(torch.load(random_file, weights_only=True))
        return {name: value for name, value in state.items() if name not in _OWN}

    def _load_weights(self, weights: dict[str, torch.Tensor], folder: Path) -> None:
        trained = self.bare.trained_parameters()
        if trained.keys() != weights.keys():
            odd = sorted(trained.keys() ^ weights.keys())[0]
            raise InputError(f"{folder}: expected the weights of this training, {odd} is in one of them only")
        with torch.no_grad():
            for name, parameter in trained.items():
                if parameter.shape != weights[name].shape:
                    raise InputError(
                        f"{folder}: {name}: expected {tuple(parameter.shape)}, got {tuple(weights[name].shape)}"
                    )
                parameter.copy_(weights[name])


_OWN = ("lr_scheduler", "optimizer", "weights", "scaler")


def _innermost(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer that updates weights, without the wrappers of accelerate and DeepSpeed."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _random_state() -> dict[str, Any]:
    """What libraries may draw from; our own draws need none of it (see `draws.py`)."""
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    if torch.cuda.is_available() and len(state.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
