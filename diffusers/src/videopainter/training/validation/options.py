"""The flags of a validation. Reading them needs neither torch nor diffusers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from videopainter.errors import InputError
from videopainter.flags import MAX_INT, check_ranges, flag, same_flag, switch
from videopainter.pipelines.settings import InpaintSettings

if TYPE_CHECKING:
    from videopainter.data.training.training_set import TrainingSetOptions

NUM_TIMESTEPS = 1000  # of CogVideoX's schedulers


@dataclass(kw_only=True)
class ValidationOptions:
    """When a training is validated, on what, and how videos are made."""

    _argument_group_name: ClassVar[str] = "validation"

    val_meta_file_path: str | None = flag(
        None, "CSV of validation clips, in the training CSV's format; without it nothing is validated."
    )
    validating_steps: int = flag(256, "Validate every this many optimizer steps; 0 never does.", least=0)
    validation_epochs: int = flag(1, "Validate in every this many-th epoch only.", least=1)
    validation_at_start: bool = switch(False, "Validate before the first step, too.")
    num_validation_videos: int = flag(
        1, "Videos made in a validation, of the CSV's first clips; 0 makes none.", least=0, most=1000
    )
    validation_samples: int = flag(
        8, "Clips whose loss is measured, the CSV's first; 0 measures none.", least=0, most=100_000
    )
    validation_timesteps: list[int] = field(
        default_factory=lambda: [100, 300, 500, 700, 900],
        metadata={"help": "Timesteps (0-999) at which the loss is measured, each with its own fixed noise."},
    )
    validation_batch_size: int = flag(1, "Clips in a forward pass of the loss.", least=1, most=1024)
    validation_seed: int = flag(
        42, "Of the clips' crops, the noise and the videos, whatever --seed is.", least=0, most=MAX_INT
    )
    num_inference_steps: int = same_flag(
        InpaintSettings, "num_inference_steps", "Denoising steps of a validation video."
    )
    guidance_scale: float = same_flag(
        InpaintSettings, "guidance_scale", "Classifier-free guidance of a validation video; 1 turns it off."
    )
    use_dynamic_cfg: bool | None = switch(
        None, "Guidance that grows over the steps. Default: where the backbone's family has it, as CogVideoX does."
    )
    val_latent_cache: str | None = flag(
        None,
        "Latent cache of the validation clips (cache_latents.py with that CSV, --seed as --validation_seed and no "
        "augmentation): on it a training from a latent cache measures its loss.",
    )
    validation_load_models: bool = switch(
        False, "In a training from a latent cache: load VAE and text encoder for every validation, and drop them again."
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        wrong = [t for t in self.validation_timesteps if not 0 <= t < NUM_TIMESTEPS]
        if wrong or not self.validation_timesteps:
            got = wrong[0] if wrong else "none"
            raise InputError(f"validation_timesteps: expected numbers from 0 to {NUM_TIMESTEPS - 1}, got {got}")
        if len(set(self.validation_timesteps)) < len(self.validation_timesteps):
            raise InputError(f"validation_timesteps: expected different ones, got {self.validation_timesteps}")

    @property
    def enabled(self) -> bool:
        """Whether anything is ever validated."""
        work = self.num_validation_videos + self.validation_samples
        return self.val_meta_file_path is not None and self.validating_steps > 0 and work > 0

    @property
    def num_clips(self) -> int:
        return max(self.num_validation_videos, self.validation_samples)

    def set_options(self, training: TrainingSetOptions) -> TrainingSetOptions:
        """Options of the validation set: the training set's with another CSV and seed, and no augmentation.

        So that runs that differ in augmentation or seed are measured on the same pixels and masks.
        """
        assert self.val_meta_file_path is not None
        return replace(
            training,
            meta_file_path=self.val_meta_file_path,
            seed=self.validation_seed,
            mix_train_ratio=0.0,
            proportion_empty_prompts=0.0,
            mask_transform_prob=0.0,
            random_flip=0.0,
            video_reader="pyav",
        )

    def inpaint_settings(self, *, mask_add: bool, add_first: bool = False) -> InpaintSettings:
        """How videos are made; branch features are added as in the training."""
        return InpaintSettings(
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            use_dynamic_cfg=self.use_dynamic_cfg is not False,
            seed=self.validation_seed,
            mask_add=mask_add,
            add_first=add_first,
        )
