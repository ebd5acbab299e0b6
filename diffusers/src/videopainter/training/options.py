"""The trainer's own flags, and the bundle of all that a run is started with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from videopainter.data.training.training_set import TrainingSetOptions
from videopainter.errors import InputError
from videopainter.flags import check_ranges, flag, switch
from videopainter.training.ema import EMAOptions
from videopainter.training.optimizers import OptimizerOptions
from videopainter.training.tracking.trackers import TrackerOptions
from videopainter.training.validation.options import ValidationOptions


@dataclass(kw_only=True)
class TrainedModelOptions:
    """Which weights are loaded, and what is made of them."""

    _argument_group_name: ClassVar[str] = "models"

    pretrained_model_name_or_path: str = flag("", "Folder of the backbone (CogVideoX-5b-I2V).")
    cogvideox_branch_name_or_path: str | None = flag(
        None, "Folder of a context encoder: the one the ID adapter is trained with, or one to train further."
    )
    branch_layer_num: int = flag(2, "Blocks of a new context encoder.", least=1, most=1000)
    wo_text: bool = switch(False, "A new context encoder that does not see the caption.")
    hole_fill: float = flag(
        0.0, "What holes are filled with, -1 (black) to 1 (white); stored with the weights.", least=-1, most=1
    )
    max_text_seq_length: int | None = flag(None, "Tokens of a caption. Default: the backbone's.", least=1, most=4096)
    enable_slicing: bool = switch(False, "The VAE encodes one clip of a batch at a time.")
    enable_tiling: bool = switch(False, "The VAE encodes large frames in tiles.")
    gradient_checkpointing: bool = switch(False, "Compute activations again in the backward pass: less memory.")
    mixed_precision: Literal["no", "bf16", "fp16"] = flag(
        "no", "Precision of the arithmetic; trained weights and their optimizer stay in float32."
    )
    frozen_dtype: Literal["auto", "float32", "bfloat16", "float16"] = flag(
        "auto", "Of the weights that are not trained. auto: what mixed_precision computes in, on a CPU as on a GPU."
    )
    allow_tf32: bool = switch(False, "TensorFloat-32 for float32 products on Ampere GPUs and later.")
    cache_dir: str | None = flag(None, "Accepted for old scripts; weights are read from local folders.")


@dataclass(kw_only=True)
class ConditionOptions:
    """The loss, and what the models are shown."""

    _argument_group_name: ClassVar[str] = "objective"

    inpainting_loss_weight: float = flag(
        1.0, "Weight of the loss inside the hole beside that of the whole.", least=0, most=1e6
    )
    noised_image_dropout: float = flag(0.05, "Share of samples without an image condition.", least=0, most=1)
    mask_add: bool = switch(False, "Add branch features to background tokens only.")
    add_first: bool = switch(False, "Add branch features after the first blocks only.")


@dataclass(kw_only=True)
class AdapterOptions:
    """The ID-resample adapter."""

    _argument_group_name: ClassVar[str] = "ID adapter"

    rank: int = flag(256, "Rank of the LoRA.", least=1, most=65_536)
    lora_alpha: float = flag(
        128.0, "Its alpha: the LoRA is scaled by alpha / rank. Stored with the weights.", above=0, most=1e6
    )
    id_pool_resample_learnable: bool = switch(False, "Resample the hole's tokens in every block (the ID adapter does).")
    id_resample_form: Literal["exact", "compact"] = flag(
        "exact", "exact: as the public release; compact: the hole's tokens alone, cheaper. Stored with the weights."
    )
    prev_clip_prob: float = flag(
        0.0,
        "Share of steps in which the second half of a clip resamples tokens of the first, as in long videos.",
        least=0,
        most=1,
    )
    prev_clip_weight: float = flag(
        1.0, "Weight of those tokens (what inference is given as prev_clip_weight).", least=0, most=100
    )


@dataclass(kw_only=True)
class RunOptions:
    """How long, how much at once, and where the results go."""

    _argument_group_name: ClassVar[str] = "run"

    output_dir: str = flag("outputs/train", "Checkpoints, metrics.jsonl and validation videos.")
    train_batch_size: int = flag(1, "Clips at once on every process.", least=1, most=1024)
    gradient_accumulation_steps: int = flag(1, "Batches of one optimizer step.", least=1, most=100_000)
    num_train_epochs: int = flag(1, "Times that every clip is seen.", least=1, most=10**9)
    max_train_steps: int | None = flag(None, "Optimizer steps; in place of num_train_epochs.", least=1, most=10**12)
    dataloader_num_workers: int = flag(0, "Processes that read clips, per training process.", least=0, most=256)
    latent_cache: str | None = flag(None, "Folder made by cache_latents.py: neither VAE nor text encoder is loaded.")
    max_unreadable_share: float = flag(
        0.05, "Share of clips that may be unreadable; above it the run ends.", least=0, most=1
    )
    checkpointing_steps: int = flag(500, "Write a checkpoint every this many steps; 0: only the last.", least=0)
    checkpoints_total_limit: int | None = flag(None, "Keep this many checkpoints, the latest.", least=1)
    resume_from_checkpoint: str | None = flag(None, "`latest`, or the folder of a checkpoint to go on from.")
    cpu: bool = switch(False, "Train on CPUs, GPUs or not.")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """All flags of a run, by group."""

    data: TrainingSetOptions
    model: TrainedModelOptions
    condition: ConditionOptions
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    optimizer: OptimizerOptions
    ema: EMAOptions
    validation: ValidationOptions
    tracker: TrackerOptions
    run: RunOptions

    def flat(self) -> dict[str, Any]:
        """Every flag by name."""
        return {f.name: getattr(group, f.name) for group in self for f in fields(group)}

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, f.name) for f in fields(self))

    @property
    def output_dir(self) -> Path:
        return Path(self.run.output_dir)

    def check(self) -> None:
        """InputError for values that no run can start with; opens nothing."""
        for group in self:
            check_ranges(group)
        self._check_model()
        out = self.output_dir
        _expect(not out.exists() or out.is_dir(), f"output_dir: expected a folder, got the file {out}")

    def _check_model(self) -> None:
        model = self.model
        _expect(bool(model.pretrained_model_name_or_path), "pretrained_model_name_or_path is needed: the backbone")
        halves = {"bf16": "bfloat16", "fp16": "float16"}
        fitting = ("auto", "float32", *filter(None, [halves.get(model.mixed_precision)]))
        _expect(
            model.frozen_dtype in fitting,
            f"frozen_dtype: expected {' or '.join(fitting)} with mixed_precision {model.mixed_precision}, "
            f"got {model.frozen_dtype}",
        )
        sides = (self.data.height, self.data.width)
        _expect(
            not any(side % 16 for side in sides), f"height, width: expected multiples of 16, got {sides[0]}, {sides[1]}"
        )


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)
