"""A vision-language model of transformers, tiny and real, fitted to what it is to say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from videopainter.captions.backends import make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.questions import Question


def save_tiny_qwen(folder: Path) -> None:
    """A Qwen2.5-VL of two layers that reads and writes bytes, fitted to name two colours."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    marks = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=marks
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    end, pad, _, vision_start, vision_end, image, video = (
        int(tokenizer.convert_tokens_to_ids(mark)) for mark in ("<|im_end|>", "<|endoftext|>", *marks)
    )
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": end, "pad_token_id": pad,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
            "window_size": 56, "fullatt_block_indexes": [0],
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=vision_start, vision_end_token_id=vision_end,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 56).save_pretrained(folder)


def picture_of(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((56, 56, 3), colour, np.uint8)


def test_a_vision_language_model_of_transformers_sees_and_answers(tmp_path):
    """Fitted through the back end's own inputs to two pictures, it names both: pictures and text reach it."""
    import torch

    save_tiny_qwen(tmp_path / "qwen")
    backend = make_backend(str(tmp_path / "qwen"), device=lambda: "cpu")
    wanted = {"A red wall.": (200, 30, 30), "A blue sea.": (30, 30, 200)}
    questions = {
        text: Question(
            kind="region", facts={}, text="What?", system="Look.", most_words=8, pictures=[picture_of(colour)]
        )
        for text, colour in wanted.items()
    }
    backend.ask(questions["A red wall."], None)
    model, tokenizer = backend._model, backend._processor.tokenizer
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        for text, question in questions.items():
            inputs = backend._inputs(f"{question.system}\n\n{question.text}", question.pictures)
            answer = tokenizer(f"{text}<|im_end|>", return_tensors="pt").input_ids
            length = inputs["input_ids"].shape[1]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                zeros = torch.zeros_like(answer)
                inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], zeros], 1)
            labels = inputs["input_ids"].clone()
            labels[:, :length] = -100
            model(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    captioner = Captioner(backend, tmp_path / "answers")
    for text, question in questions.items():
        assert captioner.answer(question).text == text
    captioner.close()
    assert backend._model is None
