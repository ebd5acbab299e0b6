"""Validation inside a training: what it measures, what it leaves alone, and that it never ends it."""

from __future__ import annotations

import multiprocessing
import random
import socket
import weakref
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import InitProcessGroupKwargs
from conftest import (
    TEXT_DIM,
    TEXT_LENGTH,
    TINY_TOKENS,
    clean_process,
    make_branch,
    make_scheduler,
    make_transformer,
    make_vae,
)
from peft import LoraConfig
from transformers import AutoTokenizer, T5Config, T5EncoderModel

from videopainter import VideoPainterPipeline
from videopainter.cli.cache_latents import CacheOptions, cache_latents
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError, TrainingFailed
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.id_adapter import ADAPTER_NAME, IDAdapter
from videopainter.training.cache.reader import LatentCache
from videopainter.training.encoding import frozen_text_encoder, frozen_vae
from videopainter.training.model import InpaintingModel, freeze_all_but_branch, freeze_all_but_lora
from videopainter.training.objective import Objective
from videopainter.training.options import ConditionOptions
from videopainter.training.tracking.trackers import TrackerOptions, Trackers
from videopainter.training.validation.clips import Encoders, ValidationClips
from videopainter.training.validation.fixed_loss import FixedLoss, fixed_noise
from videopainter.training.validation.options import ValidationOptions
from videopainter.training.validation.validation import Validation
from videopainter.training.validation.videos import LiveModels, comparison_video

TINY = Path(__file__).resolve().parents[1] / "ckpt/tiny/CogVideoX-5b-I2V"
HEIGHT, WIDTH, FRAMES = 16, 32, 5
LOSSES = {"validation/loss", "validation/masked_loss", "validation/loss_t200", "validation/loss_t800"}


def write_clip(root: Path, number: int) -> str:
    """A textured clip with a box that moves; gives its row of the CSV."""
    base = f"{number:012d}_{number}"
    video = root / "pexels/pexels/raw_video" / base[:9] / f"{base}.mp4"
    masks = root / "video_inpainting/pexels" / base / "all_masks.npz"
    masks.parent.mkdir(parents=True)
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))
    frames = np.stack([np.stack([ramp + 3 * t, 2 * ramp, ramp + 40 * number], -1) % 256 for t in range(8)])
    ids = np.zeros(frames.shape[:3], np.uint8)
    for t in range(len(ids)):
        ids[t, 4:12, 2 + 2 * t : 14 + 2 * t] = 1
    with VideoWriter(video, fps=8) as writer:
        writer.write(frames.astype(np.uint8))
    np.savez_compressed(masks, ids)
    return f"{base}.mp4,0,8,8,1,A box moves to the right over a ramp of colours in clip number {number}"


@pytest.fixture(scope="module")
def csv(tmp_path_factory) -> Path:
    """Three clips to validate on."""
    root = tmp_path_factory.mktemp("clips")
    rows = [write_clip(root, number) for number in range(3)]
    (root / "val.csv").write_text("\n".join(["path,start_frame,end_frame,fps,mask_id,caption", *rows]) + "\n")
    return root / "val.csv"


def val_options(csv: Path, **changes) -> ValidationOptions:
    options = {
        "val_meta_file_path": str(csv),
        "validating_steps": 10,
        "num_validation_videos": 1,
        "validation_samples": 3,
        "validation_timesteps": [200, 800],
        "num_inference_steps": 2,
    }
    return ValidationOptions(**{**options, **changes})


def training_options(csv: Path) -> TrainingSetOptions:
    return TrainingSetOptions(
        meta_file_path=str(csv), height=HEIGHT, width=WIDTH, max_num_frames=FRAMES, random_flip=0.5, mix_train_ratio=0.5
    )


def make_encoders() -> Encoders:
    tokenizer = AutoTokenizer.from_pretrained(TINY / "tokenizer")
    torch.manual_seed(4)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return Encoders(vae=make_vae(), tokenizer=tokenizer, text_encoder=T5EncoderModel(config).eval())


def make_model(**changes) -> InpaintingModel:
    transformer = make_transformer(num_layers=2, **changes)
    model = InpaintingModel(transformer, make_branch(transformer), mask_add=True)
    freeze_all_but_branch(model)
    return model.train()


def make_setup(
    csv: Path,
    folder: Path,
    *,
    model=None,
    encoders="live",
    cache=None,
    accelerator=None,
    id_adapter=None,
    text_length=TEXT_LENGTH,
    **changes,
):
    """All that a trainer would have around a validation; `told` collects its warnings, `shown` its videos."""
    options, model = val_options(csv, **changes), model or make_model()
    told, shown = [], []
    trackers = Trackers(TrackerOptions(), output_dir=folder)
    trackers.log_videos = lambda name, videos, fps, step: shown.append((name, videos, fps, step))
    objective = Objective(backbone_of(model.transformer), make_scheduler(), ConditionOptions())
    clips = ValidationClips(
        backbone_of(model.transformer),
        TrainingSet(options.set_options(training_options(csv))),
        options.num_clips,
        encoders=make_encoders() if encoders == "live" else encoders,
        cache=cache,
        max_text_seq_length=text_length,
    )
    models = LiveModels(
        transformer=model.transformer, branch=model.branch, scheduler=objective.process.scheduler, id_adapter=id_adapter
    )
    validation = Validation(
        options,
        models=models,
        clips=clips,
        objective=objective,
        accelerator=accelerator or Accelerator(cpu=True),
        trackers=trackers,
        output_dir=folder,
        settings=options.inpaint_settings(mask_add=True),
        warn=told.append,
    )
    return SimpleNamespace(
        validation=validation, model=model, clips=clips, models=models, objective=objective, told=told, shown=shown
    )


@pytest.fixture
def setup(csv, tmp_path):
    return make_setup(csv, tmp_path)


def failing(*_, **__):
    raise torch.OutOfMemoryError("no memory left,\nnot a byte")


# ---- options


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, [10, 20, 30]),
        ({"validation_at_start": True}, [0, 10, 20, 30]),
        ({"validation_epochs": 2}, [10, 30]),
        ({"validating_steps": 0}, []),
        ({"val_meta_file_path": None}, []),
        ({"num_validation_videos": 0, "validation_samples": 0}, []),
    ],
)
def test_when_it_is_due(csv, tmp_path, changes, steps):
    setup = make_setup(csv, tmp_path)
    setup.validation.options = val_options(csv, **changes)
    epochs = {20: 1}
    assert [step for step in range(35) if setup.validation.due(step, epochs.get(step, 0))] == steps


def test_the_set_is_the_same_whatever_the_training_augments(csv):
    options = val_options(csv, validation_seed=5)
    training = training_options(csv)
    other = replace(training, seed=1, random_flip=1.0, mask_transform_prob=1.0, proportion_empty_prompts=1.0)
    assert options.set_options(training) == options.set_options(other)
    sample = TrainingSet(options.set_options(other))[SampleKey(0, 0, False)]
    assert sample.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert sample.masks.sum() == FRAMES * 8 * 12
    assert "clip number 0" in sample.caption


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"validating_steps": -1}, "validating_steps: expected at least 0, got -1"),
        ({"validation_timesteps": [100, 1000]}, "from 0 to 999, got 1000"),
        ({"validation_timesteps": []}, "got none"),
        ({"validation_timesteps": [5, 5]}, "expected different ones"),
        ({"validation_batch_size": 0}, "validation_batch_size: expected a number from 1"),
    ],
)
def test_options_that_cannot_be(changes, expected):
    with pytest.raises(InputError, match=expected):
        ValidationOptions(**changes)


# ---- loss


def test_loss_is_the_objectives_on_fixed_noise(setup):
    metrics = setup.validation.run(10, setup.model)
    assert set(metrics) == LOSSES | {"validation/seconds"}

    setup.model.eval()
    found = np.zeros((3, 2, 2))
    for clip, key in enumerate(setup.clips.keys):
        batch = setup.clips.batch([key])
        for place, timestep in enumerate([200, 800]):
            noise = fixed_noise(42, batch, timestep)
            with torch.no_grad():
                found[clip, place] = setup.objective.loss(setup.model, batch, noise, torch.tensor([timestep]))
    full, masked = found.mean(axis=(0, 1))
    assert metrics["validation/loss"] == pytest.approx(full, rel=1e-12)
    assert metrics["validation/masked_loss"] == pytest.approx(masked, rel=1e-12)
    assert metrics["validation/loss_t200"] == pytest.approx(found[:, 0, 0].mean(), rel=1e-12)
    assert 0 < masked < full


def test_noise_is_normal_and_differs_by_clip_and_timestep(setup):
    batch = setup.clips.batch(setup.clips.keys[:2])
    draws = torch.stack([fixed_noise(42, batch, timestep) for timestep in range(40)])
    assert abs(float(draws.mean())) < 0.02
    assert float(draws.std()) == pytest.approx(1, abs=0.02)
    assert not torch.equal(draws[0, 0], draws[0, 1])
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(fixed_noise(42, batch, 0)[1:], fixed_noise(42, setup.clips.batch(setup.clips.keys[1:2]), 0))


def test_same_weights_same_numbers_and_other_weights_others(csv, tmp_path):
    setup = make_setup(csv, tmp_path, num_validation_videos=0)
    first = setup.validation.run(10, setup.model)
    torch.manual_seed(99)
    again = setup.validation.run(20, setup.model)
    assert {first[name] for name in LOSSES} == {again[name] for name in LOSSES}
    with torch.no_grad():
        setup.model.branch.branch_blocks[0].weight.mul_(1.5)
    moved = setup.validation.run(30, setup.model)
    assert moved["validation/loss"] != first["validation/loss"]


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_process_count_changes_no_bit(setup, processes, lockstep):
    keys = setup.clips.keys
    loss = FixedLoss(setup.objective, setup.clips, keys, timesteps=[100, 700], batch_size=1)
    passes = []
    handle = setup.model.register_forward_hook(lambda *_: passes.append(1))
    alone = loss.table(setup.model.eval())
    tables, counts = [], []
    for index in range(processes):
        passes.clear()
        tables.append(loss.table(setup.model, num_processes=processes, process_index=index, lockstep=lockstep))
        counts.append(len(passes))
    handle.remove()
    assert torch.equal(torch.stack(tables).sum(dim=0), alone)
    expected = (
        [2 * -(-3 // processes)] * processes
        if lockstep
        else [2 * len(range(i, 3, processes)) for i in range(processes)]
    )
    assert counts == expected


def test_unequal_batches_count_by_their_clips(setup):
    loss = FixedLoss(setup.objective, setup.clips, setup.clips.keys, timesteps=[300], batch_size=2)
    metrics = loss.metrics(torch.tensor([[[3.0, 1.0]], [[9.0, 4.0]]], dtype=torch.float64))
    assert metrics == {"validation/loss": 5.0, "validation/masked_loss": 2.0, "validation/loss_t300": 5.0}


# ---- what it leaves alone


def test_the_training_does_not_notice(setup):
    model = setup.model
    model.transformer.enable_gradient_checkpointing()
    model.transformer.transformer_blocks[0].eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    timesteps = setup.objective.process.scheduler.timesteps.clone()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002

    def draw(*_):
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002

    handle = model.branch.register_forward_hook(draw)
    setup.validation.run(10, model)
    handle.remove()

    assert random.getstate() == states[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[1]))  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == wanted
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all((p.grad == 1).all() for p in model.parameters() if p.requires_grad)
    assert model.transformer.is_gradient_checkpointing
    assert torch.equal(setup.objective.process.scheduler.timesteps, timesteps)
    assert setup.told == []


# ---- videos


def test_videos_are_the_pipelines_and_reach_files_and_tracker(csv, tmp_path):
    setup = make_setup(csv, tmp_path, validation_samples=0, num_validation_videos=2)
    setup.validation.run(10, setup.model)
    (name, videos, fps, step), *more = setup.shown
    assert (name, fps, step, more) == ("validation/videos", 8, 10, [])
    files = sorted((tmp_path / "validation/step-10").iterdir())
    assert [path.name for path in files] == ["0-row0.mp4", "1-row1.mp4"]
    for path, video in zip(files, videos, strict=True):
        assert video.shape == (FRAMES, HEIGHT + 14, 4 * WIDTH, 3)
        assert np.array_equal(open_video(path).read(0, FRAMES), video)

    grid = comparison_video(setup.models, setup.clips, setup.clips.keys[0], setup.validation._settings)
    sample, encoders = setup.clips.sample(setup.clips.keys[0]), setup.clips._encoders
    setup.model.eval()
    pipe = VideoPainterPipeline(
        encoders.tokenizer,
        encoders.text_encoder,
        encoders.vae,
        setup.model.transformer,
        make_scheduler(),
        setup.model.branch,
    )
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        sample.caption,
        sample.frames,
        sample.masks,
        sample.frames[0],
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=2,
        output_type="np",
    ).frames[0]
    assert np.array_equal(grid[:, 14:, 3 * WIDTH :], expected)
    assert np.array_equal(grid[:, 14:, :WIDTH], sample.frames)
    assert abs(videos[0].astype(float) - grid).mean() < 8  # the file is lossy


def test_an_id_adapter_resamples_as_it_is_trained(csv, tmp_path):
    description = IDAdapter("compact", rank=2, alpha=4)
    model = make_model()
    torch.manual_seed(5)
    model.transformer.add_adapter(LoraConfig(**description.lora_config()), adapter_name=ADAPTER_NAME)
    model.id_form = "compact"
    freeze_all_but_lora(model)
    setup = make_setup(csv, tmp_path, model=model, id_adapter=description)
    metrics = setup.validation.run(10, model)
    assert set(metrics) >= LOSSES
    assert setup.told == []
    (_, (video,), _, _), key = setup.shown[0], setup.clips.keys[0]
    plain = replace(setup.models, id_adapter=None)
    settings = setup.validation._settings
    with_adapter = comparison_video(setup.models, setup.clips, key, settings)
    assert not np.array_equal(with_adapter, comparison_video(plain, setup.clips, key, settings))
    assert video.shape == with_adapter.shape


def test_half_precision_backbone_with_a_float_branch(csv, tmp_path):
    """As on GPUs: frozen weights in bfloat16, trained ones in float32, autocast between them."""
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    model = make_model()
    model.transformer.to(torch.bfloat16)
    setup = make_setup(csv, tmp_path, model=model, accelerator=accelerator)
    setup.clips._encoders.vae.to(torch.bfloat16)
    metrics = setup.validation.run(10, model)
    AcceleratorState._reset_state(True)
    assert setup.told == []
    assert set(metrics) >= LOSSES
    assert len(setup.shown) == 1
    assert model.transformer.dtype == torch.bfloat16 and model.branch.dtype == torch.float32


# ---- a training from a latent cache


@pytest.fixture(scope="module")
def cache(csv, tmp_path_factory) -> LatentCache:
    """Of the validation set's first two clips, by the tiny checkpoint's encoders."""
    rows = csv.read_text().splitlines()
    two = csv.with_name("two.csv")
    two.write_text("\n".join(rows[:3]) + "\n")
    folder = tmp_path_factory.mktemp("cache") / "val"
    options = CacheOptions(
        latent_cache=str(folder),
        pretrained_model_name_or_path=str(TINY),
        variants=1,
        device="cpu",
        dataloader_num_workers=0,
        enable_slicing=True,
        quiet=True,
    )
    assert cache_latents(options, val_options(two).set_options(training_options(two))) == 0
    return LatentCache(folder)


def test_a_cache_of_the_clips_gives_the_same_loss(csv, tmp_path, cache):
    tokenizer, text_encoder = frozen_text_encoder(TINY, torch.float32)
    live = Encoders(vae=frozen_vae(TINY, torch.float32, slicing=True), tokenizer=tokenizer, text_encoder=text_encoder)
    model = make_model(text_embed_dim=text_encoder.config.d_model, max_text_seq_length=TINY_TOKENS)
    common = {"model": model, "text_length": TINY_TOKENS, "validation_samples": 2}
    cached = make_setup(csv, tmp_path / "cached", encoders=None, cache=cache, **common)
    fly = make_setup(csv, tmp_path / "fly", encoders=live, num_validation_videos=0, **common)
    found, expected = cached.validation.run(10, model), fly.validation.run(10, model)
    assert {name: found[name] for name in LOSSES} == {name: expected[name] for name in LOSSES}
    assert len(cached.told) == 1 and "--validation_load_models" in cached.told[0]

    both = make_setup(csv, tmp_path / "both", encoders=lambda text: live, cache=cache, **common)
    assert both.validation.run(10, model)["validation/loss"] == found["validation/loss"]
    assert len(both.shown) == 1 and both.told == []


def test_only_cached_clips_are_measured(csv, tmp_path, cache):
    assert [key.row for key in make_setup(csv, tmp_path, encoders=None, cache=cache).clips.keys] == [0, 1]
    cache.rows, rows = [7], cache.rows
    with pytest.raises(InputError, match=r"expected clips of .*val\.csv, got none"):
        make_setup(csv, tmp_path, encoders=None, cache=cache)
    cache.rows = rows


def test_without_encoders_it_says_once_what_is_left_out(csv, tmp_path):
    setup = make_setup(csv, tmp_path, encoders=None)
    for step in (10, 20):
        assert set(setup.validation.run(step, setup.model)) == {"validation/seconds"}
    assert len(setup.told) == 2
    assert "validation loss is left out" in setup.told[0] and "--val_latent_cache" in setup.told[0]
    assert "validation videos are left out" in setup.told[1] and "--validation_load_models" in setup.told[1]
    assert not (tmp_path / "validation").exists()


def test_encoders_are_loaded_when_needed_and_dropped(csv, tmp_path):
    loads, left = [], []

    def load(text):
        loads.append(text)
        encoders = make_encoders()
        left.extend([weakref.ref(encoders.vae), weakref.ref(encoders.text_encoder)])
        return encoders if text else Encoders(vae=encoders.vae)

    setup = make_setup(csv, tmp_path, encoders=load, validation_batch_size=3)
    live = make_setup(csv, tmp_path / "live", validation_batch_size=3)
    first, again = (setup.validation.run(step, setup.model) for step in (10, 20))
    expected = live.validation.run(10, live.model)
    assert {first[name] for name in LOSSES} == {again[name] for name in LOSSES} == {expected[name] for name in LOSSES}
    assert np.array_equal(setup.shown[0][1][0], live.shown[0][1][0])
    # First text, pixels for the loss, then a VAE for each video: the text encoder comes once.
    assert loads == [True, False, False, False]
    assert [reference() for reference in left] == [None] * 8


# ---- what goes wrong


def test_a_failure_is_logged_told_once_and_survived(csv, tmp_path):
    setup = make_setup(csv, tmp_path, num_validation_videos=2)
    setup.clips._encoders.vae.decoder.register_forward_hook(failing)
    first = setup.validation.run(10, setup.model)
    again = setup.validation.run(20, setup.model)
    assert set(first) == set(again) == LOSSES | {"validation/seconds"}  # encoding and the loss went well
    assert setup.shown == []
    assert len(setup.told) == 2  # each of two videos, once
    assert setup.told[0].startswith(
        "warning: validation video 0 failed: OutOfMemoryError: no memory left, not a byte ("
    )
    assert all(mode for mode in (setup.model.training, setup.model.branch.training))
    log = (tmp_path / "validation/errors.log").read_text()
    assert log.count("Traceback") == 2
    assert log.count("validation video 1 failed: OutOfMemoryError") == 2
    assert "step 10: " in log and "step 20: " in log


def test_one_lost_clip_costs_one_video(csv, tmp_path):
    setup = make_setup(csv, tmp_path, num_validation_videos=2)
    pixels = setup.clips.sample
    setup.clips.sample = lambda key: pixels(key) if key.row else failing()
    setup.clips.batch(setup.clips.keys[1:])
    setup.validation.run(10, setup.model)
    assert [video.shape[0] for video in setup.shown[0][1]] == [FRAMES]
    assert "validation loss failed" in setup.told[0] and "validation video 0 failed" in setup.told[1]
    assert len(setup.told) == 2


def test_ctrl_c_is_not_held_back(setup):
    def interrupt(*_):
        raise KeyboardInterrupt

    handle = setup.model.branch.register_forward_hook(interrupt)
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        setup.validation.run(10, setup.model)
    handle.remove()
    assert setup.model.training
    assert torch.equal(torch.get_rng_state(), state)


# ---- several processes


def one_of_two(rank, port):
    """The accelerator of one of two processes."""
    import os

    torch.set_num_threads(1)
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in world.items()})
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state(*([True] if state is AcceleratorState else []))
    return Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")])


def run_process(rank, port, csv, folder, queue):
    """One of two processes; on the second everything that decodes fails at step 20, its loss at step 30."""
    accelerator = one_of_two(rank, port)
    setup = make_setup(csv, folder, accelerator=accelerator, num_validation_videos=2)
    model, results = accelerator.prepare(setup.model), []
    for step in (10, 20, 30):
        handles = []
        if rank == 1 and step >= 20:
            handles.append(setup.clips._encoders.vae.decoder.register_forward_hook(failing))
        if rank == 1 and step == 30:
            handles.append(setup.model.branch.register_forward_hook(failing))
        metrics = setup.validation.run(step, model)
        results.append({name: value for name, value in metrics.items() if name in LOSSES})
        for handle in handles:
            handle.remove()
    queue.put((rank, accelerator.num_processes, results, [len(videos) for _, videos, _, _ in setup.shown], setup.told))
    torch.distributed.destroy_process_group()


def two_processes(function, csv, folder):
    """What two processes put into the queue that is their last argument, in their order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = multiprocessing.get_context("forkserver").Queue()
    processes = [clean_process(function, rank, port, csv, folder, queue) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        found = sorted(queue.get(timeout=120) for _ in processes)
        for process in processes:
            process.join(timeout=60)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    return found


@pytest.mark.slow
def test_two_processes_share_the_work_and_survive_each_other(csv, tmp_path, setup):
    alone = setup.validation.run(10, setup.model)  # one video here, two there
    folder = tmp_path / "two"
    found = two_processes(run_process, csv, folder)
    expected = {name: alone[name] for name in LOSSES}
    for rank, count, results, shown, told in found:
        assert count == 2
        assert results == [expected, expected, {}]
        assert shown == ([2, 1, 1] if rank == 0 else [])
        assert len(told) == (1 if rank == 0 else 2)
    assert "1 other process" in found[0][4][0]
    assert "validation video 1 failed" in found[1][4][0] and "on process 1" in found[1][4][0]
    videos = {
        path.name: sorted(file.name for file in path.iterdir()) for path in (folder / "validation").glob("step-*")
    }
    assert videos == {"step-10": ["0-row0.mp4", "1-row1.mp4"], "step-20": ["0-row0.mp4"], "step-30": ["0-row0.mp4"]}


def run_sharded(rank, port, csv, folder, queue):
    """Weights are cut up. On the second process reading fails at step 10, a pass of the loss at step 30."""
    from accelerate.utils import DistributedType
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from videopainter.training.validation import in_step

    in_step.TELLING_PATIENCE = timedelta(seconds=10)
    accelerator = one_of_two(rank, port)
    for state in (AcceleratorState, PartialState):  # accelerate refuses it on a CPU
        state._shared_state["distributed_type"] = DistributedType.FSDP
    setup = make_setup(csv, folder, accelerator=accelerator)
    mesh = init_device_mesh("cpu", (2,))
    for block in [*setup.model.transformer.transformer_blocks, *setup.model.branch.transformer_blocks]:
        fully_shard(block, mesh=mesh)
    model, results, read = fully_shard(setup.model, mesh=mesh), [], setup.clips.sample
    for step in (10, 20, 30):
        if rank == 1:
            setup.clips.sample = failing if step == 10 else read
        if rank == 1 and step == 30:
            setup.model.branch.branch_blocks[0].register_forward_hook(failing)
        try:
            metrics = setup.validation.run(step, model)
            results.append({name: value for name, value in metrics.items() if name in LOSSES})
        except TrainingFailed as error:
            results.append(str(error))
    queue.put((rank, results, setup.told))


@pytest.mark.slow
def test_sharded_processes_learn_of_each_others_failures(csv, tmp_path, setup):
    alone = setup.validation.run(10, setup.model)
    folder = tmp_path / "two"
    for rank, (first, second, third), told in two_processes(run_sharded, csv, folder):
        assert first == {}  # it was left out on both: nobody waited
        assert second == pytest.approx({name: alone[name] for name in LOSSES}, rel=1e-5)
        assert "no longer in step" in third and "--resume_from_checkpoint latest" in third and "\n" not in third
        assert ("no memory left" in third) == (rank == 1)
        assert any("failed on process 1" in line for line in told) == (rank == 0)
    assert (folder / "validation/step-20/0-row0.mp4").is_file()
    assert "no memory left" in (folder / "validation/errors.log").read_text()
