"""What decides the contents of a latent cache, and where its files lie. Needs neither torch nor diffusers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from videopainter.data.training.training_set import TrainingSetOptions
from videopainter.errors import InputError
from videopainter.files import is_empty, make_folder, read_json, sha256_file, sha256_text, write_json
from videopainter.locks import sweep
from videopainter.models.backbones.registry import facts_of
from videopainter.models.checkpoint_files import read_config, safetensors_files

# Raised when the same settings give other tensors than before. 2: frames are resized as the codec stores them.
# 3: they become RGB with exact rounding (1 to 1.5 levels brighter).
FORMAT = 3
# Options of the training set that do not change what one sample looks like. Paths: the CSV is known by its contents.
FREE_OPTIONS = ("meta_file_path", "instance_data_root", "shard_cache_gb", "proportion_empty_prompts", "mix_train_ratio")
# Who wrote a folder, not what it holds.
_CONFIG_NOISE = ("_name_or_path", "_diffusers_version", "transformers_version", "torch_dtype", "dtype")
# Of larger weight files only pieces spread over them are read, beside header and size.
_WHOLE_BYTES, _PIECE_BYTES, _PIECES = 2**26, 2**16, 64
_SHOWN = 60
# In one file: a process holds it in memory while it is made, and opening it reads the list of its tensors.
MAX_SAMPLES = 1024
# For the first process, which writes the settings; all start at the same time.
_PATIENCE_SECONDS = 120


# What a sample's image condition is stored as, by the fields of `EncodedPixels`.
IMAGE_TENSORS = {
    "first": "first_latent",
    "image": "image_embeds",
    "second": "second_latent",
    "second_image": "second_embeds",
}


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Everything that a cached tensor depends on; two caches with equal settings hold equal tensors."""

    vae: str
    text_encoder: str
    tokenizer: str
    meta_file: str
    samples: dict[str, Any]  # options of the training set
    single_frames: bool  # whether one-frame samples are there too (mix_train_ratio)
    hole_fill: float
    image_to_video: bool
    max_text_seq_length: int
    dtype: str
    image_pixels: bool = False  # images are always frames of pixels, those of second halves, too
    image_encoder: str = ""
    format: int = FORMAT

    def image_tensors(self, *, single: bool) -> list[str]:
        """Which of `IMAGE_TENSORS` a sample has."""
        if not self.image_to_video or (self.image_pixels and single):
            return []
        halves = ["first", "second"] if self.image_pixels else ["first"]
        seen = {"first": "image", "second": "second_image"} if self.image_encoder else {}
        return [name for half in halves for name in (half, seen.get(half)) if name is not None]

    @classmethod
    def make(
        cls,
        model_path: str | Path,
        options: TrainingSetOptions,
        *,
        hole_fill: float,
        dtype: str,
        max_text_seq_length: int | None = None,
    ) -> CacheSettings:
        """The settings of a cache for this backbone and training set; reads a few MB of the weights.

        Args:
            dtype: `float32`, `bfloat16` or `float16`: of the encoders and of the stored tensors.
            max_text_seq_length: None: the backbone's own.

        Raises:
            ValueError: for a folder that is no checkpoint (see `models.checks`, which says more).
        """
        folder, backbone = Path(model_path), facts_of(read_config(Path(model_path) / "transformer"))
        samples = {name: value for name, value in asdict(options).items() if name not in FREE_OPTIONS}
        return cls(
            vae=weights_identity(folder / "vae"),
            text_encoder=weights_identity(folder / "text_encoder"),
            tokenizer=_tokenizer_identity(folder / "tokenizer"),
            meta_file=_file_identity(options.meta_file_path),
            samples=json.loads(json.dumps(samples)),
            single_frames=options.mix_train_ratio > 0,
            hole_fill=hole_fill,
            image_to_video=backbone.image_conditioned,
            image_pixels=backbone.image_conditioned and backbone.image_from_pixels,
            image_encoder=weights_identity(folder / "image_encoder") if "image_encoder" in backbone.parts else "",
            max_text_seq_length=max_text_seq_length or backbone.text_tokens,
            dtype=dtype,
        )

    def flat(self) -> dict[str, Any]:
        """By name, the training set's options among them."""
        values = asdict(self)
        return values | values.pop("samples")

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> CacheSettings:
        """Of `settings.json`; unknown or missing names raise KeyError or TypeError."""
        # Before there was a choice, PyAV read all files.
        samples = {"video_reader": "pyav"} | content["samples"]
        # Nor were there backbones with images of this kind.
        content = {"image_pixels": False, "image_encoder": ""} | content
        return cls(**{field.name: content[field.name] for field in fields(cls)} | {"samples": samples})


def differences(cached: CacheSettings, wanted: CacheSettings, ignore: Iterable[str] = ()) -> list[str]:
    """`name: X cached, Y wanted` for whatever differs; a cache may hold single frames that nobody asks for."""
    old, new = cached.flat(), wanted.flat()
    if not wanted.single_frames:
        ignore = (*ignore, "single_frames")
    names = [name for name in sorted({*old, *new} - {*ignore}) if old.get(name) != new.get(name)]
    return [f"{name}: {_short(old.get(name))} cached, {_short(new.get(name))} wanted" for name in names]


@dataclass(frozen=True, kw_only=True)
class CacheLayout:
    """How a cache is cut into files, and how large it gets."""

    variants: int
    shard_rows: int  # rows in one file of latents
    text_shards: int  # files of text embeddings

    @classmethod
    def plan(cls, sizes: CacheSizes, *, rows: int, captions: int, variants: int, shard_megabytes: float) -> CacheLayout:
        """Files of about `shard_megabytes`, and not so many tensors that opening one takes long."""
        room = max(1, int(shard_megabytes * 10**6))
        row_bytes = variants * sizes.sample
        return cls(
            variants=variants,
            shard_rows=max(1, min(room // row_bytes, MAX_SAMPLES // variants, rows)),
            text_shards=max(1, -(-captions * sizes.caption // room), -(-captions // MAX_SAMPLES)),
        )


@dataclass(frozen=True, kw_only=True)
class CacheSizes:
    """Bytes on disk, known before anything is encoded."""

    sample: int  # one variant of a row, with its single frame where there are some
    caption: int

    @classmethod
    def of(cls, model_path: str | Path, settings: CacheSettings) -> CacheSizes:
        """From the models' configs and the training set's frame size."""
        text = read_config(Path(model_path) / "text_encoder")
        facts = facts_of(read_config(Path(model_path) / "transformer"))
        grid, item = facts.grid, 4 if settings.dtype == "float32" else 2
        height, width = grid.latent_size(settings.samples["height"], settings.samples["width"])
        counts = {False: grid.latent_frames(settings.samples["max_num_frames"])}
        counts |= {True: 1} if settings.single_frames else {}
        latents = embeds = 0
        for single, count in counts.items():
            images = settings.image_tensors(single=single)
            latents += 2 * count
            latents += facts.image_latents(count) * ("first" in images)
            latents += facts.image_latents(count - count // 2) * ("second" in images)
            embeds += ("image" in images) + ("second_image" in images)
        if embeds:
            embeds *= _image_numbers(read_config(Path(model_path) / "image_encoder"))
        return cls(
            sample=height * width * (latents * grid.channels * item + sum(counts.values())) + embeds * item,
            caption=settings.max_text_seq_length * text["d_model"] * item,
        )


def _image_numbers(encoder: Mapping[str, Any]) -> int:
    """Numbers in the embeddings of an image, from the config of a CLIP encoder."""
    return ((encoder["image_size"] // encoder["patch_size"]) ** 2 + 1) * encoder["hidden_size"]


def prepare_folder(folder: Path, settings: CacheSettings, layout: CacheLayout, *, write: bool) -> CacheLayout:
    """Make the cache folder, or find out that it holds a cache of the same settings; how that one is cut into files.

    Args:
        write: Whether to make it; one process does, the others wait for its settings.

    Raises:
        InputError: the folder holds a cache made otherwise, or something else, or cannot be written.
    """
    if not write:
        _wait_for(settings_path(folder))
    make_folder(folder, "the latent cache")
    if write:
        sweep(folder)
    if settings_path(folder).is_file():
        cached, found = read_settings(folder)
        check_settings(folder, cached, settings, variants=(found.variants, layout.variants))
        return found
    if not is_empty(folder):
        raise InputError(f"latent cache: expected an empty folder, or one with a cache, got {folder}")
    write_json(settings_path(folder), {"content": asdict(settings), "layout": asdict(layout)}, indent=1)
    return layout


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not path.is_file():
        if time.monotonic() > deadline:
            raise InputError(
                f"latent cache: expected {path} from the first process, got none; do all processes see this folder?"
            )
        time.sleep(0.2)


def read_settings(folder: Path) -> tuple[CacheSettings, CacheLayout]:
    """Of a cache; InputError where they are missing, damaged, or of another format."""
    path = settings_path(folder)
    if not path.is_file():
        raise InputError(f"latent cache: expected a folder written by cache_latents.py, {path} is missing")
    content = read_cache_json(path)
    try:
        if content["content"]["format"] != FORMAT:
            found = content["content"]["format"]
            raise InputError(f"latent cache: {path}: expected format {FORMAT}, got {found}; write the cache anew")
        return CacheSettings.from_json(content["content"]), CacheLayout(**content["layout"])
    except (KeyError, TypeError) as error:
        raise InputError(f"latent cache: expected its settings, got damage ({error!r}), in {path}") from None


def check_settings(
    folder: Path,
    cached: CacheSettings,
    wanted: CacheSettings,
    *,
    ignore: Iterable[str] = (),
    variants: tuple[int, int] = (1, 1),
) -> None:
    """InputError naming every setting that differs, with both values; `variants`: those cached and wanted."""
    differing = differences(cached, wanted, ignore)
    if variants[0] != variants[1]:
        differing.append(f"variants: {variants[0]} cached, {variants[1]} wanted")
    if differing:
        raise InputError(
            "latent cache: expected the settings that it was made with, got others "
            f"({'; '.join(differing)}), in {folder}"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


# Files of a cache folder.


def settings_path(folder: Path) -> Path:
    return folder / "settings.json"


def index_path(folder: Path) -> Path:
    return folder / "index.json"


def latent_shard(number: int) -> str:
    return f"latents-{number:05d}.safetensors"


def text_shard(number: int) -> str:
    return f"text-{number:05d}.safetensors"


def caption_name(caption: str) -> str:
    """The tensor of a caption's embeddings."""
    return sha256_text(caption)[:32]


def caption_shard(name: str, shards: int) -> int:
    """Which of `shards` text files holds a tensor: known from its name, so that no list of captions is needed."""
    return int(name[:8], 16) % shards


def sample_prefix(row: int, variant: int, single: bool) -> str:
    """What the names of a sample's tensors begin with."""
    return f"{row}.{variant}.single." if single else f"{row}.{variant}."


def read_cache_json(path: Path) -> dict[str, Any]:
    """InputError where the file is missing or damaged."""
    if not path.exists():
        raise InputError(f"latent cache: expected {path}, got none; start cache_latents.py again to finish it")
    content = read_json(path, "latent cache")
    if not isinstance(content, dict):
        raise InputError(f"latent cache: {path}: expected a JSON object, got {type(content).__name__}")
    return content


# Identities: short digests.


def weights_identity(folder: Path) -> str:
    """A digest of a model's config and weights: header, size and contents, of large files in samples."""
    config = {name: value for name, value in read_config(folder).items() if name not in _CONFIG_NOISE}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in safetensors_files(folder):
        _add_file(digest, path)
    return digest.hexdigest()[:32]


def _add_file(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            digest.update(file.read())
            return
        for piece in range(_PIECES):  # the first is the header's beginning, the last the file's end
            file.seek(piece * (size - _PIECE_BYTES) // (_PIECES - 1))
            digest.update(file.read(_PIECE_BYTES))


def _tokenizer_identity(folder: Path) -> str:
    files = [path for path in sorted(folder.iterdir()) if path.suffix == ".model" or path.name == "tokenizer.json"]
    if not files:
        raise InputError(f"{folder}: expected a tokenizer (spiece.model or tokenizer.json), found none")
    return _joint_identity(files)


def _joint_identity(files: Sequence[Path]) -> str:
    return sha256_text("".join(_file_identity(path) for path in files))[:32]


def _file_identity(path: str | Path) -> str:
    try:
        return sha256_file(path)[:32]
    except OSError as error:
        raise InputError(f"file: expected one that can be read, got {error.strerror}, in {path}") from None
