"""One process leads, the others of its group take part in its passes: context parallelism for a sampler that knows of
none.

The leader reads, encodes, samples, decodes and writes; of every pass it tells the others what the models are given, so
that all begin with the same numbers. They have backbone and context encoder alone, and hold nothing of the video but a
window's conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from videopainter.errors import InputError, OutOfStep
from videopainter.models.backbones.denoiser import CACHE_CONTEXT, Conditions, Denoiser, Prepared
from videopainter.models.id_resample import ClipMemory, HoleTokens

_Tensors = list[torch.Tensor | None]


@dataclass(frozen=True)
class TokenGroup:
    """The processes that share the tokens of a video, and how the first of them tells the others what to do.

    Args:
        mesh: For `share_tokens`.
        words: Process group of the host, which waits as long as a clip takes.
        device: Where the models run.
    """

    mesh: Any
    words: Any
    device: torch.device

    @classmethod
    def meet(cls, size: int, device: torch.device, patience: timedelta) -> TokenGroup:
        """Called by all processes of the launch: groups of `size`, in the order of their ranks.

        Args:
            patience: How long processes wait for each other's words; devices do not wait longer than their library
                lets them.
        """
        kind = device.type
        if device.index is not None:
            torch.get_device_module(device).set_device(device)
        backends = "gloo" if kind == "cpu" else f"cpu:gloo,{kind}:{dist.get_default_backend_for_device(kind)}"
        dist.init_process_group(backends, timeout=patience)
        count = dist.get_world_size() // size
        mesh = dist.device_mesh.init_device_mesh(kind, (count, 1, size), mesh_dim_names=("video", "ring", "ulysses"))
        groups = [
            dist.new_group(list(range(first * size, (first + 1) * size)), timeout=patience, backend="gloo")
            for first in range(count)
        ]
        return cls(mesh, groups[dist.get_rank() // size], device)

    @property
    def leads(self) -> bool:
        """Whether this process does everything but its part of the passes."""
        return dist.get_rank(self.words) == 0

    def wait(self) -> None:
        """Until all processes of the group have come here."""
        dist.barrier(group=self.words)

    def tell(self, what: str, *tensors: torch.Tensor | None, **facts: Any) -> None:
        """Said by the leader; the others `hear` it. Tensors go from device to device, the host does not wait."""
        shapes = [None if x is None else (x.shape, x.dtype) for x in tensors]
        dist.broadcast_object_list([(what, facts, shapes)], group_src=0, group=self.words)
        for x in tensors:
            if x is not None:
                self.send(x.to(self.device))

    def hear(self) -> tuple[str, dict[str, Any], _Tensors]:
        """What the leader says, with the facts and tensors of it.

        Raises:
            InputError: it has ended.
        """
        said: list[Any] = [None]
        try:
            dist.broadcast_object_list(said, group_src=0, group=self.words)
        except RuntimeError as error:
            raise InputError("context parallelism: the process that leads this one has ended") from error
        what, facts, shapes = said[0]
        return what, facts, [None if one is None else self.get(*one) for one in shapes]

    def send(self, x: torch.Tensor) -> torch.Tensor:
        """A tensor from the leader to those that `get` it."""
        x = x.contiguous()
        dist.broadcast(x, group_src=0, group=self.mesh["ulysses"].get_group())
        return x

    def get(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """What the leader sends."""
        return self.send(torch.empty(shape, dtype=dtype, device=self.device))


class LeadingDenoiser(Denoiser):
    """A denoiser that the other processes of `group` follow.

    Args:
        pipe: Its transformer and branch share their tokens.
        options: Of `Denoiser`.

    Raises:
        OutOfStep: by its calls, for whatever goes wrong in them: the others are somewhere in the middle.
    """

    def __init__(self, group: TokenGroup, pipe: Any, **options: Any) -> None:
        super().__init__(pipe.transformer, pipe.branch, **options)
        self.group, self.pipe = group, pipe
        group.tell("window", **options)

    def prepare(self, conditions: Conditions, *, count_hole: bool = True) -> Prepared:
        with _together():
            tensors = (getattr(conditions, each.name) for each in fields(Conditions))
            self.group.tell("clip", *tensors)
            return super().prepare(conditions, count_hole=count_hole)

    def take_over(self, memory: ClipMemory, clip: Prepared) -> ClipMemory:
        assert self.share is not None
        like, shapes = clip.branch_cond, [hidden.shape for hidden in memory.hidden]
        with _together():
            self.group.tell("memory", memory.hole.index, shapes=shapes)
            # Block by block: nobody keeps more than its part.
            hidden = (self.group.send(x.to(like.device, like.dtype)) for x in memory.hidden)
            return self.share.own_memory(memory.hole.to(like.device), hidden, clip.num_tokens)

    def __call__(
        self,
        noisy: torch.Tensor,
        clip: Prepared,
        prompt_embeds: torch.Tensor,
        timestep: torch.Tensor,
        *,
        previous: ClipMemory | None = None,
        prev_clip_weight: float = 0.0,
        remember: bool = False,
    ) -> tuple[torch.Tensor, ClipMemory | None]:
        facts = {"prev_clip_weight": prev_clip_weight, "remember": remember}
        with _together():
            self.group.tell("pass", noisy, prompt_embeds, timestep, t=self.pipe._current_timestep, **facts)
            return super().__call__(noisy, clip, prompt_embeds, timestep, previous=previous, **facts)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise OutOfStep(f"context parallelism: {type(error).__name__} in a pass of several processes") from error


@dataclass
class Partner:
    """Takes part in what the leader of its group does.

    Args:
        load: A pipeline, from the facts that the leader's `tell("load", ...)` gives.
    """

    group: TokenGroup
    load: Callable[..., Any]
    _pipe: Any = field(init=False, default=None)
    _denoiser: Denoiser = field(init=False)
    _clip: Prepared = field(init=False)
    _previous: ClipMemory | None = field(init=False, default=None)

    @torch.no_grad()
    def follow(self) -> None:
        """Until the leader says `end`.

        Raises:
            InputError: the leader has ended without.
        """
        answers = {"load": self._load, "window": self._begin, "clip": self._prepare}
        answers |= {"memory": self._take_over, "pass": self._run}
        while True:
            what, facts, tensors = self.group.hear()
            if what == "end":
                return
            answers[what](*tensors, **facts)

    def _load(self, **facts: Any) -> None:
        self._pipe = None  # there may not be room for both
        self._pipe = self.load(**facts)

    def _begin(self, **options: Any) -> None:
        self._previous = None
        self._forget_steps()
        self._denoiser = Denoiser(self._pipe.transformer, self._pipe.branch, **options)

    def _forget_steps(self) -> None:
        """Step caches, where the leader does (`pipelines/step_cache.py`)."""
        for model in (self._pipe.transformer, self._pipe.branch):
            if model is not None:
                model._reset_stateful_cache()

    def _prepare(self, *tensors: torch.Tensor | None) -> None:
        names = (each.name for each in fields(Conditions))
        self._clip = self._denoiser.prepare(Conditions(**dict(zip(names, tensors, strict=True))))

    def _take_over(self, index: torch.Tensor, *, shapes: list[torch.Size]) -> None:
        share = self._denoiser.share
        assert share is not None
        hidden = (self.group.get(shape, self._clip.branch_cond.dtype) for shape in shapes)
        self._previous = share.own_memory(HoleTokens(index, None), hidden, self._clip.num_tokens)

    def _run(
        self, noisy: torch.Tensor, prompt_embeds: torch.Tensor, timestep: torch.Tensor, *, t: int, **facts: Any
    ) -> None:
        previous = self._previous
        if facts["remember"]:
            self._forget_steps()
            if previous is not None:
                previous, self._previous = replace(previous, used_once=True), None
        self._pipe._current_timestep = t
        with self._denoiser.transformer.cache_context(CACHE_CONTEXT):
            self._denoiser(noisy, self._clip, prompt_embeds, timestep, previous=previous, **facts)
