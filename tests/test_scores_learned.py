"""Aesthetic scores and the safety check: the real classes, tiny, with random weights in the published layouts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from hub_server import hub_server
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from test_metric_models import make_clip
from torch import nn
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from videopainter.data.video.reader import VideoFrames
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.metrics.networks.aesthetic import load_head
from videopainter.metrics.networks.safety import SafetyChecker
from videopainter.preparation.stages.rate import ClipRatingOptions, RateStage
from videopainter.preparation.stages.running import run_stages
from videopainter.preparation.stages.schedulers import ProcessScheduler

WIDTH, CONCEPTS = 12, 17


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("rate") / "clip")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    """Two clips, 8 and 4 frames, of a video that has another colour in each frame."""
    file = tmp_path_factory.mktemp("videos") / "v.mp4"
    with VideoWriter(file, fps=8, threads=1) as writer:
        colours = np.random.default_rng(0).integers(0, 256, (12, 1, 1, 3), dtype=np.uint8)
        writer.write(np.broadcast_to(colours, (12, 40, 64, 3)).copy())
    about = {"video": str(file), "size": file.stat().st_size, "mtime": 1}
    return [{"id": f"v-{k}", "start_frame": start, "end_frame": end, **about} for k, (start, end) in enumerate(ENDS)]


ENDS = ((0, 8), (8, 12))


def published_mlp() -> nn.Sequential:
    """The improved predictor's layers, as its training had them."""
    torch.manual_seed(1)
    sizes = (WIDTH, 1024, 128, 64, 16, 1)
    layers = [nn.Linear(sizes[k], sizes[k + 1]) for k in range(5)]
    drop = [nn.Dropout(0.2), nn.Dropout(0.2), nn.Dropout(0.1)]
    return nn.Sequential(layers[0], drop[0], layers[1], drop[1], layers[2], drop[2], layers[3], layers[4])


def save_head(folder: Path, kind: str, offset: float = 0.0) -> Path:
    head = nn.Linear(WIDTH, 1) if kind == "linear" else published_mlp()
    with torch.no_grad():
        (head if isinstance(head, nn.Linear) else head[7]).bias.add_(offset)
    folder.mkdir(exist_ok=True)
    begins = "" if kind == "linear" else "layers."
    torch.save({begins + name: value for name, value in head.state_dict().items()}, folder / "head.pth")
    return folder / "head.pth"


def save_checker(folder: Path, thresholds: float) -> Path:
    """As the hub has it: a CLIP inside a model of that name, positions beside, OpenAI's preprocessing."""
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    torch.manual_seed(2)
    model = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=WIDTH))
    for part in (model.concept_embeds, model.special_care_embeds):
        part.data.normal_()
    model.concept_embeds_weights.data.fill_(thresholds)
    model.special_care_embeds_weights.data.fill_(thresholds)
    model.save_pretrained(folder)
    state = {("vision_model." * k.startswith("vision_model.")) + k: v.clone() for k, v in model.state_dict().items()}
    state["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def rate(rows, work: Path, **options):
    stage = RateStage(ClipRatingOptions(**{name: str(v) if isinstance(v, Path) else v for name, v in options.items()}))
    return run_stages([stage], rows, work, ProcessScheduler(1))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_scores_are_those_of_the_published_models(clip, rows, tmp_path, kind):
    torch.manual_seed(0)
    file = save_head(tmp_path / "head", kind)
    found = rate(rows, tmp_path / "work", aesthetic_model=file.parent, aesthetic_clip=clip, min_aesthetic=-100.0)
    processor, model = CLIPImageProcessorPil.from_pretrained(clip), CLIPModel.from_pretrained(clip).eval()
    state = torch.load(file)
    head = nn.Linear(WIDTH, 1) if kind == "linear" else published_mlp().eval()
    head.load_state_dict({name.removeprefix("layers."): value for name, value in state.items()})
    for row, numbers in zip(found.rows, ([1, 3, 5, 7], [8, 9, 10, 11]), strict=True):
        frames = list(VideoFrames(Path(row["video"])).pick(numbers))
        pixels = processor([Image.fromarray(frame) for frame in frames], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            vectors = model.get_image_features(pixel_values=pixels).pooler_output
            expected = head(vectors / vectors.norm(dim=-1, keepdim=True)).mean().item()
        assert row["aesthetic"] == pytest.approx(expected, abs=0.002) and row["unsafe_frames"] == "not scored"


def test_plain_clips_and_flagged_ones_are_dropped_and_told(clip, rows, tmp_path):
    plain = {"aesthetic_model": save_head(tmp_path / "plain", "linear", -50.0), "aesthetic_clip": clip}
    found = rate(rows, tmp_path / "work", **plain)
    assert [(kind, detail[:7]) for _, _, kind, detail in found.dropped] == [("not aesthetic", "score -")] * 2
    kept = {"aesthetic_model": save_head(tmp_path / "good", "linear", 50.0), "aesthetic_clip": clip}
    safe = save_checker(tmp_path / "safe", 2.0)
    found = rate(rows, tmp_path / "work", **kept, safety_model=safe)
    assert [row["unsafe_frames"] for row in found.rows] == [0, 0] and found.rows[0]["aesthetic"] > 40
    again = rate(rows, tmp_path / "work", **kept, safety_model=safe)
    assert again.stages[0].reused == 2
    save_head(tmp_path / "good", "linear", 60.0)
    assert rate(rows, tmp_path / "work", **kept, safety_model=safe).stages[0].reused == 0, "the file is another one"
    found = rate(rows, tmp_path / "work", safety_model=save_checker(tmp_path / "strict", -2.0))
    assert found.stages[0].reused == 0
    assert {why[2:] for why in found.dropped} == {("not safe", "4 of 4 frames")}


def test_the_checker_is_diffusers_own_and_flags_frame_by_frame(tmp_path):
    checker = SafetyChecker.load(save_checker(tmp_path / "checker", 0.0))
    model = StableDiffusionSafetyChecker.from_pretrained(tmp_path / "checker")
    colours = np.random.default_rng(1).integers(0, 256, (6, 3, 1, 1), dtype=np.uint8)
    frames = torch.from_numpy(np.broadcast_to(colours, (6, 3, 40, 64)).copy())
    pixels = checker.preprocessing(frames)
    vectors = model.visual_projection(model.vision_model(pixels)[1])
    near = torch.nn.functional.cosine_similarity(vectors[:, None], model.concept_embeds[None], dim=-1)
    # A threshold between frames: some are flagged, some are not.
    limit = near.max(dim=1).values.sort().values[2:4].mean().item()
    checker.model.concept_embeds_weights.data.fill_(limit)
    checker.model.special_care_embeds_weights.data.fill_(2.0)
    flagged = checker(frames)
    assert sum(flagged) == 3 and flagged == (near.max(dim=1).values > limit).tolist()


def test_a_checker_inside_a_pipeline_is_prepared_by_what_lies_beside_it(tmp_path):
    folder = save_checker(tmp_path / "safety_checker", 2.0)
    (tmp_path / "feature_extractor").mkdir()
    (folder / "preprocessor_config.json").rename(tmp_path / "feature_extractor" / "preprocessor_config.json")
    assert SafetyChecker.check(folder).crop == (32, 32)


def test_scores_that_are_no_numbers_are_tried_again(clip, rows, tmp_path, capsys):
    options = {"aesthetic_model": save_head(tmp_path / "head", "linear"), "aesthetic_clip": make_clip(tmp_path / "c")}
    stage = RateStage(ClipRatingOptions(**{name: str(value) for name, value in options.items()}))
    stage.setup()
    stage._scorer.clip.model.visual_projection.weight.data.fill_(float("nan"))
    stage.setup = lambda: None
    found = run_stages([stage], rows, tmp_path / "work", ProcessScheduler(1))
    assert found.stages[0].failed == 2 and not found.dropped
    assert "expected an aesthetic score, got nan" in capsys.readouterr().err


def test_a_head_comes_from_the_hub_alone_of_its_repository(clip, tmp_path, monkeypatch):
    head = save_head(tmp_path / "head", "linear").read_bytes()
    files = {"README.md": b"theirs", "head.pth": head, "model.safetensors": b"large"}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server({("models", "somebody/heads"): files}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        stage = RateStage(ClipRatingOptions(aesthetic_model="somebody/heads", aesthetic_clip=str(clip)))
    assert stage._head is not None and stage._head.read_bytes() == head
    assert {file.name for file in stage._head.parent.iterdir()} == {"head.pth"}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(1, 512), "bias": torch.zeros(1)}, "for CLIP's 768 numbers, got one for 512"),
        ({"weight": torch.zeros(2, 768), "bias": torch.zeros(2)}, "end in one number"),
        ({"weight": torch.full((1, 768), torch.nan), "bias": torch.zeros(1)}, "no numbers"),
        ({"weight": torch.zeros(1, 768)}, "expected LAION's aesthetic head"),
        ({f"layers.{k}.weight": torch.zeros(1, 1) for k in (0, 3, 6, 9, 11)}, "expected LAION's aesthetic head"),
        ([1, 2], "tensors by name"),
        (None, "unreadable file"),
    ],
)
def test_heads_that_cannot_be_used(tmp_path, state, message):
    file = tmp_path / "head.pth"
    file.write_bytes(b"?") if state is None else torch.save(state, file)
    with pytest.raises(InputError, match=message) as told:
        load_head(file, 768)
    assert str(file) in str(told.value)


def test_mistakes_are_told_before_anything_is_loaded(clip, tmp_path):
    head = save_head(tmp_path / "head", "linear")
    checker = save_checker(tmp_path / "checker", 2.0)
    for options, message in (
        ({"aesthetic_model": "nowhere.pth", "aesthetic_clip": clip}, "can be read"),
        ({"aesthetic_model": "nowhere", "aesthetic_clip": clip}, "--aesthetic_model: expected a folder or a hub id"),
        ({"aesthetic_model": head, "aesthetic_clip": "ckpt/none"}, "--aesthetic_clip: expected a folder or a hub id"),
        ({"aesthetic_model": head, "aesthetic_clip": ""}, "--aesthetic_clip: expected a folder or a hub id"),
        ({"aesthetic_model": clip, "aesthetic_clip": clip}, "expected one head"),
        ({"safety_model": clip}, "expected a StableDiffusionSafetyChecker, got"),
        ({"aesthetic_model": head, "aesthetic_clip": checker.parent}, "neither"),
    ):
        with pytest.raises(InputError, match=message):
            RateStage(ClipRatingOptions(**{name: str(value) for name, value in options.items()}))
    (checker / "model.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(InputError, match="git-lfs pointer"):
        RateStage(ClipRatingOptions(safety_model=str(checker)))
    (checker / "model.safetensors").write_bytes(b"?" * 100)
    stage = RateStage(ClipRatingOptions(safety_model=str(checker)))
    with pytest.raises(InputError, match="unreadable files"):
        stage.setup()
