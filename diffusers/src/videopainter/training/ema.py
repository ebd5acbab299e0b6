"""Moving average of the trained weights, for validation and for what is saved.

The rule and its warm-up are those of `diffusers.training_utils.EMAModel`: decay min(ema_decay, (1 + n) / (10 + n))
after n steps. Around it stands what that leaves to its caller: averages in float32 whatever the weights are (bfloat16
rounds steps of 0.001 away), states by parameter name, loaded onto the device that they belong to, and a swap that is
undone when something fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from videopainter.errors import InputError
from videopainter.flags import check_ranges, flag, switch

if TYPE_CHECKING:
    import torch

_STEP, _AVERAGE = "optimization_step", "average."


@dataclass(kw_only=True)
class EMAOptions:
    """Whether and how trained weights are averaged."""

    _argument_group_name: ClassVar[str] = "moving average"

    use_ema: bool = switch(False, "Keep a moving average of the trained weights; validation and saved weights use it.")
    ema_decay: float = flag(
        0.999, "Share of the average that a step keeps, at most; it grows to this from 0.1.", least=0, below=1
    )
    ema_update_after: int = flag(0, "First steps during which the average is the weights themselves.", least=0)

    def __post_init__(self) -> None:
        check_ranges(self)


class TrainedAverage:
    """The moving average of the parameters that are trained; frozen ones are left out.

    Made after the model is on its device and before the first step. `state_dict` and `load_state_dict` are what
    `Accelerator.register_for_checkpointing` asks for; the state is flat, so that safetensors can hold it.

    Args:
        named_parameters: As `model.named_parameters()` gives them.
        masters: Gives the weights that the optimizer works on, in their order, where the model's are rounded copies.

    Raises:
        InputError: if nothing is trained, or under ZeRO stage 3, whose parameters are not whole on any process.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
        options: EMAOptions,
        masters: Callable[[], list[torch.Tensor]] | None = None,
    ) -> None:
        import torch
        from diffusers.training_utils import EMAModel

        trained = {name: parameter for name, parameter in named_parameters if parameter.requires_grad}
        if not trained:
            raise InputError("use_ema: expected parameters that are trained, got none")
        if any(hasattr(parameter, "ds_id") for parameter in trained.values()):
            raise InputError("use_ema: expected ZeRO stage 2 or less, DDP or FSDP; stage 3 keeps no whole parameter")
        self._names, self._parameters = list(trained), list(trained.values())
        self._ema = EMAModel(
            self._parameters, decay=options.ema_decay, update_after_step=options.ema_update_after, foreach=True
        )
        self._ema.to(dtype=torch.float32)
        self._masters = masters

    def step(self) -> None:
        """Take in the present weights; once after every optimizer step, on every process."""
        import torch

        present = self._parameters
        if self._masters is not None:
            present = [torch.nn.Parameter(master) for master in self._masters()]  # a view: EMAModel asks for parameters
        self._ema.step(present)

    @contextmanager
    def swap_in(self, changed: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Within the block the model holds the averages; afterwards its own weights again, to the bit.

        `changed` is called whenever the model's weights have changed.
        """
        import torch

        weights = [_local(parameter) for parameter in self._parameters]
        kept = [weight.clone() for weight in weights]
        try:
            torch._foreach_copy_(weights, [_local(average) for average in self._ema.shadow_params])
            changed()
            yield
        finally:
            torch._foreach_copy_(weights, kept)
            changed()

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The average (float32) of a parameter; what is not trained itself."""
        averages = zip(self._parameters, self._ema.shadow_params)
        return next((average for parameter, average in averages if parameter is tensor), tensor)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """References: `average.<parameter name>` in float32, and `optimization_step`."""
        import torch

        averages = {_AVERAGE + name: average for name, average in zip(self._names, self._ema.shadow_params)}
        return {_STEP: torch.tensor(self._ema.optimization_step), **averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; decay and delay stay those of the options.

        Raises:
            InputError: if it is not of these parameters.
        """
        import torch

        expected = [_STEP, *(_AVERAGE + name for name in self._names)]
        wrong = sorted(set(expected) ^ set(state))
        if wrong:
            kind = "is missing" if wrong[0] in expected else "is unknown"
            raise InputError(f"moving average: expected that of {len(self._names)} trained weights, {wrong[0]} {kind}")
        for name, average in zip(self._names, self._ema.shadow_params):
            shape = tuple(state[_AVERAGE + name].shape)
            if shape != tuple(average.shape):
                raise InputError(f"moving average of {name}: expected shape {tuple(average.shape)}, got {shape}")
        with torch.no_grad():
            for name, average in zip(self._names, self._ema.shadow_params):
                average.copy_(_laid_out_as(average, state[_AVERAGE + name]))
        self._ema.optimization_step = int(state[_STEP])


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, without its gradients' history."""
    from torch.distributed.tensor import DTensor

    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _laid_out_as(average: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """A whole tensor, cut up among the processes where the average is (FSDP2)."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(average, DTensor):
        return whole
    return distribute_tensor(whole.to(average.device), average.device_mesh, average.placements)
