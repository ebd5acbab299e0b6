"""The training scripts people launch: their commands, the accelerate configs, the doors, and two processes at work."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from conftest import TINY_TOKENS
from shells import Command, command_of

from videopainter import CogvideoXBranchModel
from videopainter.cli.running import run_door
from videopainter.cli.train import read_options, train_branch
from videopainter.training.tracking.trackers import read_metrics

REPO = Path(__file__).resolve().parents[1]
TRAIN = REPO / "train"
TINY = REPO / "ckpt/tiny"
CLIPS = Path(os.environ.get("VIDEOPAINTER_CLIPS", REPO.parent / "shared/clips")) / "vpbench"

# What the public release's README passes, beside paths.
BOTH = """
    --dataloader_num_workers 1 --num_validation_videos 1 --validation_epochs 1 --seed 42 --mixed_precision bf16
    --height 480 --width 720 --fps 8 --max_num_frames 49 --video_reshape_mode resize --skip_frames_start 0
    --skip_frames_end 0 --max_text_seq_length 226 --branch_layer_num 2 --train_batch_size 1 --num_train_epochs 10
    --gradient_accumulation_steps 1 --lr_scheduler cosine_with_restarts --lr_num_cycles 1 --enable_slicing
    --enable_tiling --noised_image_dropout 0.05 --gradient_checkpointing --optimizer AdamW --adam_beta1 0.9
    --adam_beta2 0.95 --max_grad_norm 1.0 --allow_tf32 --report_to wandb --tracker_name pexels_videovo-inpainting
    --inpainting_loss_weight 1.0 --mix_train_ratio 0 --first_frame_gt --mask_add --mask_transform_prob 0.3
    --p_brush 0.4 --p_rect 0.1 --p_ellipse 0.1 --p_circle 0.1 --p_random_brush 0.3
    --pretrained_model_name_or_path ../ckpt/CogVideoX-5b-I2V --instance_data_root ../data/videovo/raw_video
    --meta_file_path ../data/pexels_videovo_train_dataset.csv
    --val_meta_file_path ../data/pexels_videovo_val_dataset.csv
"""
RELEASE = {
    "VideoPainter.sh": BOTH
    + """--checkpointing_steps 1024 --validating_steps 256 --learning_rate 1e-5 --lr_warmup_steps 1000
    --runs_name VideoPainter --output_dir ./pexels_videovo-inpainting/VideoPainter""",
    "VideoPainterID.sh": BOTH
    + """--checkpointing_steps 256 --validating_steps 128 --learning_rate 5e-5 --lr_warmup_steps 200
    --rank 256 --lora_alpha 128 --id_pool_resample_learnable --runs_name VideoPainterID
    --cogvideox_branch_name_or_path ../ckpt/VideoPainter/checkpoints/branch
    --output_dir ./pexels_videovo-inpainting/VideoPainterID""",
}
DOORS = {
    "VideoPainter.sh": ("train_cogvideox_inpainting_i2v_video.py", "accelerate_config_machine_single_ds.yaml"),
    "VideoPainterID.sh": (
        "train_cogvideox_inpainting_i2v_video_resample.py",
        "accelerate_config_machine_single_ds_wo_cpu.yaml",
    ),
}
# Set for the shell that runs the tests, these would change what the scripts do.
OURS = shlex.split(
    "MODEL_PATH BRANCH_MODEL_PATH CACHE_PATH DATASET_PATH META_FILE_PATH VAL_META_FILE_PATH PROJECT_NAME RUNS_NAME "
    "OUTPUT_PATH REPORT_TO CONFIG_FILE NUM_PROCESSES NUM_MACHINES MACHINE_RANK MAIN_PROCESS_IP MAIN_PROCESS_PORT CPU "
    "MIXED_PRECISION CUDA_VISIBLE_DEVICES"
)


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return kept | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"} | changes


@pytest.fixture
def command(tmp_path):
    """What a script has `cli.launch` start."""

    def run(script: str, *arguments: str, **changes: str) -> Command:
        return command_of(TRAIN / script, tmp_path, *arguments, **environment(**changes))

    return run


LAUNCH = ["-P", "-m", "videopainter.cli.launch"]


# ---- the scripts


@pytest.mark.parametrize("script", list(RELEASE))
def test_a_script_passes_what_the_release_documents(script, command):
    door, config = DOORS[script]
    started = command(script, CUDA_VISIBLE_DEVICES="0,1,2,3,4,5,6,7")
    assert (started.folder, started.door) == (TRAIN, door)
    launch = shlex.split(f"accelerate --config_file {config} --num_processes 8 --num_machines 1 --machine_rank 0")
    assert started.launcher == LAUNCH + launch
    kind = "id_adapter" if "ID" in script else "branch"
    ours, released = (read_options(kind, flags).flat() for flags in (started.flags, RELEASE[script].split()))
    cache = ours.pop("cache_dir")
    assert cache is not None and cache.endswith(".cache")
    assert released.pop("cache_dir") is None
    # Left to the backbone, which is CogVideoX's 226 and Wan's 512.
    assert (ours.pop("max_text_seq_length"), released.pop("max_text_seq_length")) == (None, 226)
    assert ours == released


def test_variables_and_flags_change_the_command(command):
    started = command(
        "VideoPainter.sh",
        "--height",
        "64",
        "--gradient_checkpointing",
        "false",
        MODEL_PATH="/my models/a",
        REPORT_TO="none",
        CONFIG_FILE="other.yaml",
        NUM_PROCESSES="32",
        NUM_MACHINES="4",
        MACHINE_RANK="2",
        MAIN_PROCESS_IP="10.0.0.1",
        MAIN_PROCESS_PORT="4000",
        CUDA_VISIBLE_DEVICES="0",
    )
    assert " ".join(started.launcher[3:]) == (
        "accelerate --config_file other.yaml --num_processes 32 --num_machines 4 --machine_rank 2 "
        "--main_process_ip 10.0.0.1 --main_process_port 4000"
    )
    options = read_options("branch", started.flags)
    assert options.model.pretrained_model_name_or_path == "/my models/a"
    assert (options.data.height, options.model.gradient_checkpointing) == (64, False)
    assert options.tracker.report_to == "none"


@pytest.mark.parametrize("gpus", [{"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "0", "CPU": "1"}])
def test_without_gpus_torchrun_starts_the_processes(gpus, command):
    started = command("VideoPainter.sh", NUM_PROCESSES="2", **gpus)
    assert started.launcher == [*LAUNCH, "torchrun", "--standalone", "--nproc_per_node", "2"]
    assert read_options("branch", started.flags).model.mixed_precision == "no"
    started = command("VideoPainter.sh", CONFIG_FILE="accelerate_config_cpu.yaml", **gpus)
    assert started.launcher[:4] == [*LAUNCH, "accelerate"]


# ---- the configs

CONFIGS = sorted(TRAIN.glob("accelerate_config_*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem.removeprefix("accelerate_config_"))
def test_a_config_is_one_that_accelerate_knows(path):
    config = load_config_from_file(str(path))  # unknown keys are errors
    deepspeed, fsdp = config.deepspeed_config, config.fsdp_config
    assert (config.distributed_type.value == "DEEPSPEED") == bool(deepspeed)
    assert (config.distributed_type.value == "FSDP") == bool(fsdp)
    if deepspeed:
        # The trainer's flags decide; "auto" would end up in accelerate's int().
        assert not {"gradient_accumulation_steps", "gradient_clipping"} & set(deepspeed)
        assert (deepspeed["offload_optimizer_device"] == "cpu") == path.stem.endswith("single_ds")
    if fsdp:
        # The blocks have a class for each family: the trained module tells which.
        assert fsdp.get("fsdp_transformer_layer_cls_to_wrap") is None


def test_every_documented_way_has_its_config():
    kinds = {path.stem.removeprefix("accelerate_config_") for path in CONFIGS}
    assert kinds >= {"machine_single_ds", "machine_single_ds_wo_cpu", "one_gpu", "fsdp2", "multi_node", "cpu"}


# ---- the doors


def test_a_mistake_is_one_line_before_anything_loads(tmp_path):
    command = [sys.executable, str(TRAIN / DOORS["VideoPainter.sh"][0]), "--meta_file_path", "a.csv", "--hieght", "64"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["error: unknown flag '--hieght', did you mean --height"]


@pytest.mark.parametrize("wanted", ["latest", "checkpoint-7"])
def test_a_deepspeed_checkpoint_wants_as_many_processes(wanted, tmp_path, monkeypatch, capsys):
    state = tmp_path / "checkpoint-7/state/sharded/pytorch_model"
    state.mkdir(parents=True)
    for rank in range(2):
        (state / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    words = ["--pretrained_model_name_or_path", str(TINY / "CogVideoX-5b-I2V"), "--meta_file_path", "a.csv"]
    words += ["--output_dir", str(tmp_path), "--resume_from_checkpoint", wanted]

    def errors(processes: str) -> list[str]:
        monkeypatch.setenv("WORLD_SIZE", processes)
        with pytest.raises(SystemExit) as left:
            run_door(lambda: train_branch(words))
        assert left.value.code == 2
        return capsys.readouterr().err.splitlines()

    (line,) = errors("3")
    assert line.startswith("error: resume_from_checkpoint: expected 2 processes (NUM_PROCESSES=2)")
    assert "got 3, in " in line and line.endswith("checkpoint-7")
    assert "resume_from_checkpoint" not in errors("2")[-1]  # the next mistake: there is no a.csv


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no benchmark clips (VIDEOPAINTER_CLIPS)")
def test_two_processes_train_the_branch(command, tmp_path):
    """What the script starts, on the tiny checkpoint: DDP on gloo. `make test-launch` runs the scripts themselves."""
    variables = dict(
        CPU="1",
        NUM_PROCESSES="2",
        REPORT_TO="none",
        MODEL_PATH=str(TINY / "CogVideoX-5b-I2V"),
        DATASET_PATH=str(CLIPS / "videovo/raw_video"),
        META_FILE_PATH=str(CLIPS / "pexels_videovo_train_dataset.csv"),
        VAL_META_FILE_PATH=str(CLIPS / "pexels_videovo_val_dataset.csv"),
        OUTPUT_PATH=str(tmp_path / "run"),
    )
    small = f"--height 32 --width 48 --max_num_frames 5 --max_text_seq_length {TINY_TOKENS} --dataloader_num_workers 0"
    steps = "--max_train_steps 3 --validating_steps 0 --logging_steps 1 --lr_warmup_steps 1 --learning_rate 1e-3"
    command("VideoPainter.sh", *small.split(), *steps.split(), **variables).run(2, tmp_path)
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["loss"] > 0 and row["grad_norm"] > 0 for row in rows)
    branch = CogvideoXBranchModel.from_pretrained(tmp_path / "run/checkpoint-3/branch")
    assert max(float(layer.weight.abs().max()) for layer in branch.branch_blocks) > 0  # they start at zero
    assert all(torch.isfinite(p).all() for p in branch.parameters())
