"""Optimizers and learning-rate schedules, by the flags of the CogVideoX training scripts.

`check_optimizer` answers before any model is loaded; reading the options needs neither torch nor diffusers.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from videopainter.errors import InputError
from videopainter.flags import check_installed, check_ranges, flag, switch

if TYPE_CHECKING:
    import torch

OPTIMIZERS = ("adam", "adamw", "prodigy")
# Devices for which torch has fused Adam kernels.
FUSED = ("cuda", "cpu", "xpu", "mps")


@dataclass(kw_only=True)
class OptimizerOptions:
    """How the trained parameters are updated."""

    _argument_group_name: ClassVar[str] = "optimizer and learning rate"

    optimizer: str = flag("AdamW", "AdamW, Adam or Prodigy, in any case of letters.")
    use_8bit_adam: bool = switch(False, "Keep the state of Adam or AdamW in 8 bits (bitsandbytes).")
    learning_rate: float = flag(
        1e-4, "Learning rate after warm-up; for Prodigy a factor, usually 1.", above=0, most=1000
    )
    scale_lr: bool = switch(False, "Multiply learning_rate by clips per step (batch x accumulation x processes).")
    adam_beta1: float = flag(0.9, "Decay of the running mean of gradients (Adam, AdamW, Prodigy).", least=0, below=1)
    adam_beta2: float = flag(0.95, "Decay of the running mean of their squares.", least=0, below=1)
    prodigy_beta3: float | None = flag(
        None, "Decay of Prodigy's running averages for its step size. Default: sqrt(adam_beta2).", least=0, below=1
    )
    prodigy_decouple: bool = switch(False, "Prodigy: decoupled weight decay, as in AdamW.")
    prodigy_use_bias_correction: bool = switch(False, "Prodigy: Adam's bias correction.")
    prodigy_safeguard_warmup: bool = switch(
        False, "Prodigy: leave the learning rate out of the step size's denominator during warm-up."
    )
    adam_weight_decay: float = flag(1e-4, "Weight decay (Adam, AdamW, Prodigy).", least=0)
    adam_epsilon: float = flag(1e-8, "Added to the denominator.", above=0)
    max_grad_norm: float = flag(1.0, "Gradients are scaled down to this norm; 0 leaves them as they are.", least=0)
    lr_scheduler: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
    ] = flag("constant", "Course of the learning rate.")
    lr_warmup_steps: int = flag(500, "Optimizer steps of linear warm-up (`constant` has none).", least=0)
    lr_num_cycles: int = flag(1, "Restarts of cosine_with_restarts.", least=1)
    lr_power: float = flag(1.0, "Exponent of polynomial.", above=0, most=100)

    @property
    def kind(self) -> str:
        """`optimizer` in small letters."""
        return self.optimizer.lower()


# ---- checks, before models load


def check_optimizer(options: OptimizerOptions) -> None:
    """Whether these options can be built here; imports nothing.

    Raises:
        InputError: for an unknown optimizer, a value out of range, or a library that is not installed.
    """
    if options.kind not in OPTIMIZERS:
        raise InputError(f"--optimizer: expected AdamW, Adam or Prodigy, got {options.optimizer!r}")
    check_ranges(options)
    if options.use_8bit_adam and options.kind == "prodigy":
        raise InputError("--use_8bit_adam: expected --optimizer Adam or AdamW with it, got Prodigy")
    if options.use_8bit_adam:
        check_installed("--use_8bit_adam", "bitsandbytes")
    if options.kind == "prodigy":
        check_installed("--optimizer Prodigy", "prodigyopt")


# ---- what the trainer builds


def scaled_learning_rate(
    options: OptimizerOptions, *, batch_size: int, num_processes: int = 1, accumulation: int = 1
) -> float:
    """`learning_rate`, times the clips of one optimizer step where `scale_lr` asks for it."""
    factor = batch_size * num_processes * accumulation if options.scale_lr else 1
    return options.learning_rate * factor


def build_optimizer(
    parameters: Iterable[torch.nn.Parameter], options: OptimizerOptions, *, learning_rate: float | None = None
) -> torch.optim.Optimizer:
    """The optimizer of `options` over `parameters`.

    Adam and AdamW are torch's in their fused form (one kernel for all parameters) where their device has it, else the
    foreach form.

    Args:
        parameters: What is trained; frozen ones are refused.
        learning_rate: In place of the options' (see `scaled_learning_rate`).

    Raises:
        ValueError: where nothing is to be trained, or a frozen parameter is among them.
    """
    trained = list(parameters)
    if not trained or not all(parameter.requires_grad for parameter in trained):
        frozen = sum(not parameter.requires_grad for parameter in trained)
        raise ValueError(f"optimizer: expected trainable parameters, got {len(trained)} of which {frozen} are frozen")
    common: dict[str, Any] = {
        "lr": options.learning_rate if learning_rate is None else learning_rate,
        "betas": (options.adam_beta1, options.adam_beta2),
        "eps": options.adam_epsilon,
        "weight_decay": options.adam_weight_decay,
    }
    if options.kind == "prodigy":
        return _prodigy(trained, options, common)
    if options.use_8bit_adam:
        bnb = importlib.import_module("bitsandbytes")
        return (bnb.optim.AdamW8bit if options.kind == "adamw" else bnb.optim.Adam8bit)(trained, **common)
    return _torch_adam(trained, options, common)


def _torch_adam(
    trained: list[torch.nn.Parameter], options: OptimizerOptions, common: dict[str, Any]
) -> torch.optim.Optimizer:
    import torch

    fused = all(parameter.is_floating_point() and parameter.device.type in FUSED for parameter in trained)
    kernel: dict[str, Any] = {"fused": True} if fused else {"foreach": True}
    return (torch.optim.AdamW if options.kind == "adamw" else torch.optim.Adam)(trained, **common, **kernel)


def _prodigy(
    trained: list[torch.nn.Parameter], options: OptimizerOptions, common: dict[str, Any]
) -> torch.optim.Optimizer:
    return importlib.import_module("prodigyopt").Prodigy(
        trained,
        **common,
        beta3=options.prodigy_beta3,
        decouple=options.prodigy_decouple,
        use_bias_correction=options.prodigy_use_bias_correction,
        safeguard_warmup=options.prodigy_safeguard_warmup,
    )


def build_lr_scheduler(
    optimizer: torch.optim.Optimizer, options: OptimizerOptions, *, num_training_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of `options` over `num_training_steps` optimizer steps: call its `step()` once after each.

    It must not go through `Accelerator.prepare`, which would step it once per process.
    """
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        options.lr_scheduler,
        optimizer=optimizer,
        num_warmup_steps=options.lr_warmup_steps,
        num_training_steps=num_training_steps,
        num_cycles=options.lr_num_cycles,
        power=options.lr_power,
    )
