"""Muon in float32: torch's own orthogonalizes in bfloat16, which most CPUs only emulate.

Momentum's matrix is replaced by the nearest one with singular values of about 1, so that every direction of a weight
learns at the same pace. Kernels of convolutions are matrices (out, in x size).
"""

from __future__ import annotations

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that drives singular values towards 1
_MOMENTUM, _ITERATIONS = 0.95, 5


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """(m, n) with its singular values brought to about 0.7..1.2."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp_min(1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


class Muon(torch.optim.Optimizer):
    """Its steps are as large as AdamW's at the same rate (root mean square 0.2 `lr`)."""

    def __init__(self, params, lr: float, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """One step from the gradients that the parameters have; `closure` is not supported."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - _MOMENTUM)
                ahead = torch.lerp(weight.grad, momentum, _MOMENTUM).flatten(1)
                update = orthogonal(ahead) * (0.2 * max(ahead.shape) ** 0.5)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(update.view_as(weight), alpha=group["lr"])
