"""Training in half precision: which weights have which dtype, and what is computed in float32 all the same."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import adapter_flags
from safetensors.torch import load_file

from videopainter.cli.train import read_options, train_branch, train_id_adapter
from videopainter.errors import InputError
from videopainter.models.checkpoint_files import ADAPTER_FILE
from videopainter.training.engine import complete_deepspeed, frozen_dtype
from videopainter.training.tasks import AdapterTask, BranchTask
from videopainter.training.tracking.trackers import read_metrics


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps one precision per process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize(
    ("flags_given", "expected"),
    [
        ([], torch.float32),
        (["--mixed_precision=bf16"], torch.bfloat16),
        (["--mixed_precision=fp16"], torch.float16),
        (["--mixed_precision=bf16", "--frozen_dtype=float32"], torch.float32),
        (["--mixed_precision=bf16", "--frozen_dtype=bfloat16"], torch.bfloat16),
    ],
)
def test_frozen_weights_follow_the_mixed_precision(flags_given, expected):
    assert frozen_dtype(read_options("branch", ["--meta_file_path=any.csv", *flags_given]).model) == expected


@pytest.mark.parametrize(
    ("offload", "flags_given", "told"),
    [
        ("cpu", ["--mixed_precision=bf16", "--gradient_accumulation_steps=2"], True),
        ("cpu", ["--mixed_precision=bf16"], False),
        ("none", ["--mixed_precision=bf16", "--gradient_accumulation_steps=2"], False),
        ("cpu", ["--gradient_accumulation_steps=2"], False),  # all is float32 then
    ],
)
def test_sums_in_half_precision_are_told(offload, flags_given, told, caplog):
    """Of an offloaded optimizer: DeepSpeed's own buffers, which no setting of it changes."""
    config = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": offload}}}
    options = read_options("branch", ["--meta_file_path=any.csv", "--train_batch_size=3", *flags_given])
    complete_deepspeed(config, options)
    assert ["half precision" in line for line in caplog.messages] == [True] * told
    assert config["train_micro_batch_size_per_gpu"] == 3
    assert config["communication_data_type"] == config["data_types"]["grad_accum_dtype"] == "fp32"


def test_deepspeed_refuses_frozen_weights_in_float32():
    options = read_options("branch", ["--meta_file_path=any.csv", "--mixed_precision=bf16", "--frozen_dtype=float32"])
    with pytest.raises(InputError, match="frozen_dtype: DeepSpeed holds all weights"):
        complete_deepspeed({}, options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen_dtype": "bfloat16"}, "frozen_dtype: expected auto or float32 with mixed_precision no, got bfloat16"),
        ({"frozen_dtype": "float16", "mixed_precision": "bf16"}, "expected auto or float32 or bfloat16"),
        ({"mixed_precision": "fp16"}, "mixed_precision: expected no or bf16 on a CPU, got fp16"),
    ],
)
def test_precisions_that_do_not_fit_end_before_models_load(flags, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train_branch(flags(tmp_path, **changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["branch", "id_adapter"])
def test_a_cpu_trains_with_a_gpus_dtypes(flags, checkpoint, tmp_path, monkeypatch, kind):
    """One process in bf16: frozen weights in bfloat16, trained ones in float32, on disk, too; validation runs."""
    task, changes = (BranchTask, {}) if kind == "branch" else (AdapterTask, adapter_flags(checkpoint))
    built, build = [], task.build
    monkeypatch.setattr(task, "build", lambda self, *args: built.append(build(self, *args)) or built[-1])
    train = train_branch if kind == "branch" else train_id_adapter
    common = {
        "validating_steps": 2,
        "num_validation_videos": 1,
        "num_inference_steps": 1,
        "validation_samples": 2,
        "max_train_steps": 2,
    } | changes
    common["val_meta_file_path"] = read_options("branch", flags(tmp_path)).data.meta_file_path
    losses = {}
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(True)
        assert train(flags(tmp_path / precision, mixed_precision=precision, **common)) == 0
        rows = read_metrics(tmp_path / precision / "metrics.jsonl")
        losses[precision] = [row[name] for row in rows for name in ("loss", "validation/loss") if name in row]
        assert (tmp_path / precision / "validation/step-2").is_dir()
        assert not (tmp_path / precision / "validation/errors.log").exists()
    assert len(losses["bf16"]) == 3
    assert losses["bf16"] == pytest.approx(losses["no"], rel=2e-2)
    frozen = {p.dtype for name, p in built[1].named_parameters() if not p.requires_grad and "transformer" in name}
    assert frozen == {torch.bfloat16}
    assert {p.dtype for p in built[1].parameters() if p.requires_grad} == {torch.float32}
    name = "branch/diffusion_pytorch_model.safetensors" if kind == "branch" else ADAPTER_FILE
    assert {t.dtype for t in load_file(tmp_path / "bf16/checkpoint-2" / name).values()} == {torch.float32}
