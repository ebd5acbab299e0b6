"""The stages of the tiny checkpoint's training: judge, holes, optimizer, weights to go on from."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from videopainter.data.synthetic.scenes import render_clip, sample_scene

ROOT = Path(__file__).parents[1]
SIZE = {"num_frames": 1, "height": 96, "width": 144, "bold": True}


@pytest.fixture
def part(monkeypatch):
    """Imports a module of train/tiny by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "train" / "tiny"))
    return importlib.import_module


def stills(count, part):
    """Held-out pictures whose object 1 is seen well: (frame, footprint, shape, colour)."""
    seed = 920000
    while count:
        clip, without = render_clip(seed, **SIZE), render_clip(seed, **SIZE, without=1)
        item = sample_scene(seed, bold=True).objects[0]
        if part("judge").seen_well(clip.footprint(1)[0], clip.frames[0], without.frames[0]):
            yield clip.frames[0], without.frames[0], clip.footprint(1)[0], (item.shape, item.colour)
            count -= 1
        seed += 1


def test_muon_orthogonalizes_and_minimizes(part):
    muon = part("muon")
    torch.manual_seed(0)
    for shape in ((8, 40), (40, 8), (16, 16)):
        values = torch.linalg.svdvals(muon.orthogonal(torch.randn(shape)))
        assert 0.3 < values.min() <= values.max() < 1.3
    kernel = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    target = torch.randn(8, 4, 3, 3)
    optimizer = muon.Muon([kernel], lr=0.05)
    before = (kernel - target).norm().item()
    for _ in range(200):
        optimizer.zero_grad()
        ((kernel - target) ** 2).sum().backward()
        optimizer.step()
    assert (kernel - target).norm().item() < 0.2 * before


def test_what_is_noisy_has_seen_all_of_the_object(part):
    holes, latents = part("holes"), part("latents")
    for frame, without, footprint, _ in stills(6, part):
        hole = holes.object_hole(footprint[None], np.random.default_rng(int(frame.sum())))[0]
        assert not (footprint & ~hole).any()
        noisy = latents.latent_holes(hole[None, None])[0, 0, 0].numpy() > 0
        pixels = noisy.repeat(8, 0).repeat(8, 1)
        changed = (frame != without).any(-1)
        assert not (changed & ~pixels).any()
        # Nor has any latent beside a changed one, which the encoder's kernels reach, stayed clean.
        rows, columns = np.nonzero(changed)
        for y, x in ((8, 0), (-8, 0), (0, 8), (0, -8)):
            assert pixels[np.clip(rows + y, 0, 95), np.clip(columns + x, 0, 143)].all()


def test_a_training_goes_on_from_its_state(part, tmp_path):
    common, model = part("common"), torch.nn.Linear(3, 2)
    options = {"steps": 2, "lr": 0.1}
    trainer = common.Trainer(model, state=tmp_path / "state.pt", **options)
    trainer.run(lambda step: model(torch.ones(1, 3)).square().sum(), report=lambda step: None)
    again = common.Trainer(torch.nn.Linear(3, 2), state=tmp_path / "state.pt", **options)
    assert again.step == 2
    torch.testing.assert_close(again.average.weight, trainer.average.weight)
    torch.testing.assert_close(again.model.weight, model.weight)


def test_what_is_shipped_is_where_training_goes_on(part, tmp_path):
    """The judge tells shapes and colours through the shipped VAE."""
    start, judge = part("start"), part("judge")
    start.start(ROOT / "ckpt" / "tiny", tmp_path / "work")
    vae = part("autoencoder").load_autoencoder(tmp_path / "work")
    classifier = judge.load_judge(tmp_path / "work" / "judge.pt")
    frames, _, footprints, names = zip(*stills(8, part), strict=True)
    decoded = judge.through_vae(vae, np.stack(frames), batch=4)
    said = classifier.names(torch.stack([judge.crop(*pair) for pair in zip(decoded, footprints, strict=True)]))
    assert sum(a == b for a, b in zip(said, names, strict=True)) >= 7
    empty = [judge.crop(np.full_like(frames[0], 128), footprint) for footprint in footprints]
    assert {shape for shape, _ in classifier.names(torch.stack(empty))} != {names[0][0]}


@pytest.mark.slow
def test_the_shipped_backbone_can_be_exported_again(part, tmp_path):
    """Weights go through state files and back without a change, and what is there already stays."""
    start, export = part("start"), part("export")
    start.start(ROOT / "ckpt" / "tiny", tmp_path / "work")
    (tmp_path / "work" / "stills_captions.json").write_text("[]")
    for name in ("frames", "without", "footprint"):
        np.save(tmp_path / "work" / f"stills_{name}.npy", np.zeros(1))
    export.export_backbone(tmp_path / "work", tmp_path / "target")
    kept = (tmp_path / "work" / "judge.pt").read_bytes()
    start.start(tmp_path / "target", tmp_path / "work")
    assert (tmp_path / "work" / "judge.pt").read_bytes() == kept
    for file in sorted((ROOT / "ckpt/tiny/CogVideoX-5b-I2V").rglob("*.safetensors")):
        again = load_file(tmp_path / "target" / file.relative_to(ROOT / "ckpt/tiny"))
        for key, value in load_file(file).items():
            assert torch.equal(again[key], value), key


def test_the_judge_is_kept_in_half_precision(part, tmp_path):
    start = part("start")
    weights = {"shape.bias": torch.tensor([0.5, -2.0])}
    torch.save({"average": weights}, tmp_path / "judge.pt")
    start.keep_judge(tmp_path, tmp_path / "judge.safetensors")
    kept = load_file(tmp_path / "judge.safetensors")["shape.bias"]
    assert kept.dtype == torch.float16 and torch.equal(kept.float(), weights["shape.bias"])


def test_painting_comes_to_what_the_model_predicts(part, monkeypatch):
    paintings = part("paintings")
    clean, wanted = torch.randn(2, 1, 16, 4, 6), torch.randn(2, 1, 16, 4, 6)
    mask = (torch.rand(2, 1, 1, 4, 6) < 0.5).float()
    seen = []
    monkeypatch.setattr(paintings, "predict_clean", lambda *args: seen.append(args[3]) or wanted)
    painted = paintings.paint(None, paintings.build_scheduler(), None, clean, mask, steps=4)
    torch.testing.assert_close(painted, torch.where(mask > 0, wanted, clean), atol=0.05, rtol=0)
    assert len(seen) == 4
    assert all(torch.equal(noisy * (1 - mask), clean * (1 - mask)) for noisy in seen)
    errors = [((noisy - wanted) * mask).square().mean() for noisy in seen]
    assert errors == sorted(errors, reverse=True)


def test_guidance_goes_beyond_what_an_empty_prompt_gives(part, monkeypatch):
    paintings = part("paintings")
    clean, mask = torch.zeros(1, 1, 16, 2, 2), torch.ones(1, 1, 1, 2, 2)
    tokens, no_tokens = torch.full((1, 3), 7), torch.zeros(3, dtype=torch.int64)
    monkeypatch.setattr(
        paintings, "predict_clean", lambda *args: torch.full_like(clean, 1.0 if args[2].any() else 0.25)
    )
    how = {"steps": 4, "guidance": 2.0, "no_tokens": no_tokens}
    painted = paintings.paint(None, paintings.build_scheduler(), tokens, clean, mask, **how)
    torch.testing.assert_close(painted, torch.full_like(clean, 1.75), atol=0.05, rtol=0)


def test_a_tokenizer_does_not_say_where_it_was_trained(part, tmp_path):
    captions = [
        f"A {colour} ball stands still over yellow sand under a grey sky." for colour in ("red", "blue", "green")
    ]
    part("text").make_tokenizer(captions, tmp_path / "tokenizer")
    for folder in (tmp_path / "tokenizer", ROOT / "ckpt/tiny/CogVideoX-5b-I2V/tokenizer"):
        content = (folder / "spiece.model").read_bytes()
        assert b"captions.txt" not in content and b"tokenizer/spiece" not in content
