"""What differs between the two trainings: what is made, what is trained, and in which files it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from videopainter.models.backbones.registry import backbone_of
from videopainter.models.checkpoint_files import ADAPTER_FILE
from videopainter.models.id_adapter import ADAPTER_NAME, IDAdapter
from videopainter.pipelines.loading import load_branch, load_transformer
from videopainter.training.model import InpaintingModel, freeze_all_but_branch, freeze_all_but_lora
from videopainter.training.options import TrainingOptions

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"


class Task(Protocol):
    """One of the two trainings."""

    name: str

    def build(self, options: TrainingOptions, frozen_dtype: torch.dtype) -> InpaintingModel:
        """The model, with its trained weights in float32 and the others in `frozen_dtype`."""
        ...

    def exported(self, model: InpaintingModel) -> dict[str, torch.Tensor]:
        """What is written, by the names in the file: parameters themselves, which may be shards."""
        ...

    def write(self, model: InpaintingModel, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        """Write the trained weights as the public release does; `state`: `exported(model)`, put together."""
        ...

    def adapter(self, model: InpaintingModel) -> IDAdapter | None:
        """How the ID adapter in the model is being trained; None where there is none."""
        ...


class BranchTask:
    """The context encoder, the backbone frozen."""

    name = "branch"

    def build(self, options: TrainingOptions, frozen_dtype: torch.dtype) -> InpaintingModel:
        transformer = _load_backbone(options, frozen_dtype)
        torch.manual_seed(options.data.seed)  # a new branch has layers that start at random
        branch = _load_branch(options) or backbone_of(transformer).classes.branch.from_transformer(
            transformer,
            num_layers=options.model.branch_layer_num,
            wo_text=options.model.wo_text,
            hole_fill=options.model.hole_fill,
        )
        model = InpaintingModel(
            transformer,
            branch.float(),
            mask_add=options.condition.mask_add,
            add_first=options.condition.add_first,
        )
        freeze_all_but_branch(model)
        return _prepare_checkpointing(model, options)

    def exported(self, model: InpaintingModel) -> dict[str, torch.Tensor]:
        return model.branch.state_dict(keep_vars=True)

    def write(self, model: InpaintingModel, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        target = folder / "branch"
        target.mkdir(parents=True, exist_ok=True)
        model.branch.save_config(target)
        tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}
        save_file(tensors, target / WEIGHTS_NAME, metadata={"format": "pt"})

    def adapter(self, model: InpaintingModel) -> IDAdapter | None:
        return None


class AdapterTask:
    """The ID-resample LoRA on the backbone, backbone and branch frozen."""

    name = "ID adapter"

    def build(self, options: TrainingOptions, frozen_dtype: torch.dtype) -> InpaintingModel:
        transformer = _load_backbone(options, frozen_dtype)
        branch = _load_branch(options)
        assert branch is not None, "checked with the flags"
        description = describe_adapter(options, float(branch.config.hole_fill))
        torch.manual_seed(options.data.seed)  # the A matrices start at random
        transformer.add_adapter(LoraConfig(**description.lora_config()), adapter_name=ADAPTER_NAME)
        for name, parameter in transformer.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
        model = InpaintingModel(
            transformer,
            branch.to(frozen_dtype),
            mask_add=options.condition.mask_add,
            add_first=options.condition.add_first,
            id_form=description.form,
        )
        self.description = description
        freeze_all_but_lora(model)
        return _prepare_checkpointing(model, options)

    def exported(self, model: InpaintingModel) -> dict[str, torch.Tensor]:
        # The backbone is hundreds of times larger: it must not be put together for this.
        state = model.transformer.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if "lora_" in name}

    def write(self, model: InpaintingModel, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        weights = get_peft_model_state_dict(model.transformer, state_dict=dict(state), adapter_name=ADAPTER_NAME)
        self.description.save(folder, {name: tensor.float() for name, tensor in weights.items()})
        assert (folder / ADAPTER_FILE).is_file()

    def adapter(self, model: InpaintingModel) -> IDAdapter | None:
        return self.description if model.id_form else None


def describe_adapter(options: TrainingOptions, hole_fill: float) -> IDAdapter:
    """What is stored beside the LoRA's weights."""
    adapter = options.adapter
    return IDAdapter(adapter.id_resample_form, adapter.rank, adapter.lora_alpha, hole_fill)


def _load_backbone(options: TrainingOptions, dtype: torch.dtype) -> Any:
    return load_transformer(options.model.pretrained_model_name_or_path, dtype)


def _load_branch(options: TrainingOptions) -> Any:
    path = options.model.cogvideox_branch_name_or_path
    return None if path is None else load_branch(options.model.pretrained_model_name_or_path, path, torch.float32)


def _prepare_checkpointing(model: InpaintingModel, options: TrainingOptions) -> InpaintingModel:
    if options.model.gradient_checkpointing:
        model.transformer.enable_gradient_checkpointing()
        model.branch.enable_gradient_checkpointing()
    return model.train()
