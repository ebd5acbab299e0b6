"""Words as prompts, and folders of models: the real classes, tiny, with random weights."""

import json
import string

import numpy as np
import pytest
import torch
from test_sam import SIDE, frames, tiny_sam2  # noqa: F401 (a fixture)
from transformers import (
    BertTokenizer,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from videopainter.cli.inpaint import read_options
from videopainter.cli.segment import segment
from videopainter.data.clip import ArrayFrames
from videopainter.data.masks.opening import open_masks
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.runs.plan import plan_jobs
from videopainter.runs.record import clip_facts
from videopainter.segmentation.choosing import SegmenterChoice, SegmenterOptions, choose_segmenter
from videopainter.segmentation.learned.words import fitted_pixels, phrase

SMALL = {"hidden_size": 256, "intermediate_size": 16, "num_attention_heads": 4, "num_layers": 1}


@pytest.fixture(scope="module")
def sam3(tmp_path_factory):
    """A folder as facebook/sam3 is one: detector, tracker, tokenizer."""
    trunk = {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 56,
        "pretrain_image_size": 56,
        "window_size": 2,
        "global_attn_indexes": [0],
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": trunk,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 16,
        "projection_dim": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
    }
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": SMALL,
        "detr_encoder_config": SMALL,
        "detr_decoder_config": {**SMALL, "num_queries": 6},
        "mask_decoder_config": {"hidden_size": 256, "num_attention_heads": 4},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": 56,
        "mask_decoder_config": {"mlp_dim": 16},
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 16,
        "memory_fuser_intermediate_dim": 16,
    }
    torch.manual_seed(0)
    model = Sam3VideoModel(Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=16))
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.05 * torch.randn_like(tensor))
        model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(6.0)
        model.detector_model.detr_decoder.presence_head.layer3.bias.fill_(9.0)
    folder = tmp_path_factory.mktemp("weights") / "sam3"
    model.save_pretrained(folder)
    letters = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    words = {word: number for number, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=words, merges=[]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory):
    swin = {
        "model_type": "swin",
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 2,
        "out_indices": [2, 3, 4],
    }
    bert = {
        "model_type": "bert",
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
    }
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "grounding-dino"
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "light", "square", "."]
    BertTokenizer(vocab={word: k for k, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def video(frames, tmp_path_factory):  # noqa: F811
    path = tmp_path_factory.mktemp("video") / "square.mkv"
    with VideoWriter(path, fps=8, lossless=True) as writer:
        writer.write(frames)
    return path


def chosen(segmenter, *, words, **changes):
    return choose_segmenter(SegmenterOptions(segmenter=str(segmenter), **changes), words=words).load("cpu")


def test_sam3_finds_words_and_follows_what_it_found(sam3, frames, video, tmp_path, capsys):  # noqa: F811
    segmenter, finder = chosen(sam3, words=True)
    assert segmenter.kind == "sam3" and segmenter.side == 56 and finder is not None
    boxes = finder(frames[0], "a light square")
    assert boxes and all(0 <= x0 < x1 <= 72 and 0 <= y0 < y1 <= 48 for x0, y0, x1, y1 in boxes)
    other = finder(frames[0], "the sky")
    assert not np.allclose(np.array(boxes[0]), np.array(other[0]), atol=1e-4), "words make a difference"
    flags = ["--video", str(video), "--range", "0:4", "--quiet", "--device", "cpu", "--segmenter", str(sam3)]
    assert segment([*flags, "--text", "a light square", "--output", str(tmp_path / "m.npz")]) == 0
    assert open_masks(tmp_path / "m.npz", frames=ArrayFrames(frames[:4]), mask_id=1).read(0, 1).any()
    assert "4 frames, 1 object(s)" in capsys.readouterr().out


def test_grounding_dino_gives_boxes_to_any_segmenter(grounding_dino, frames, tmp_path):  # noqa: F811
    _, finder = chosen("builtin", words=True, text_model=str(grounding_dino))
    assert finder is not None
    boxes = finder(frames[0], "Light square")
    assert all(0 <= x0 < x1 <= 72 and 0 <= y0 < y1 <= 48 for x0, y0, x1, y1 in boxes) and boxes
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    segmenter, again = chosen(tmp_path / "sam2", words=True, text_model=str(grounding_dino))
    assert segmenter.kind == "sam2" and segmenter.side == SIDE and again.identity == finder.identity
    assert phrase("A Dog. the  cat ") == "a dog. the  cat."
    assert fitted_pixels(np.zeros((240, 432, 3), np.uint8)).shape == (1, 3, 741, 1333)
    assert fitted_pixels(np.zeros((1000, 1000, 3), np.uint8)).shape == (1, 3, 800, 800)


def test_a_result_says_who_found_the_words(grounding_dino, video, tmp_path):
    """Another --text_model is another result."""
    words = ["--video", str(video), "--range", "0:2", "--remove", "--quiet", "--device", "cpu"]
    words += ["--text", "light square", "--text_model", str(grounding_dino), "--output_path", str(tmp_path / "r.mp4")]
    (job,) = plan_jobs(read_options(words))
    _, finder = chosen("builtin", words=True, text_model=str(grounding_dino))
    facts = clip_facts(job.sample.open(), job.options)
    assert facts["masks"]["by"].startswith("builtin") and facts["masks"]["by"].endswith(finder.identity)


def test_processes_share_gpus_out_for_masks_too(grounding_dino, video, tmp_path, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = []

    class Asked(Exception):
        pass

    def load(choice, device):
        devices.append(device)
        raise Asked

    monkeypatch.setattr(SegmenterChoice, "load", load)
    words = ["--video", str(video), "--remove", "--quiet", "--output_path", str(tmp_path / "r.mp4")]
    for flags in (["--text", "square", "--text_model", str(grounding_dino)], ["--box", "1,1,9,9"]):
        (job,) = plan_jobs(read_options([*words, *flags]))
        with pytest.raises(Asked):
            job.sample.open()
    assert devices == ["cuda:1", None]


def test_a_saved_model_is_the_same_model(frames, tmp_path):  # noqa: F811
    model = tiny_sam2()
    model.save_pretrained(tmp_path / "sam2")
    segmenter, finder = chosen(tmp_path / "sam2", words=False)
    assert finder is None
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(segmenter.model.state_dict()[name], tensor, rtol=0, atol=0)


def test_folders_of_another_kind_are_told(grounding_dino, tmp_path):
    (tmp_path / "other").mkdir()
    cases = {
        "expected a folder with config.json": dict(segmenter=str(tmp_path / "other"), words=False),
        "expected SAM 2 or SAM 3 (sam2_video, sam3_video, sam3_tracker_video), got grounding-dino": dict(
            segmenter=str(grounding_dino), words=False
        ),
    }
    for said, case in cases.items():
        with pytest.raises(InputError) as error:
            chosen(case["segmenter"], words=case["words"])
        assert said in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "sam2_video"}))
    (tmp_path / "other" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError, match="expected weights that can be read"):
        chosen(tmp_path / "other", words=False)
