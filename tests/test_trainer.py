"""The trainer end to end, on random small models and rendered clips: what it saves, and that it goes on exactly."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TEXT_DIM, adapter_flags, clean_process, make_branch, make_scheduler, make_transformer
from safetensors.torch import load_file

from videopainter import CogvideoXBranchModel, load_pipeline
from videopainter.cli.train import train_branch, train_id_adapter
from videopainter.data.training.sample_order import SampleKey
from videopainter.errors import InputError
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.checkpoint_files import ADAPTER_FILE
from videopainter.models.id_adapter import IDAdapter
from videopainter.models.id_resample import HoleTokens
from videopainter.training.checkpoints import CheckpointFolder, Position, damage_of
from videopainter.training.ema import EMAOptions, TrainedAverage
from videopainter.training.encoding import EncodedBatch
from videopainter.training.model import InpaintingModel, freeze_all_but_branch
from videopainter.training.objective import Objective
from videopainter.training.options import AdapterOptions, ConditionOptions
from videopainter.training.tracking.trackers import read_metrics
from videopainter.training.trainer import Trainer

# SIGKILLs of test_killed_and_resumed, one in six steps or so; 10 for the whole demonstration of 60 steps.
KILLS = int(os.environ.get("VIDEOPAINTER_KILLS", "3"))


def branch_weights(output: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(output / f"checkpoint-{step}" / "branch" / "diffusion_pytorch_model.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl") if "loss" in line]


# -- what is minimised


def random_batch(seed: int, frames: int = 3) -> EncodedBatch:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mask = (torch.rand(2, frames, 1, 4, 6, generator=generator) < 0.4).float()
    keys = [SampleKey(seed, row, False) for row in range(2)]
    return EncodedBatch(
        keys, draw(2, frames, 16, 4, 6), draw(2, frames, 16, 4, 6), mask, draw(2, 1, 16, 4, 6), draw(2, 12, TEXT_DIM)
    )


# Seeded, on a CPU in float32: a change here is a change of what is trained.
PINNED = [1.986711, 2.003507, 1.958064, 1.972911, 1.935551, 1.946828, 1.920818, 1.928502, 1.910743, 1.914831]


def test_ten_pinned_steps():
    transformer = make_transformer()
    model = InpaintingModel(transformer, CogvideoXBranchModel.from_transformer(transformer), mask_add=True)
    freeze_all_but_branch(model)
    objective = Objective(backbone_of(transformer), make_scheduler(), ConditionOptions(noised_image_dropout=0.3))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, betas=(0.9, 0.95))
    seen = []
    for step in range(10):
        loss = objective.total(objective.training_losses(model, random_batch(step % 2), seed=7, step=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen == pytest.approx(PINNED, rel=1e-4)


def test_only_the_named_weights_are_trained():
    transformer = make_transformer()
    model = InpaintingModel(transformer, make_branch(transformer))
    freeze_all_but_branch(model)
    losses = Objective(backbone_of(transformer), make_scheduler(), ConditionOptions()).training_losses(
        model, random_batch(0), seed=1, step=0
    )
    (losses.full + losses.masked).backward()
    # DDP and DeepSpeed wait for the gradient of everything that asks for one.
    assert [name for name, p in model.trained_parameters().items() if p.grad is None] == []
    assert not any(name.startswith("transformer.") for name in model.trained_parameters())


def test_losses_of_a_perfect_prediction_are_zero():
    """With the true velocity as the model's answer both losses vanish; the masked one sees the hole alone."""
    scheduler, batch = make_scheduler(), random_batch(0)
    objective = Objective(backbone_of(make_transformer()), scheduler, ConditionOptions())
    noise, t = torch.randn_like(batch.latents), torch.tensor([400, 900])
    velocity = scheduler.get_velocity(batch.latents, noise, t)
    perfect = objective.loss(lambda *_: velocity, batch, noise, t)
    assert float(perfect.full) < 1e-6
    off_outside = velocity + (batch.mask == 0)
    wrong = objective.loss(lambda *_: off_outside, batch, noise, t)
    # An error of 1 in v is one of sqrt(1 - alpha_bar) in x: the weight 1 / (1 - alpha_bar) makes it 1 again.
    assert float(wrong.full) == pytest.approx(float((batch.mask == 0).float().mean()), rel=1e-4)
    assert float(wrong.masked) < 1e-6


def test_the_clip_before_changes_the_loss_only_where_it_is_asked_for():
    transformer = make_transformer()
    model = InpaintingModel(transformer, make_branch(transformer), id_form="exact")
    options, batch = ConditionOptions(noised_image_dropout=0.0), random_batch(0, frames=4)

    def full(**adapter) -> float:
        objective = Objective(backbone_of(transformer), make_scheduler(), options, AdapterOptions(**adapter))
        return float(objective.training_losses(model, batch, seed=1, step=0).full)

    assert full(prev_clip_prob=1.0, prev_clip_weight=1.0) != full(prev_clip_prob=1.0, prev_clip_weight=0.5)
    assert full(prev_clip_prob=0.0, prev_clip_weight=1.0) == full(prev_clip_prob=0.0, prev_clip_weight=0.5)


def test_all_processes_learn_from_previous_clips_at_the_same_steps():
    """Whatever rows a process has: it would wait for the others' passes of the model, or they for its."""
    transformer = make_transformer()
    chosen = AdapterOptions(prev_clip_prob=0.3)
    objective = Objective(backbone_of(transformer), make_scheduler(), ConditionOptions(), chosen)
    passes: list[bool] = []

    def model(noisy, *others, remember=False):
        passes.append(remember)
        return noisy

    def steps(rows: int) -> list[bool]:
        found = []
        for step in range(40):
            passes.clear()
            objective.training_losses(model, random_batch(rows, frames=4), seed=5, step=step)
            found.append(passes == [True, False])
            assert passes in ([True, False], [False])
        return found

    assert steps(0) == steps(1)
    assert 4 <= sum(steps(0)) <= 20


# -- runs


def test_a_branch_is_trained_and_loads(flags, checkpoint, tmp_path):
    assert (
        train_branch(flags(tmp_path / "run", checkpoints_total_limit=1, enable_slicing=True, enable_tiling=True)) == 0
    )
    assert [path.name for path in CheckpointFolder(tmp_path / "run")] == ["checkpoint-4"]
    assert len(losses(tmp_path / "run")) == 4
    pipe = load_pipeline(checkpoint, inpainting_branch=tmp_path / "run/checkpoint-4/branch", dtype=torch.float32)
    assert float(pipe.branch.branch_blocks[0].weight.abs().max()) > 0  # it started at zero


def test_resumed_equals_uninterrupted(flags, tmp_path):
    changes = {"max_train_steps": 6, "use_ema": True, "gradient_accumulation_steps": 2, "mix_train_ratio": 0.3}
    assert train_branch(flags(tmp_path / "whole", **changes)) == 0
    # The schedule ends where the whole run's does: what stops the first part is a kill, here a copy of its checkpoint.
    part = tmp_path / "part"
    part.mkdir()
    shutil.copytree(tmp_path / "whole/checkpoint-2", part / "checkpoint-2")
    shutil.copy(tmp_path / "whole/metrics.jsonl", part)
    assert train_branch(flags(part, resume_from_checkpoint="latest", **changes)) == 0
    assert_same(branch_weights(tmp_path / "whole", 6), branch_weights(part, 6))
    assert losses(part) == losses(tmp_path / "whole")


def test_accumulation_is_a_larger_batch(flags, tmp_path):
    changes = {"enable_slicing": True, "max_grad_norm": 0.5}
    train_branch(flags(tmp_path / "large", **changes))
    train_branch(flags(tmp_path / "small", train_batch_size=1, gradient_accumulation_steps=2, **changes))
    assert losses(tmp_path / "small") == pytest.approx(losses(tmp_path / "large"), rel=1e-4)
    assert len(losses(tmp_path / "small")) == 4


def test_the_learning_rate_counts_the_clips_of_a_step(flags, tmp_path):
    common = {"max_train_steps": 1, "learning_rate": 1e-3, "lr_warmup_steps": 0, "gradient_accumulation_steps": 3}
    assert train_branch(flags(tmp_path, **common, scale_lr=True, train_batch_size=2)) == 0
    (line,) = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "lr" in line]
    assert line["lr"] == pytest.approx(6e-3)


def test_gradients_are_clipped(flags, tmp_path):
    """Below Adam's epsilon a gradient moves nothing, so a bound that is as small does not either."""
    common = {"max_train_steps": 1, "learning_rate": 1e-3, "lr_warmup_steps": 0, "adam_weight_decay": 0}
    weights = {}
    for name, changes in {"free": {}, "bound": {"max_grad_norm": 1e-14}, "still": {"learning_rate": 1e-12}}.items():
        assert train_branch(flags(tmp_path / name, **{**common, **changes})) == 0
        weights[name] = branch_weights(tmp_path / name, 1)["branch_blocks.0.weight"]
    assert float((weights["bound"] - weights["still"]).abs().max()) < 1e-6
    assert float((weights["free"] - weights["still"]).abs().max()) > 1e-4


def test_what_is_saved_is_the_average(flags, tmp_path):
    """Of the weights after each step, by the formula of `TrainedAverage`."""
    common = {"max_train_steps": 3, "learning_rate": 1e-3, "lr_warmup_steps": 0, "checkpointing_steps": 1}
    assert train_branch(flags(tmp_path / "plain", **common)) == 0
    assert train_branch(flags(tmp_path / "average", **common, use_ema=True)) == 0
    steps = [branch_weights(tmp_path / "plain", step) for step in (1, 2, 3)]
    averaged = branch_weights(tmp_path / "average", 3)
    for name, expected in steps[0].items():
        for share, weights in ((2 / 11, steps[1]), (3 / 12, steps[2])):
            expected = share * expected + (1 - share) * weights[name]
        torch.testing.assert_close(averaged[name], expected, rtol=0, atol=1e-6)
    moved = "transformer_blocks.0.ff.net.2.weight"
    assert float((averaged[moved] - steps[2][moved]).abs().max()) > 1e-4


def test_what_is_validated_is_the_average():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    average = TrainedAverage(layer.named_parameters(), EMAOptions())
    for _ in range(3):
        with torch.no_grad():
            layer.weight += torch.randn(2, 3)
        average.step()
    seen = []
    validation = SimpleNamespace(
        due=lambda step, epoch: True, run=lambda step, model: seen.append(model.weight.detach().clone()) or {}
    )
    trainer = SimpleNamespace(
        position=Position(3, 3),
        clips=[0],
        average=average,
        engine=SimpleNamespace(model=layer, drop_gathered=lambda: None),
    )
    meter, trackers = SimpleNamespace(pause=nullcontext), SimpleNamespace(log=lambda numbers, step: None)
    own = layer.weight.detach().clone()
    Trainer._validate(trainer, validation, meter, trackers)
    assert torch.equal(seen[0], average.state_dict()["average.weight"])
    assert torch.equal(layer.weight, own) and not torch.equal(seen[0], own)


def test_workers_do_not_change_a_training(flags, tmp_path):
    changes = {"mask_transform_prob": 1.0, "random_flip": 0.5, "video_reshape_mode": "random"}
    train_branch(flags(tmp_path / "none", **changes))
    train_branch(flags(tmp_path / "two", dataloader_num_workers=2, **changes))
    assert losses(tmp_path / "none") == losses(tmp_path / "two")


@pytest.mark.parametrize("form", ["exact", "compact"])
def test_an_adapter_is_trained_and_loads(flags, checkpoint, tmp_path, form):
    changes = adapter_flags(checkpoint) | {"id_resample_form": form, "prev_clip_prob": 0.5}
    assert train_id_adapter(flags(tmp_path, **changes)) == 0
    folder = tmp_path / "checkpoint-4"
    assert IDAdapter.read(folder) == IDAdapter(form, 4, 2.0, 0.0)
    weights = load_file(folder / ADAPTER_FILE)
    assert any(float(tensor.abs().max()) > 0 for name, tensor in weights.items() if "lora_B" in name)
    pipe = load_pipeline(checkpoint, inpainting_branch=checkpoint / "branch", id_adapter=folder, dtype=torch.float32)
    assert pipe.id_adapter.form == form


def test_resumed_adapter_equals_uninterrupted(flags, checkpoint, tmp_path):
    changes = adapter_flags(checkpoint) | {"prev_clip_prob": 0.5}
    train_id_adapter(flags(tmp_path / "whole", **changes))
    shutil.copytree(tmp_path / "whole/checkpoint-2", tmp_path / "part/checkpoint-2")
    train_id_adapter(flags(tmp_path / "part", resume_from_checkpoint="checkpoint-2", **changes))
    a, b = (load_file(tmp_path / run / "checkpoint-4" / ADAPTER_FILE) for run in ("whole", "part"))
    assert_same(a, b)


def run_until(argv: list[str]) -> None:
    train_branch(argv)


@pytest.mark.slow
def test_killed_and_resumed(flags, tmp_path):
    """SIGKILL at random moments, then the same command again: the same weights, bit for bit."""
    steps = 6 * KILLS
    changes = {"max_train_steps": steps, "checkpointing_steps": 5, "checkpoints_total_limit": 2, "max_num_frames": 5}
    changes |= {"lr_scheduler": "cosine_with_restarts", "resume_from_checkpoint": "latest"}
    train_branch(flags(tmp_path / "alone", **changes))
    rng, killed = random.Random(5), 0
    marks = sorted(rng.uniform(1, steps - 2) for _ in range(KILLS))
    output = tmp_path / "killed"
    for mark in marks:
        process = clean_process(run_until, flags(output, **changes))
        process.start()
        while process.is_alive() and last_step(output) < mark:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))  # anywhere: in a step, or while a checkpoint is written
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
    train_branch(flags(output, **changes))
    assert killed >= KILLS - 1
    assert_same(branch_weights(tmp_path / "alone", steps), branch_weights(output, steps))
    assert losses(output) == losses(tmp_path / "alone")
    # Nothing half-written is left, and the limit holds.
    assert len([path for path in output.iterdir() if path.name.startswith("checkpoint")]) == 2


def last_step(output: Path) -> int:
    try:
        lines = (output / "metrics.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, IndexError, ValueError):
        return 0


def test_unreadable_clips_are_listed_and_end_a_run_only_above_their_share(flags, clips, tmp_path):
    shutil.copytree(clips.parent, tmp_path / "clips")
    video = sorted((tmp_path / "clips").rglob("*.mp4"))[0]
    video.write_bytes(video.read_bytes()[:500])
    csv = tmp_path / "clips" / clips.name
    # Six clips, batches of two: every clip comes up within three steps.
    assert train_branch(flags(tmp_path / "run", meta_file_path=csv, max_unreadable_share=0.5)) == 0
    listed = (tmp_path / "run/unreadable_clips.csv").read_text().splitlines()
    assert len(listed) == 2 and video.name in listed[1]
    with pytest.raises(InputError, match="cannot be read"):
        train_branch(flags(tmp_path / "strict", meta_file_path=csv, max_unreadable_share=0.0, max_train_steps=40))


# -- checkpoints


def test_latest_passes_over_damaged_checkpoints(flags, tmp_path, caplog):
    output = tmp_path / "run"
    train_branch(flags(output))
    weights = output / "checkpoint-4/branch/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "bytes" in damage_of(output / "checkpoint-4")
    with caplog.at_level("WARNING", logger="videopainter"):
        train_branch(flags(output, resume_from_checkpoint="latest"))
    assert "checkpoint-4: passed over" in caplog.text
    assert damage_of(output / "checkpoint-4") is None  # trained again from step 2
    state = output / "checkpoint-4/state/training_state.pt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        train_branch(flags(output, resume_from_checkpoint="checkpoint-4"))


@pytest.mark.parametrize("name", ["manifest.json", "position.json", "state/training_state.pt"])
def test_damage_is_found(tmp_path, name):
    folder = CheckpointFolder(tmp_path)
    partial = folder.begin(3)
    (partial / "state").mkdir()
    (partial / "state/training_state.pt").write_bytes(b"x" * 100)
    assert list(folder) == []  # not whole yet
    done = folder.finish(3, {"step": 3, "samples": 6})
    assert damage_of(done) is None
    assert list(folder) == [done]
    (done / name).unlink()
    assert damage_of(done) is not None
    assert folder.find("latest", lambda _: None) is None


def test_the_limit_keeps_the_latest(tmp_path):
    folder = CheckpointFolder(tmp_path, limit=2)
    for step in (2, 10, 9):
        folder.begin(step)
        folder.finish(step, {"step": step, "samples": step})
    assert [path.name for path in folder] == ["checkpoint-10", "checkpoint-9"]
    assert not any(".deleted" in path.name or ".partial" in path.name for path in tmp_path.iterdir())


# -- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 40}, "multiples of 16"),
        ({"max_num_frames": 8}, "4k\\+1"),
        ({"pretrained_model_name_or_path": "nowhere"}, "nowhere"),
        ({"cogvideox_branch_name_or_path": "nowhere"}, "nowhere"),
        ({"meta_file_path": "nowhere.csv"}, "nowhere.csv"),
        ({"resume_from_checkpoint": "checkpoint-9"}, "checkpoint-9"),
        ({"latent_cache": "nowhere"}, "nowhere"),
        ({"hole_fill": 2}, "hole_fill"),
        ({"train_batch_size": 0}, "train_batch_size"),
        ({"optimizer": "sgd"}, "sgd"),
        ({"min_caption_length": 5000}, "5000|no row|caption"),
    ],
)
def test_mistakes_end_before_models_load(flags, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_branch(flags(tmp_path, **changes))
    assert not list(tmp_path.iterdir())


def test_a_misspelt_flag_is_told_first(tmp_path):
    with pytest.raises(InputError, match="did you mean --meta_file_path"):
        train_branch(["--meta_file_pat=clips.csv", f"--output_dir={tmp_path}"])


def test_an_adapter_needs_a_branch(flags, tmp_path):
    with pytest.raises(InputError, match="cogvideox_branch_name_or_path"):
        train_id_adapter(flags(tmp_path))


def test_an_adapter_is_trained_as_it_runs(flags, checkpoint, tmp_path):
    with pytest.raises(InputError, match="id_pool_resample_learnable"):
        train_id_adapter(flags(tmp_path, **adapter_flags(checkpoint) | {"id_pool_resample_learnable": False}))


def test_flags_of_an_adapter_are_not_those_of_a_branch(flags, tmp_path):
    with pytest.raises(InputError, match="unknown flag '--rank"):
        train_branch(flags(tmp_path, rank=4))


def test_a_new_training_does_not_write_over_an_old_one(flags, tmp_path):
    train_branch(flags(tmp_path, max_train_steps=1))
    with pytest.raises(InputError, match="a folder without a training"):
        train_branch(flags(tmp_path, max_train_steps=1))


@pytest.fixture
def any_rate(monkeypatch):
    """Learning rates that flags refuse: one step with them is sure to overflow."""
    monkeypatch.setattr("videopainter.flags.Range.holds", lambda self, value: True)


@pytest.mark.usefixtures("any_rate")
def test_a_loss_that_is_no_number_ends_the_run(flags, tmp_path, capsys):
    assert train_branch(flags(tmp_path, learning_rate=1e30, lr_warmup_steps=0, max_grad_norm=0)) == 1
    assert "the loss is" in capsys.readouterr().err


@pytest.mark.usefixtures("any_rate")
def test_weights_that_are_no_numbers_are_not_saved(flags, tmp_path):
    """Also where no loss is reported before the checkpoint is due."""
    changes = {"learning_rate": 1e30, "lr_warmup_steps": 0, "max_grad_norm": 0, "logging_steps": 100}
    assert train_branch(flags(tmp_path, checkpointing_steps=3, **changes)) == 1
    assert list(CheckpointFolder(tmp_path)) == []


def test_room_for_all_tokens_changes_no_loss():
    """The exact form is given room for every token, so that no count has to be fetched from the device."""
    transformer = make_transformer()
    batch, objective = random_batch(0), Objective(backbone_of(transformer), make_scheduler(), ConditionOptions())
    found = []
    for form in ("exact", "counted"):
        model = InpaintingModel(transformer, make_branch(transformer), id_form="exact")
        with pytest.MonkeyPatch.context() as patch:
            if form == "counted":
                patch.setattr(HoleTokens, "from_mask", classmethod(lambda cls, mask, longest=None: counted(mask)))
            found.append(float(objective.training_losses(model, batch, seed=1, step=0).full))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


counted = HoleTokens.from_mask
