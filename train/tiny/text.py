"""The tiny text encoder's parts: a sentencepiece tokenizer trained on the captions, a two-layer T5 encoder."""

from __future__ import annotations

import json
import string
from pathlib import Path

import sentencepiece
from common import Clips
from sentencepiece import sentencepiece_model_pb2
from transformers import T5Config, T5EncoderModel, T5Tokenizer

MAX_TOKENS = 36  # the longest captions fit
VOCABULARY = 320


def load_tokenizer(work: Path) -> T5Tokenizer:
    """The tokenizer, trained on the captions of the stills when it is first asked for."""
    captions = [words[k] for words in Clips(work, "stills").captions for k in ("full", "without")]
    return make_tokenizer(captions, work / "tokenizer")


def make_tokenizer(captions: list[str], folder: Path) -> T5Tokenizer:
    """Train a tokenizer and leave it in `folder`, as CogVideoX folders have it."""
    if (folder / "tokenizer.json").exists():
        return T5Tokenizer.from_pretrained(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = folder.parent / "captions.txt"
    # Sentencepiece proposes a piece only where two different words share it: inflected forms make whole words pieces.
    words = sorted({word.strip(",.") for caption in captions for word in caption.split()})
    text.write_text("\n".join([*captions, *(f"{word} {word}s {word}ed {word}ing" for word in words)]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spiece"),
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        character_coverage=1.0,
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        # T5's special tokens.
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        num_threads=1,
    )
    (folder / "spiece.vocab").unlink()
    forget_places(folder / "spiece.model")
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": MAX_TOKENS, "extra_ids": 0, "legacy": True}
    config |= {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    tokenizer = T5Tokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def forget_places(file: Path) -> None:
    """A model says where its text lay and where it was written; others need not know."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    for name in ("input", "model_prefix"):
        model.trainer_spec.ClearField(name)
    file.write_bytes(model.SerializeToString())


def build_text_encoder(vocabulary: int) -> T5EncoderModel:
    """About 0.3 M parameters."""
    config = T5Config(
        vocab_size=vocabulary,
        d_model=96,
        d_kv=24,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(config)


def tokenize(tokenizer: T5Tokenizer, captions: list[str]):
    """Token ids (B, the tokenizer's longest), padded, as the pipeline tokenizes; no attention mask, as CogVideoX."""
    return tokenizer(
        captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
