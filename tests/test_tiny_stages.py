"""The stages of the next tiny stack: judge, holes, optimizer, weights that come from git."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

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
    holes, bold = part("holes"), part("bold")
    for frame, without, footprint, _ in stills(6, part):
        hole = holes.object_hole(footprint[None], np.random.default_rng(int(frame.sum())))[0]
        assert not (footprint & ~hole).any()
        noisy = bold.latent_holes(hole[None, None])[0, 0, 0].numpy() > 0
        pixels = noisy.repeat(8, 0).repeat(8, 1)
        changed = (frame != without).any(-1)
        assert not (changed & ~pixels).any()
        # Nor has any latent beside a changed one, which the encoder's kernels reach, stayed clean.
        rows, columns = np.nonzero(changed)
        for y, x in ((8, 0), (-8, 0), (0, 8), (0, -8)):
            assert pixels[np.clip(rows + y, 0, 95), np.clip(columns + x, 0, 143)].all()


def test_weights_from_git_go_on(part, tmp_path):
    stages, common = part("stages"), part("common")
    model = torch.nn.Linear(3, 2)
    options = {"steps": 2, "lr": 0.1}
    trainer = common.Trainer(model, state=tmp_path / "judge.pt", **options)
    trainer.run(lambda step: model(torch.ones(1, 3)).square().sum(), report=lambda step: None)
    stages.pack(tmp_path, tmp_path / "git")
    (tmp_path / "git" / "scale.json").write_text("0.5")
    (tmp_path / "git" / "tokenizer").mkdir()
    stages.unpack(tmp_path / "git", tmp_path / "other")
    again = common.Trainer(torch.nn.Linear(3, 2), state=tmp_path / "other" / "judge.pt", **options)
    assert again.step == 2
    torch.testing.assert_close(again.average.weight, trainer.average.weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again.model.weight, trainer.average.weight, atol=1e-3, rtol=1e-3)


def test_the_learned_code_shows_shapes_and_colours(part, tmp_path):
    stages, judge = part("stages"), part("judge")
    stages.unpack(stages.FOLDER, tmp_path)
    vae, classifier = part("autoencoder").load_autoencoder(tmp_path), judge.load_judge(tmp_path / "judge.pt")
    frames, _, footprints, names = zip(*stills(8, part), strict=True)
    decoded = judge.through_vae(vae, np.stack(frames), batch=4)
    said = classifier.names(torch.stack([judge.crop(*pair) for pair in zip(decoded, footprints, strict=True)]))
    assert sum(a == b for a, b in zip(said, names, strict=True)) >= 7
    empty = [judge.crop(np.full_like(frames[0], 128), footprint) for footprint in footprints]
    assert {shape for shape, _ in classifier.names(torch.stack(empty))} != {names[0][0]}


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
