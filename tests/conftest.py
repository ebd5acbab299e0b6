"""Small real models with random weights, shared by the tests."""

import functools
import gc
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from caption_server import KEY, serving
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from transformers import AutoTokenizer, T5Config, T5EncoderModel

from videopainter import CogvideoXBranchModel, VideoPainterPipeline, VideoPainterTransformer3DModel
from videopainter.captions.backends import make_backend
from videopainter.captions.captioner import Captioner
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.data.synthetic.writing import write_set

TEXT_DIM, TEXT_LENGTH = 24, 12
TINY = Path(__file__).parents[1] / "ckpt" / "tiny" / "CogVideoX-5b-I2V"
TINY_TOKENS = json.loads((TINY / "transformer" / "config.json").read_text())["max_text_seq_length"]
# What the doors import once they begin to work: seconds in every process that does so anew.
DOORS = [
    "videopainter.training.trainer",
    "videopainter.runs.studio",
    "videopainter.cli.train",
    "videopainter.cli.evaluate",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of a file that shares fixtures go to one worker, all others to whoever is free."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return shared_by(config.rootpath / nodeid.partition("::")[0]) or nodeid

    return Scheduling(config, log)


@functools.cache
def shared_by(file: Path) -> str:
    """What holds a file's tests together: the name in its `xdist_group("name")`, with other files' of that name, or
    fixtures of a module. (xdist 3.8's own groups have no effect under pytest 9.2.)"""
    text = file.read_text()
    group = re.search(r'xdist_group\("(\w+)"\)', text)
    return group[1] if group else file.name if 'scope="module"' in text else ""


def pytest_collection_finish():
    """What libraries made when they were imported, half a million objects, need not be looked at again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """The same random numbers for a test whichever ran before it in this process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


def clean_process(function, *args):
    """`function(*args)` in a process that comes from one that imported everything and started no thread.

    A fork of the test process itself may find a lock of OpenMP's or OpenCV's taken by a thread that it does not have.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(DOORS)
    # pytest's own name of a test module is not one that another process can import.
    module = function.__module__.rpartition(".")[2]
    return context.Process(target=call_by_name, args=(module, function.__name__, args))


def call_by_name(module, name, args):
    gc.freeze()
    getattr(importlib.import_module(module), name)(*args)


def make_transformer(seed=0, **changes):
    """A 3-block backbone, 32 wide, for 32×48 pixels."""
    torch.manual_seed(seed)
    options = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 32,
        "out_channels": 16,
        "time_embed_dim": 16,
        "text_embed_dim": TEXT_DIM,
        "num_layers": 3,
        "sample_width": 6,
        "sample_height": 4,
        "sample_frames": 9,
        "max_text_seq_length": TEXT_LENGTH,
        "use_rotary_positional_embeddings": True,
    }
    return VideoPainterTransformer3DModel(**{**options, **changes}).eval()


def make_branch(transformer, seed=1, **changes):
    """A 2-block branch whose features are not zero, as if it had been trained."""
    torch.manual_seed(seed)
    branch = CogvideoXBranchModel.from_transformer(transformer, num_layers=2, **changes).eval()
    for layer in branch.branch_blocks:
        torch.nn.init.normal_(layer.weight, std=0.2)
    return branch


def make_vae(seed=2):
    torch.manual_seed(seed)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=16,
        layers_per_block=1,
        norm_num_groups=2,
        sample_height=480,
        sample_width=720,
    ).eval()


def make_scheduler(kind="dpm"):
    cls = CogVideoXDPMScheduler if kind == "dpm" else CogVideoXDDIMScheduler
    return cls(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
    )


def make_pipeline(transformer=None, scheduler="dpm", with_branch=True):
    """A pipeline without text encoder: it takes prompt embeddings."""
    transformer = transformer or make_transformer()
    branch = make_branch(transformer) if with_branch else None
    pipe = VideoPainterPipeline(None, None, make_vae(), transformer, make_scheduler(scheduler), branch)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe():
    return make_pipeline()


@pytest.fixture
def embeds():
    """Prompt embeddings as keywords of the pipeline's call."""
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn(2, 1, TEXT_LENGTH, TEXT_DIM, generator=generator)
    return {"prompt_embeds": draw[0], "negative_prompt_embeds": draw[1]}


def noise_video(frames, height=32, width=48, seed=0):
    """White noise, uint8 (T, H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def moving_mask(frames, height=32, width=48):
    """A box that moves to the right, bool (T, H, W)."""
    masks = np.zeros((frames, height, width), dtype=bool)
    for t in range(frames):
        x = 4 + t % (width // 2)
        masks[t, height // 4 : height // 2, x : x + width // 4] = True
    return masks


# ---- short trainings


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A whole backbone folder with random weights, and a branch beside it."""
    folder = tmp_path_factory.mktemp("backbone")
    shutil.copytree(TINY / "tokenizer", folder / "tokenizer")
    shutil.copy(TINY / "model_index.json", folder)
    make_scheduler().save_pretrained(folder / "scheduler")
    make_vae().save_pretrained(folder / "vae")
    transformer = make_transformer(num_layers=2)
    transformer.save_pretrained(folder / "transformer")
    make_branch(transformer).save_pretrained(folder / "branch")
    torch.manual_seed(4)
    vocabulary = len(AutoTokenizer.from_pretrained(folder / "tokenizer"))
    T5EncoderModel(
        T5Config(vocab_size=vocabulary, d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    ).eval().save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """Six rendered clips of 12 frames at 32×48."""
    folder = tmp_path_factory.mktemp("clips")
    look = SyntheticLook(num_frames=12, height=32, width=48, seed=3)
    write_set(folder, {"train": 6, "val": 0, "test": 0, "long": 0, "long_test": 0}, look, processes=1)
    return folder / "pexels_videovo_train_dataset.csv"


@pytest.fixture
def flags(checkpoint, clips):
    """The flags of a short training, as a function of its folder and what else is wanted."""

    def make(output: Path, **changes) -> list[str]:
        values = {
            "pretrained_model_name_or_path": checkpoint,
            "meta_file_path": clips,
            "output_dir": output,
            "height": 32,
            "width": 48,
            "max_num_frames": 9,
            "max_train_steps": 4,
            "train_batch_size": 2,
            "learning_rate": 1e-3,
            "lr_warmup_steps": 2,
            "mask_add": True,
            "report_to": "none",
            "logging_steps": 1,
            "checkpointing_steps": 2,
            **changes,
        }
        return [f"--{name}={value}" for name, value in values.items()]

    return make


def adapter_flags(checkpoint: Path) -> dict[str, object]:
    return {
        "cogvideox_branch_name_or_path": checkpoint / "branch",
        "rank": 4,
        "lora_alpha": 2,
        "id_pool_resample_learnable": True,
    }


# ---- captions


@pytest.fixture
def server(monkeypatch):
    """A server, its address and a key in the environment, and no waiting between tries."""
    openai = pytest.importorskip("openai")
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.02)
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


@pytest.fixture
def captioner(server, tmp_path):
    made = Captioner(make_backend("some-model"), tmp_path / "answers")
    yield made
    made.close()
