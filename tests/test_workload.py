"""What a run asks of a device's memory: counted from its jobs, the largest decides, by whichever mode is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_mask, noise_video
from test_first_frame import save_flux_fill

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.running import run_door
from videopainter.data.clip import ArrayMasks
from videopainter.data.crops import CropPath
from videopainter.data.images import write_image
from videopainter.data.reshape import resize_masks
from videopainter.models.backbones.cogvideox.facts import CogVideoXFacts
from videopainter.models.id_resample import HoleTokens, token_mask
from videopainter.pipelines import first_frame, loading
from videopainter.pipelines.conditioning import latent_mask
from videopainter.pipelines.memory import GIB, MODES, Choice, ModelSizes, Workload, choose, held_as, peak_bytes
from videopainter.pipelines.windows import plan_windows
from videopainter.runs import workload
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import plan_jobs

TINY = Path(__file__).resolve().parents[1] / "ckpt" / "tiny"
ADAPTER = TINY / "VideoPainterID" / "checkpoints"
# Of CogVideoX-5B-I2V in bfloat16, nearly.
SIZES = ModelSizes(
    text_encoder=9 * GIB,
    transformer=10 * GIB,
    vae=GIB // 2,
    branch=GIB // 2,
    largest_block=GIB // 4,
    outside_blocks=GIB // 8,
    largest_leaf=GIB // 4,
)


def write_clip(folder: Path, name: str, masks: np.ndarray) -> list[str]:
    """The flags of a clip made of pictures."""
    for kind, pictures in (("video", noise_video(*masks.shape)), ("mask", masks.astype(np.uint8) * 255)):
        (folder / name / kind).mkdir(parents=True)
        for index, picture in enumerate(pictures):
            write_image(folder / name / kind / f"{index:03d}.png", picture)
    return ["--video", str(folder / name / "video"), "--mask", str(folder / name / "mask"), "--prompt", "a wall"]


def counted(flags: list[str], output: Path, *more: str) -> Workload:
    options = read_options([*flags, "--output_path", str(output / "x.mp4"), *more])
    (work,), failed = workload.workloads(plan_jobs(options), Outcomes(several=False))
    assert not failed
    return work


def test_a_crop_is_counted_at_its_own_size(tmp_path: Path) -> None:
    """A wide picture with a small hole: the crop is of another shape, and the hole is no smaller a part of it."""
    masks = np.zeros((5, 160, 480), bool)
    masks[:, 70:80, 200:210] = True
    flags = [*write_clip(tmp_path, "wide", masks), "--id_adapter_resample_learnable_path", str(ADAPTER)]
    plain, cropped = (counted(flags, tmp_path / crop, "--crop", crop) for crop in ("none", "auto"))
    assert (plain.height, plain.width) == (64, 208)
    assert (cropped.height, cropped.width) == (96, 144)
    assert plain.hole_share > 0
    # Ten pixels amid 96x144: a token that they lie in, or up to two by two.
    assert cropped.hole_share in (1 / 54, 2 / 54, 4 / 54)


def test_a_job_is_counted(tmp_path: Path) -> None:
    masks = moving_mask(11, 96, 64)
    flags = write_clip(tmp_path, "clip", masks)
    plain = counted(flags, tmp_path, "--guidance_scale", "6")
    # 96x144 pixels in the aspect of the frames; one window of 13 frames, as 11 are filled up.
    assert plain == Workload(height=144, width=96, num_frames=13, guidance=True, form=None, hole_share=0.0)
    few = counted(
        flags, tmp_path, "--inpainting_frames", "5", "--height", "32", "--width", "48", "--guidance_scale", "1"
    )
    assert few == Workload(height=32, width=48, num_frames=5, guidance=False, form=None, hole_share=0.0)
    adapter = ["--id_adapter_resample_learnable_path", str(ADAPTER)]
    own = counted(flags, tmp_path, *adapter)
    assert own.form == "exact" and 0.1 < own.hole_share < 0.4 and not own.hands_on
    # One window hands nothing on; several do.
    assert not counted(flags, tmp_path, *adapter, "--prev_clip_weight", "0.5").hands_on
    assert counted(flags, tmp_path, *adapter, "--prev_clip_weight", "0.5", "--inpainting_frames", "5").hands_on
    assert counted(flags, tmp_path, *adapter, "--id_resample", "compact").form == "compact"
    assert counted(flags, tmp_path, *adapter, "--id_resample", "off").hole_share == 0.0
    assert counted(flags, tmp_path, "--cache", "pab").step_cache == "pab"


def test_what_is_painted_is_counted_where_some_is_copied(tmp_path: Path) -> None:
    """The rest of a hole that other frames show in part: the model gets it united over a latent's frames, and wider."""

    flags = write_clip(tmp_path, "clip", moving_mask(5, 64, 96))
    options = read_options(
        [*flags, "--output_path", str(tmp_path / "x.mp4"), "--propagate", "all", "--id_resample", "exact"]
    )
    (job,) = plan_jobs(options)
    rest = np.zeros((5, 64, 96), bool)
    rest[3, 20:24, 12:16] = True  # not one of the frames that latents ask
    whole = job.sample
    job = replace(job, whole=whole, sample=replace(whole, open=lambda: whole.open().with_masks(ArrayMasks(rest))))
    (work,), _ = workload.workloads([job], Outcomes(several=False))
    narrow, _ = workload.workloads([replace(job, whole=None)], Outcomes(several=False))
    assert work.hole_share > narrow[0].hole_share


@pytest.mark.parametrize("patch_t", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(75, 101), (96, 160)])
def test_a_hole_is_never_counted_too_small(height: int, width: int, patch_t: int) -> None:
    """A moving dot that jumps in one frame, next to what the models count at 64x96."""
    config = {"patch_size_t": patch_t} if patch_t > 1 else {}
    grid = CogVideoXFacts(config).grid
    masks = np.zeros((38, height, width), bool)
    for t in range(38):
        masks[t, t % (height - 9) : t % (height - 9) + 9, 2 * t : 2 * t + 3] = True
    masks[22:24, : height // 2] = True
    whole = CropPath.whole(height, width, 38)
    for window in plan_windows(38, 17, 5, grid).windows:
        rows, columns = 64 // grid.multiple, 96 // grid.multiple
        share = workload._hole_share(ArrayMasks(masks), whole, window, grid, rows, columns)
        read = masks[window.start : min(window.stop, 38)]
        read = np.concatenate([read, np.repeat(read[-1:], window.num_frames - len(read), axis=0)])
        mask = torch.from_numpy(resize_masks(read, 64, 96))[None, None].float()
        latents = latent_mask(mask, torch.empty(1, grid.latent_frames(window.num_frames), 16, 8, 12))
        latents = torch.cat([latents[:, :1]] * grid.missing(latents.shape[1]) + [latents], dim=1)
        tokens = token_mask(latents, grid.patch, grid.patch_t)
        real = HoleTokens.from_mask(tokens).index.shape[1] / tokens.shape[1]
        assert 0 < real <= share <= real + 0.1, (window, real, share)


def test_the_largest_peak_decides_not_the_most_pixels() -> None:
    """Fewer pixels with a whole frame of identity to hand on need more than more pixels without."""
    many = Workload(height=512, width=768)
    identity = Workload(height=448, width=720, form="exact", hole_share=1.0, hands_on=True)
    for mode in MODES:
        peaks = [peak_bytes(SIZES, work, mode, tiling=True) for work in (many, identity)]
        choice, _ = held_as(SIZES, [many, identity], 12 * GIB, mode)
        assert choice.peak == max(peaks)
    assert peaks[1] > peaks[0]
    both = choose(SIZES, [many, identity], 24 * GIB)
    assert both.mode != choose(SIZES, [many], 24 * GIB).mode
    assert both == choose(SIZES, [identity], 24 * GIB) == choose(SIZES, [identity, many], 24 * GIB)
    # What would fit must do so for both, and the line names the one that takes most.
    with pytest.raises(ValueError, match=r"720x448, 49 frames, exact ID resampling of 100 % handed on.*would fit"):
        choose(SIZES, [many, identity], 10 * GIB)
    with pytest.raises(ValueError, match="--height") as error:
        choose(SIZES, [many, identity], 4.5 * GIB)
    assert "\n" not in str(error.value)


def test_masks_that_cannot_be_read_fail_their_own_job(tmp_path: Path) -> None:
    rows = []
    for name in ("good", "bad"):
        flags = write_clip(tmp_path, name, moving_mask(5, 32, 48))
        rows.append(flags)
    jobs = [
        job
        for flags, name in zip(rows, "ab")
        for job in plan_jobs(
            read_options([*flags, "--output_path", str(tmp_path / f"{name}.mp4"), "--id_resample", "compact"])
        )
    ]
    (tmp_path / "bad" / "mask" / "003.png").write_bytes(b"no picture")
    outcomes = Outcomes(several=True)
    works, failed = workload.workloads(jobs, outcomes)
    assert len(works) == 1 and failed == [jobs[1]] and list(outcomes.failed) == [jobs[1].label]


# ---- through the command, on a machine that seems to have a GPU


class Stop(ValueError):
    """Thrown once a mode is chosen: what comes then needs the GPU."""


@pytest.fixture
def door(tmp_path: Path, monkeypatch, capsys, caplog):
    """The command with so much device memory; gives how the models would be placed, and what it says."""
    flags = write_clip(tmp_path, "clip", moving_mask(9, 64, 96))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    placed: list[Choice] = []

    def place(pipe, device, mode, *, tiling):
        assert device.type == "cuda"
        placed.append(Choice(mode, tiling, 0))
        raise Stop("placed")

    monkeypatch.setattr(loading, "place", place)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def run(free: float, *arguments: str) -> tuple[Choice | None, str]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (int(free * GIB), int(free * GIB)))
        placed.clear()
        caplog.clear()
        with pytest.raises(SystemExit) as end:
            run_door(lambda: inpaint(read_options([*flags, *arguments, "--dtype", "float32", "--overwrite"])))
        assert end.value.code == 2
        return (placed[0] if placed else None), capsys.readouterr().err + caplog.text

    return run


def test_a_mode_by_hand_is_kept_and_told_where_it_does_not_fit(door) -> None:
    assert door(8)[0] == Choice("full", False, 0)
    for mode in ("model_offload", "sequential"):
        choice, lines = door(8, "--memory", mode)
        assert choice is not None and choice.mode == mode and "takes about" not in lines
        choice, lines = door(1, "--memory", mode)
        assert choice == Choice(mode, True, 0) and f"memory {mode} takes about" in lines
    choice, lines = door(1)
    assert choice is None and "memory: expected at least" in lines
    # What the adapter does is counted: with its windows' memory handed on, less is left.
    identity = ["--id_adapter_resample_learnable_path", str(ADAPTER), "--prev_clip_weight", "1"]
    choice, lines = door(1, *identity, "--inpainting_frames", "5")
    assert choice is None and "exact ID resampling of" in lines and "handed on" in lines


@pytest.mark.parametrize(("free", "way"), [(80, "model_offload"), (2, "group_offload")])
def test_the_filler_of_first_frames_goes_by_what_is_free(free, way, door, tmp_path, monkeypatch) -> None:
    from diffusers import FluxFillPipeline

    (tmp_path / "flux").mkdir()
    folder = save_flux_fill(tmp_path / "flux")
    seen: list[str] = []

    def chosen(name):
        def stop(*arguments, **options):
            seen.append(name)
            raise Stop(name)

        return stop

    monkeypatch.setattr(FluxFillPipeline, "enable_model_cpu_offload", chosen("model_offload"))
    monkeypatch.setattr(first_frame, "offload_layers", chosen("group_offload"))  # its text encoder comes first
    choice, _ = door(free, "--img_inpainting_model", str(folder))
    assert seen == [way] and choice is None
    # What cannot fit is known before the filler works for minutes.
    seen.clear()
    _, lines = door(1, "--img_inpainting_model", str(folder))
    assert not seen and "memory: expected at least" in lines
