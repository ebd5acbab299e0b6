"""CLIP's view of frames and prompts: unit vectors whose dot product is their cosine.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; the models are
transformers'. Frames are resized, cropped and normalised in batches on the model's device, to what transformers' image
processor makes of them one by one on the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from videopainter.errors import InputError
from videopainter.files import read_json
from videopainter.metrics.networks.common import exact_convolutions, reject_pointer

_BICUBIC = 3  # Pillow's number for it


class ClipImages:
    """A CLIP model of a local folder, float32, in evaluation mode, no gradients."""

    def __init__(self, model: Any, preprocessing: ClipPreprocessing, tokenizer: Any | None):
        self.model, self.preprocessing, self.tokenizer = model, preprocessing, tokenizer

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu", *, with_text: bool = True) -> ClipImages:
        """From a folder as openai/clip-vit-base-patch32 has it; without its text half if `with_text` is false.

        Raises InputError for files that are missing, damaged, of another model, or git-lfs pointers.
        """
        _check_folder(folder, with_text)
        preprocessing = ClipPreprocessing.load(folder)
        tokenizer = _load_tokenizer(folder) if with_text else None
        model = _load_model(folder)
        if model.config.vision_config.image_size != preprocessing.crop[0]:
            sizes = f"{model.config.vision_config.image_size}, got {preprocessing.crop[0]}"
            raise InputError(
                f"expected a crop of the model's image size {sizes}: {folder / 'preprocessor_config.json'}"
            )
        if not with_text:
            del model.text_model, model.text_projection
        return cls(model.to(device), preprocessing, tokenizer)

    @staticmethod
    def check(folder: Path) -> int:
        """How many numbers a vector has; InputError where a folder is no CLIP's. Loads no weights."""
        _check_folder(folder, with_text=False)
        ClipPreprocessing.load(folder)
        config = read_json(folder / "config.json", "CLIP")
        if not isinstance(config, dict) or not isinstance(config.get("projection_dim"), int):
            raise InputError(f"expected a CLIP model with its projection_dim, got none: {folder / 'config.json'}")
        return config["projection_dim"]

    @torch.inference_mode()
    def images(self, frames: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, D), float32, of uint8 RGB frames (N, 3, H, W) on the model's device."""
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames: expected uint8 (N, 3, H, W), got {frames.dtype} of shape {tuple(frames.shape)}")
        with exact_convolutions():
            output = self.model.get_image_features(pixel_values=self.preprocessing(frames))
        return F.normalize(output.pooler_output, dim=-1)

    @torch.inference_mode()
    def text(self, prompt: str, *, keep_end: bool = True) -> torch.Tensor:
        """Unit vector (D,), float32, on the model's device; of a long prompt the start, as far as positions go.

        The model reads a prompt's meaning at its end token. `keep_end=False` cuts that off a long prompt with the rest,
        as torchmetrics' CLIPScore does: OpenAI's models then read the first token, which is the same for all prompts.

        Raises ValueError if the model was loaded without its text half.
        """
        if self.tokenizer is None:
            raise ValueError("this CLIP model was loaded without its text half")
        positions = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(prompt, truncation=keep_end, max_length=positions, return_tensors="pt", verbose=False)
        for name, values in tokens.items():
            tokens[name] = values[:, :positions]
        output = self.model.get_text_features(**tokens.to(self.model.device))
        return F.normalize(output.pooler_output[0], dim=-1)


class ClipPreprocessing:
    """Short side to a size (bicubic, antialiased), the centre cut out, channels normalised."""

    def __init__(self, size: int, crop: tuple[int, int], mean: list[float], std: list[float]):
        self.size, self.crop, self.mean, self.std = size, crop, mean, std

    @classmethod
    def load(cls, folder: Path) -> ClipPreprocessing:
        """From `preprocessor_config.json`; InputError where it asks for something else than CLIP does."""
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        path = folder / "preprocessor_config.json"
        try:
            # transformers reads the older forms of the file as well.
            config = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True).to_dict()
            size, crop = config["size"]["shortest_edge"], (config["crop_size"]["height"], config["crop_size"]["width"])
            mean, std = (
                [float(value) for value in config["image_mean"]],
                [float(value) for value in config["image_std"]],
            )
            steps = [config[f"do_{step}"] for step in ("resize", "center_crop", "rescale", "normalize")]
            plain = all(steps) and config["resample"] == _BICUBIC and abs(config["rescale_factor"] * 255 - 1) < 1e-6
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"settings: expected those of a CLIP image processor, got {type(error).__name__}, in {path}"
            ) from None
        if not plain or len(mean) != 3 or len(std) != 3 or min(crop) < 1 or size < max(crop):
            raise InputError(
                f"expected CLIP's steps (bicubic resize, centre crop, scale, normalise), got others: {path}"
            )
        return cls(size, crop, mean, std)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, H, W) to float32 (N, 3, crop height, crop width), on the same device."""
        x = self._crop(self._resize(frames.float())) / 255
        mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std

    def _resize(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        short = min(height, width)
        new_height, new_width = (int(self.size * length / short) for length in (height, width))
        # Pillow resizes rows, rounds to bytes, resizes columns, rounds again. (From version 13 on it starts with
        # columns where height shrinks much more than width; numbers shall not depend on its version.)
        for size in ((height, new_width), (new_height, new_width)):
            if x.shape[2:] != size:
                x = F.interpolate(x, size, mode="bicubic", antialias=True).round_().clamp_(0, 255)
        return x

    def _crop(self, x: torch.Tensor) -> torch.Tensor:
        top, left = ((length - crop) // 2 for length, crop in zip(x.shape[2:], self.crop))
        return x[:, :, top : top + self.crop[0], left : left + self.crop[1]]


def _check_folder(folder: Path, with_text: bool) -> None:
    """InputError where a file is missing or a git-lfs pointer."""
    # Those that transformers takes: the others may well be pointers.
    weights = [*folder.glob("model*.safetensors")] or [*folder.glob("pytorch_model*.bin")]
    if not weights:
        raise InputError(f"expected model.safetensors or pytorch_model.bin, got neither: {folder}")
    names = ["config.json", "preprocessor_config.json"]
    if with_text:
        names += ["tokenizer.json"] if (folder / "tokenizer.json").exists() else ["vocab.json", "merges.txt"]
    for path in (*(folder / name for name in names), *weights):
        reject_pointer(path)


def _load_model(folder: Path) -> Any:
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what does not fit is told below
    try:
        kind = CLIPConfig.get_config_dict(folder)[0].get("model_type")
        if kind != "clip":
            raise InputError(f"expected a CLIP model, got {kind}: {folder / 'config.json'}")
        loaded: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        model, found = loaded
    except InputError:
        raise
    except Exception as error:  # damaged files raise whatever their readers do
        raise InputError(f"expected a CLIP model, got unreadable files ({type(error).__name__}): {folder}") from None
    finally:
        logging.set_verbosity(verbosity)
    wrong = [*found["missing_keys"], *found["mismatched_keys"]]
    if wrong:
        raise InputError(f"expected CLIP weights, {len(wrong)} are missing or do not fit ({wrong[0]}, ...): {folder}")
    return model.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damaged files raise whatever their readers do
        raise InputError(
            f"expected a CLIP tokenizer, got unreadable files ({type(error).__name__}): {folder}"
        ) from None
