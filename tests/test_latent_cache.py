"""The latent cache, made from real small clips with the tiny checkpoint's VAE and text encoder."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TOKENS
from safetensors.torch import load_file
from shells import Command

from videopainter import VideoPainterPipeline
from videopainter.cli.cache_latents import (
    CacheOptions,
    cache_latents,
    encode_all,
    make_writer,
    plan_cache,
    prepare,
    read_options,
)
from videopainter.cli.running import run_door
from videopainter.data.training.sample_order import SampleKey, SampleOrder
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.files import TOKEN, temporary
from videopainter.models.backbones.registry import backbone_from
from videopainter.models.checkpoint_files import read_config
from videopainter.runs.processes import Shard
from videopainter.training.cache.reader import LatentCache
from videopainter.training.cache.settings import FORMAT, CacheSettings, CacheSizes, differences, weights_identity
from videopainter.training.encoding import (
    ImageConditioning,
    encode_captions,
    encode_pixels,
    frozen_text_encoder,
    frozen_vae,
)

REPO = Path(__file__).resolve().parents[1]
DOOR = REPO / "train" / "cache_latents.py"
MODEL = REPO / "ckpt/tiny/CogVideoX-5b-I2V"
BACKBONE = backbone_from(json.loads((MODEL / "transformer/config.json").read_text()))
HEIGHT, WIDTH, FRAMES, VARIANTS = 32, 48, 5, 2
CLIPS, UNREADABLE = 6, 4  # row 4 has no mask of its id
TEXT = "A box drifts over a gradient of colours and nothing else happens in clip {}"


def write_clip(root: Path, number: int) -> str:
    base = f"{number:012d}_{100 + number}"
    video = root / "pexels/pexels/raw_video" / base[:9] / f"{base}.mp4"
    masks = root / "video_inpainting/pexels" / base / "all_masks.npz"
    masks.parent.mkdir(parents=True)
    ramp = np.add.outer(np.arange(40), np.arange(56))
    frames = np.stack([np.stack([ramp + 5 * t, ramp * 2 - number, ramp + 9 * number], -1) % 256 for t in range(12)])
    ids = np.zeros((12, 40, 56), np.uint8)
    for t in range(12):
        ids[t, 8:24, 6 + 2 * t : 22 + 2 * t] = 2
    with VideoWriter(video, fps=8) as writer:
        writer.write(frames.astype(np.uint8))
    np.savez_compressed(masks, ids)
    return f"{base}.mp4,0,12,8,{9 if number == UNREADABLE else 2},{TEXT.format(number % 3)}"


@pytest.fixture(scope="module")
def meta(tmp_path_factory) -> Path:
    """A training set's CSV; its clips lie beside it."""
    root = tmp_path_factory.mktemp("clips")
    rows = [write_clip(root, number) for number in range(CLIPS)]
    head = "path,start_frame,end_frame,fps,mask_id,caption"
    (root / "train.csv").write_text("\n".join([head, *rows]) + "\n")
    return root / "train.csv"


def set_options(meta: Path, **changes) -> TrainingSetOptions:
    options = {
        "meta_file_path": str(meta),
        "height": HEIGHT,
        "width": WIDTH,
        "max_num_frames": FRAMES,
        "mix_train_ratio": 0.5,
        "proportion_empty_prompts": 0.3,
        "random_flip": 0.5,
        "mask_transform_prob": 0.5,
        "id_token": "sks",
        "seed": 7,
    }
    return TrainingSetOptions(**{**options, **changes})


def cache_options(folder: Path, **changes) -> CacheOptions:
    options = {
        "latent_cache": str(folder),
        "pretrained_model_name_or_path": str(MODEL),
        "variants": VARIANTS,
        "device": "cpu",
        "dataloader_num_workers": 0,
        "max_unreadable_share": 0.5,
        "enable_slicing": True,
        "quiet": True,
    }
    return CacheOptions(**{**options, **changes})


@pytest.fixture(scope="module")
def folder(meta: Path, tmp_path_factory) -> Path:
    """A finished cache in float32, read by two workers."""
    folder = tmp_path_factory.mktemp("caches") / "cache"
    assert cache_latents(cache_options(folder, batch_size=3, dataloader_num_workers=2), set_options(meta)) == 0
    return folder


@pytest.fixture(scope="module")
def vae():
    return frozen_vae(MODEL, torch.float32, slicing=True)


def settings(meta: Path, others: dict | None = None, **changes) -> CacheSettings:
    options = {"hole_fill": 0.0, "dtype": "float32", **(others or {})}
    return CacheSettings.make(MODEL, set_options(meta, **changes), **options)


def on_the_fly(vae, training_set: TrainingSet, keys, **options):
    options = {"images": images(), "seed": training_set.options.seed, **options}
    return encode_pixels(vae, [training_set[key] for key in keys], **options)


def images() -> ImageConditioning:
    return ImageConditioning(backbone_from(read_config(MODEL / "transformer")))


def same(a, b) -> bool:
    names = ("latents", "masked_latents", "mask", "first_latent")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


# What is cached trains the same.


def test_first_epochs_equal_training_on_the_fly(meta: Path, folder: Path, vae):
    """Every batch of the first `variants` epochs, clips and single frames, latents and captions, to the bit."""
    cache, training_set = LatentCache(folder, settings(meta)), TrainingSet(set_options(meta))
    tokenizer, text_encoder = frozen_text_encoder(MODEL, torch.float32)
    order = SampleOrder(cache.rows, 2, 1, 0, seed=7, mix_train_ratio=0.5)
    kinds = set()
    for _, keys in zip(range(VARIANTS * order.batches_per_epoch), order.batches()):
        captions = [training_set.caption(key) for key in keys]
        batch = cache.batch(keys, captions)
        assert same(batch, on_the_fly(vae, training_set, keys))
        assert [training_set[key].caption for key in keys] == captions
        embeds = encode_captions(BACKBONE, tokenizer, text_encoder, captions, TINY_TOKENS)
        assert torch.equal(batch.prompt_embeds, embeds)
        assert batch.keys == keys
        kinds |= {key.single for key in keys} | {caption == "" for caption in captions}
    assert kinds == {True, False}
    assert keys[0].epoch == VARIANTS - 1


def test_later_epochs_repeat_the_variants_in_turn(meta: Path, folder: Path):
    cache, row = LatentCache(folder), 1
    batches = [cache.batch([SampleKey(epoch, row, False)], [""]) for epoch in range(2 * VARIANTS)]
    assert same(batches[0], batches[VARIANTS])
    assert same(batches[1], batches[VARIANTS + 1])
    assert not torch.equal(batches[0].first_latent, batches[1].first_latent)
    # Draws of the step (noise, timestep) go by the real epoch.
    assert batches[VARIANTS].keys == [SampleKey(VARIANTS, row, False)]


def test_shapes_and_the_hole(meta: Path, folder: Path):
    batch = LatentCache(folder).batch([SampleKey(0, 0, False), SampleKey(0, 1, False)], ["", ""])
    t, h, w = (FRAMES - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8
    assert batch.latents.shape == batch.masked_latents.shape == (2, t, 16, h, w)
    assert batch.mask.shape == (2, t, 1, h, w)
    assert batch.first_latent.shape == (2, 1, 16, h, w)
    assert batch.prompt_embeds.shape == (2, TINY_TOKENS, 96)
    assert {tensor.dtype for tensor in (batch.latents, batch.mask, batch.prompt_embeds)} == {torch.float32}
    assert set(batch.mask.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(batch.latents, batch.masked_latents)
    single = LatentCache(folder).batch([SampleKey(0, 0, True)], [""])
    assert single.latents.shape == single.first_latent.shape == (1, 1, 16, h, w)


@pytest.mark.slow
def test_half_precision_is_the_rounded_float(meta: Path, folder: Path, tmp_path: Path):
    """bfloat16 runs the encoders in it too, as training does: close to float32, and half the size."""
    cache_latents(cache_options(tmp_path / "half", dtype="bfloat16"), set_options(meta))
    keys = [SampleKey(0, 0, False), SampleKey(0, 2, False)]
    half, full = (LatentCache(place).batch(keys, ["", ""]) for place in (tmp_path / "half", folder))
    assert half.latents.dtype == half.prompt_embeds.dtype == half.mask.dtype == torch.bfloat16
    assert torch.equal(half.mask.float(), full.mask)
    error = (half.latents.float() - full.latents).abs().mean() / full.latents.abs().mean()
    assert 0 < error < 0.05
    assert total_bytes(tmp_path / "half") < 0.6 * total_bytes(folder)


def total_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


# Encoding.


def test_encoding_is_the_pipelines_own(vae):
    """Without noise on the first frame, what `make_conditions` gives for the same clip."""
    from conftest import moving_mask, noise_video

    from videopainter.data.training.training_set import TrainingSample
    from videopainter.models.backbones.registry import codec_of
    from videopainter.pipelines.conditioning import make_conditions, to_video_tensor
    from videopainter.training.draws import first_frame_noise

    frames, masks, key = noise_video(5), moving_mask(5), SampleKey(3, 4, False)
    sample = TrainingSample(key=key, frames=frames, masks=masks, caption="", clip_row=4)
    empty = replace(sample, masks=np.zeros_like(masks))
    got, wanted = (
        encode_pixels(vae, [sample, empty], seed=1, hole_fill=-1.0, images=images()),
        make_conditions(codec_of(vae), frames, masks, hole_fill=-1.0),
    )
    assert torch.equal(got.latents[:1], wanted.video_latents)
    assert torch.equal(got.masked_latents[:1], wanted.masked_latents)
    assert torch.equal(got.mask[:1], wanted.mask)
    assert torch.equal(got.masked_latents[1], got.latents[1])
    video = to_video_tensor(frames[:1])
    sigma, noise = first_frame_noise(1, key, (3, 1, 32, 48))
    assert 0.005 < sigma < 0.5
    assert torch.equal(got.first_latent[:1], codec_of(vae).encode(video + sigma * noise))
    assert encode_pixels(vae, [sample], seed=1).first_latent is None


def test_captions_are_encoded_as_upstream_does():
    tokenizer, text_encoder = frozen_text_encoder(MODEL, torch.float32)
    texts = ["a red ball", "", "a red ball", "word " * 80]
    got = encode_captions(BACKBONE, tokenizer, text_encoder, texts, TINY_TOKENS)
    pipe = VideoPainterPipeline.__new__(VideoPainterPipeline)
    pipe.tokenizer, pipe.text_encoder = tokenizer, text_encoder
    upstream = type(pipe)._get_t5_prompt_embeds
    wanted = [upstream(pipe, text, 1, TINY_TOKENS, torch.device("cpu"), torch.float32) for text in texts]
    assert torch.equal(got, torch.cat(wanted))


def test_moving_a_batch(folder: Path):
    batch = LatentCache(folder).batch([SampleKey(0, 0, False)], [""]).to("cpu", torch.float16)
    assert {batch.latents.dtype, batch.first_latent.dtype, batch.prompt_embeds.dtype} == {torch.float16}
    assert batch.keys == [SampleKey(0, 0, False)]


# The folder.


def test_what_cannot_be_read_is_left_out_and_listed(meta: Path, folder: Path):
    cache = LatentCache(folder)
    assert cache.rows == [row for row in range(CLIPS) if row != UNREADABLE]
    assert cache.unreadable == 1
    listed = (folder / "unreadable.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in listed] == ["row", str(UNREADABLE)]
    with pytest.raises(InputError, match="expected row 4, got none"):
        cache.batch([SampleKey(0, UNREADABLE, False)], [""])
    with pytest.raises(InputError, match="another caption"):
        cache.batch([SampleKey(0, 0, False)], ["another caption"])


def test_too_many_unreadable_clips_end_the_run(meta: Path, tmp_path: Path):
    lines = meta.read_text().splitlines()
    bad = [lines[0], *(line.replace(",8,2,", ",8,9,") for line in lines[1:])]
    (meta.parent / "bad.csv").write_text("\n".join(bad) + "\n")
    with pytest.raises(
        InputError, match=r"^clips: expected one of 6 that can be read, got none, in \S+; row 0: "
    ) as error:
        cache_latents(cache_options(tmp_path, dataloader_num_workers=1), set_options(meta.parent / "bad.csv"))
    assert "Traceback" not in str(error.value)


def test_size_is_known_beforehand(meta: Path, folder: Path):
    """The estimate is that of the tensors, without the unreadable row's and the files' headers."""
    sizes = CacheSizes.of(MODEL, settings(meta))
    held = sum(tensor.nbytes for tensor in all_tensors(folder).values())
    assert held == (CLIPS - 1) * VARIANTS * sizes.sample + 4 * sizes.caption


def test_forked_workers_read_the_same(folder: Path):
    cache = LatentCache(folder)
    wanted = cache.batch([SampleKey(0, 0, False)], [""])  # opens shards before the copies are made
    keys = [[SampleKey(epoch, 0, False)] for epoch in range(VARIANTS + 1)]
    batches = list(torch.utils.data.DataLoader(CachedBatches(cache), batch_size=None, sampler=keys, num_workers=1))
    assert same(batches[0], wanted)
    assert same(batches[VARIANTS], wanted)


class CachedBatches(torch.utils.data.Dataset):
    def __init__(self, cache: LatentCache) -> None:
        self.cache = cache

    def __getitem__(self, keys):
        return self.cache.batch(keys, [""] * len(keys))


def test_a_pickled_cache_is_small_and_whole(folder: Path):
    cache = LatentCache(folder)
    wanted = cache.batch([SampleKey(1, 2, True)], [""])
    data = pickle.dumps(cache)
    assert len(data) < 20_000
    assert same(pickle.loads(data).batch([SampleKey(1, 2, True)], [""]), wanted)


def test_only_the_last_shards_stay_open(small_shards: Path, monkeypatch):
    monkeypatch.setattr("videopainter.training.cache.reader.OPEN_SHARDS", 2)
    cache = LatentCache(small_shards)
    assert len(list(small_shards.glob("latents-*"))) == CLIPS
    for row in (0, 5, 0, 1):
        cache.batch([SampleKey(0, row, False)], [""])
        assert len(cache._open) == 2


# Killed, damaged, or made otherwise.

SMALL = {"shard_megabytes": 0.03}  # one row, or a caption or two, per file


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def assert_same_cache(folder: Path, other: Path) -> None:
    ours, theirs = all_tensors(folder), all_tensors(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert LatentCache(folder).rows == LatentCache(other).rows


@pytest.fixture(scope="module")
def small_shards(meta: Path, tmp_path_factory) -> Path:
    """The same cache by two processes, one after the other, of which the first was killed and one shard damaged."""
    folder = tmp_path_factory.mktemp("caches") / "small"
    kill_after_two_shards(folder, meta)
    assert not (folder / "index.json").exists()
    with pytest.raises(InputError, match=r"index\.json, got none; start cache_latents\.py again"):
        LatentCache(folder)
    finished = sorted(folder.glob("latents-*"))[0]
    finished.write_bytes(finished.read_bytes()[:-7])
    left = temporary(folder / "latents-00003.safetensors")
    left.with_name(left.name.replace(TOKEN, "000000")).write_bytes(b"half")
    write_by_two(folder, meta)
    return folder


def kill_after_two_shards(folder: Path, meta: Path) -> None:
    flags = {**vars(set_options(meta)), **vars(cache_options(folder, **SMALL))}
    words = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    said = folder.with_name("said")
    Command(REPO, [], str(DOOR), words, dict(os.environ)).run_until_killed(said, "*/latents-*", 2)
    assert len(list(folder.glob("latents-*"))) == 2


def write_by_two(folder: Path, meta: Path) -> None:
    """What `torchrun --nproc_per_node 2` does, rank after rank."""
    plan = plan_cache(cache_options(folder, **SMALL), set_options(meta))
    for rank in (0, 1):
        shard = Shard(rank=rank, local_rank=rank, size=2)
        layout = prepare(plan, settings(meta), shard)
        writer = make_writer(plan, settings(meta), layout, shard)
        encode_all(plan, writer, "cpu", shard)
        if rank == 0:
            with pytest.raises(InputError, match="too few, such as"):
                writer.finish()
    writer.finish()


def test_killed_damaged_and_gone_on_with_by_others(meta: Path, folder: Path, small_shards: Path):
    assert_same_cache(small_shards, folder)
    assert not list(small_shards.glob(".*"))
    # Others may read what safetensors writes for its owner alone.
    modes = {path.stat().st_mode & 0o777 for path in small_shards.glob("*.safetensors")}
    assert modes == {meta.stat().st_mode & 0o777}


def test_a_second_run_has_nothing_to_do(meta: Path, folder: Path, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    cache_latents(cache_options(folder), set_options(meta))
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")} == before
    assert "0 samples encoded" in capsys.readouterr().out


@pytest.fixture
def copy(small_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_shards, tmp_path / "copy"))


def test_a_truncated_shard_is_noticed(meta: Path, small_shards: Path, copy: Path, caplog):
    path = sorted(copy.glob("latents-*"))[1]
    path.write_bytes(path.read_bytes()[:-1])
    size = path.stat().st_size
    with pytest.raises(InputError, match=f"{path}: expected {size + 1} bytes, got {size}; start cache_latents"):
        LatentCache(copy)
    with caplog.at_level(logging.WARNING):
        cache_latents(cache_options(copy, **SMALL), set_options(meta))
    assert len([record for record in caplog.records if f"is made again: {path}" in record.getMessage()]) == 1
    assert_same_cache(copy, small_shards)
    path.unlink()
    with pytest.raises(InputError, match=f"{path}: expected {size + 1} bytes, got no file"):
        LatentCache(copy)


def test_damaged_settings_and_index(copy: Path):
    (copy / "index.json").write_text("{")
    with pytest.raises(InputError, match=r"expected JSON.*index\.json"):
        LatentCache(copy)
    content = json.loads((copy / "settings.json").read_text())
    for damage, message in (
        ({"content": {**content["content"], "format": 99}}, f"expected format {FORMAT}, got 99"),
        ({"content": {"format": FORMAT}}, "got damage"),
    ):
        (copy / "settings.json").write_text(json.dumps({**content, **damage}))
        with pytest.raises(InputError, match=message):
            LatentCache(copy)
    with pytest.raises(InputError, match=r"expected a folder written by cache_latents\.py"):
        LatentCache(copy / "nothing")


def test_a_cache_from_before_there_was_a_choice_of_readers(meta: Path, copy: Path):
    path = copy / "settings.json"
    content = json.loads(path.read_text())
    assert content["content"]["samples"].pop("video_reader") == "pyav"
    path.write_text(json.dumps(content))
    LatentCache(copy, settings(meta))
    content["content"]["samples"]["video_reader"] = "decord"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="video_reader: decord cached, pyav wanted"):
        LatentCache(copy, settings(meta))


CHANGES = {
    "seed": ({"seed": 8}, {}, "seed: 7 cached, 8 wanted"),
    "size": ({"height": 64}, {}, "height: 32 cached, 64 wanted"),
    "masks": ({"p_rect": 0.2}, {}, "p_rect: 0.1 cached, 0.2 wanted"),
    "token": ({"id_token": ""}, {}, "id_token: sks cached,  wanted"),
    "hole": ({}, {"hole_fill": -1.0}, "hole_fill: 0.0 cached, -1.0 wanted"),
    "dtype": ({}, {"dtype": "bfloat16"}, "dtype: float32 cached, bfloat16 wanted"),
    "length": ({}, {"max_text_seq_length": 20}, f"max_text_seq_length: {TINY_TOKENS} cached, 20 wanted"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_named(meta: Path, folder: Path, change: str):
    samples, others, message = CHANGES[change]
    with pytest.raises(InputError, match=rf"others \({re.escape(message)}\), in"):
        LatentCache(folder, settings(meta, others, **samples))


def test_settings_that_do_not_matter_may_differ(meta: Path, folder: Path):
    free = {"proportion_empty_prompts": 0.9, "mix_train_ratio": 0.0, "instance_data_root": str(meta.parent)}
    assert LatentCache(folder, settings(meta, **free)).rows
    assert LatentCache(folder, settings(meta, {"dtype": "bfloat16"}), ignore=["dtype"]).rows


def test_several_differences_come_in_one_line(meta: Path, folder: Path, tmp_path: Path):
    wanted = settings(meta, {"hole_fill": -1.0}, width=64)
    with pytest.raises(InputError, match=r"hole_fill: .* wanted; width: 48 cached, 64 wanted\), in"):
        LatentCache(folder, wanted)
    with pytest.raises(InputError, match=r"variants: 2 cached, 3 wanted\), in"):
        cache_latents(cache_options(folder, variants=3), set_options(meta))


def test_another_csv_or_model_is_another_cache(meta: Path, folder: Path, tmp_path: Path):
    other = meta.parent / "other.csv"
    other.write_text(meta.read_text() + meta.read_text().splitlines()[1] + "\n")
    with pytest.raises(InputError, match=r"meta_file: .* cached, .* wanted\), in"):
        LatentCache(folder, settings(other))
    vae = tmp_path / "vae"
    shutil.copytree(MODEL / "vae", vae)
    same_weights = weights_identity(vae)
    file = vae / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert same_weights == settings(meta).vae != weights_identity(vae)


def test_single_frames_that_are_not_there(meta: Path, tmp_path: Path):
    wanted = settings(meta)
    without = replace(wanted, single_frames=False)
    assert differences(without, wanted) == ["single_frames: False cached, True wanted"]
    assert differences(wanted, without) == []


def test_large_weight_files_are_known_by_samples(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("videopainter.training.cache.settings._WHOLE_BYTES", 2**16)
    (tmp_path / "config.json").write_text('{"a": 1, "_diffusers_version": "1"}')
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(2**20))
    first = weights_identity(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1, "_diffusers_version": "2"}')
    assert weights_identity(tmp_path) == first
    for change in (bytes(2**20 - 1) + b"x", b"x" + bytes(2**20 - 1), bytes(2**20 + 1)):
        file.write_bytes(change)
        assert weights_identity(tmp_path) != first


# The door.


def test_mistakes_are_found_before_a_model_is_loaded(meta: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("videopainter.cli.cache_latents.encode_all", lambda *_: pytest.fail("a model would be loaded"))
    common = ["--meta_file_path", str(meta), "--height", "32", "--width", "48", "--max_num_frames", "5"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.jpg").write_text("")
    for flags, message in (
        ([], "--latent_cache: expected the folder"),
        (
            ["--output_dir", str(tmp_path / "c"), "--variants", "0"],
            "--variants: expected a number from 1 to 1024, got 0",
        ),
        (["--output_dir", str(tmp_path / "c"), "--hole_fill", "2"], "--hole_fill: expected a number from -1 to 1"),
        (["--output_dir", str(tmp_path / "c"), "--variant", "2"], "did you mean --variants"),
        (["--output_dir", str(tmp_path / "c"), "--device", "tpu"], "--device"),
        (["--output_dir", str(tmp_path / "c"), "--device", "mps"], "--device"),
        (["--output_dir", str(tmp_path / "other")], "expected an empty folder, or one with a cache"),
        (["--output_dir", str(meta)], "cannot write to the latent cache"),
        (["--output_dir", str(tmp_path / "c"), "--pretrained_model_name_or_path", str(tmp_path)], "model_index.json"),
    ):
        with pytest.raises(SystemExit) as leaving:
            run_door(lambda flags=flags: cache_latents(*read_options([*common, *flags])))
        error = capsys.readouterr().err.splitlines()
        assert leaving.value.code == 2
        assert [message in line for line in error] == [True], error


def test_a_disk_that_is_too_small(meta: Path, tmp_path: Path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"of free disk, got 0\.000 GB"):
        cache_latents(cache_options(tmp_path / "c"), set_options(meta))
