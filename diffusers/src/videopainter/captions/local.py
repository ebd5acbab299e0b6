"""A vision-language model on this machine, through transformers: a folder or a hub id, loaded by the first question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videopainter.captions.answers import NobodyAnswers
from videopainter.captions.questions import Question
from videopainter.errors import InputError, one_line
from videopainter.files import sha256_text

_TOKENS_PER_WORD = 3  # room enough for rare words, and for a sentence that ends


def check_local(name: str) -> None:
    """InputError where a folder has no config, or one of a model that does not read pictures and write text."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if not Path(name).is_dir():
        return  # a hub id: known when it is loaded, as looking may need the network
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a wrong config breaks in many ways
        raise InputError(
            f"--llm_model: expected a vision-language model, got {one_line(error)[:200]}, in {name}"
        ) from None
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise InputError(f"--llm_model: expected a vision-language model, got a {config.model_type}, in {name}")


class LocalBackend:
    """Asks a model here. Answers are the likeliest ones (no sampling), so they can be remembered.

    Args:
        name: Folder or hub id.
        device: Says where it computes, when it is loaded; None: on a CPU.
    """

    def __init__(self, name: str, *, device: Callable[[], str] | None = None) -> None:
        self.name = f"transformers {_label(name)}"
        self._path, self._device = name, device
        self._model: Any = None
        self._processor: Any = None

    def ask(self, question: Question, complaint: str | None) -> str:
        import torch

        self._load()
        text = question.text if complaint is None else f"{question.text}\nYour last answer cannot be used: {complaint}."
        inputs = self._inputs(f"{question.system}\n\n{text}", question.pictures)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs, do_sample=False, max_new_tokens=_TOKENS_PER_WORD * question.most_words
            )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return self._processor.tokenizer.batch_decode(new, skip_special_tokens=True)[0]

    def close(self) -> None:
        self._model = self._processor = None
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _inputs(self, text: str, pictures: Any) -> Any:
        # Some chat templates know no system role: what a model must know stands before the question.
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
        prompt = self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = [Image.fromarray(np.asarray(picture)) for picture in pictures]
        inputs = self._processor(text=[prompt], images=images or None, return_tensors="pt")
        return inputs.to(self._model.device, dtype=self._model.dtype)

    def _load(self) -> None:
        if self._model is not None:
            return
        import torch
        from transformers import AutoModelForImageTextToText

        device = "cpu" if self._device is None else self._device()
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        try:
            self._processor = _load_processor(self._path)
            model: Any = AutoModelForImageTextToText.from_pretrained(self._path, dtype=dtype, trust_remote_code=False)
        except Exception as error:  # wrong weights, too, break in many ways
            raise NobodyAnswers(
                f"--llm_model: expected a vision-language model, got {one_line(error)[:300]}, in {self._path}"
            ) from None
        self._model = model.to(device).eval()


def _load_processor(path: str) -> Any:
    """The model's processor; where its part for videos needs torchvision, which may be missing, without that part."""
    from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.utils import is_torchvision_available

    if is_torchvision_available():
        return AutoProcessor.from_pretrained(path)
    known: Any = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(path))]
    if "video_processor" not in known.get_attributes():
        return AutoProcessor.from_pretrained(path)
    without_videos = type(known.__name__, (known,), {"check_argument_for_proper_class": _takes_no_video_part})
    tokenizer = AutoTokenizer.from_pretrained(path)
    return without_videos(
        image_processor=AutoImageProcessor.from_pretrained(path, backend="pil"),
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=tokenizer.chat_template,
    )


def _takes_no_video_part(self: Any, name: str, argument: Any) -> Any:
    from transformers import ProcessorMixin

    return None if name == "video_processor" else ProcessorMixin.check_argument_for_proper_class(self, name, argument)


def _label(name: str) -> str:
    """What answers are remembered by: the id, or the folder with a digest of its files' names, sizes and times."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    stats = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    state = [str(folder.resolve()), *(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)]
    return f"{folder.resolve().name} ({sha256_text(chr(10).join(state))[:8]})"
