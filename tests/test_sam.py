"""SAM 2 and SAM 3 as segmenters: the real classes, tiny, with random weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

from videopainter.data.clip import ArrayFrames
from videopainter.errors import InputError
from videopainter.segmentation.learned.original import (
    convert_original,
    load_original,
    original_config,
    transformers_name,
)
from videopainter.segmentation.learned.sam import SamSegmenter, prepare_pixels
from videopainter.segmentation.prompts import BoxPrompt, MaskPrompt, PointPrompt, StrokePrompt, TrackedObject
from videopainter.segmentation.segmenter import FrameView
from videopainter.segmentation.session import Session

TABLE = Path(__file__).parent / "sam2_checkpoints.txt"
SIDE = 64


def published(size, version):
    """{name: shape} of one of SAM 2's own checkpoints."""
    shapes, section = {}, ""
    for line in TABLE.read_text().splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif not line.startswith("#") and section in ("all", size, *(["sam2.1"] if version == "2.1" else [])):
            name, _, shape = line.partition(" ")
            sizes = tuple(int(number) for number in shape.split("x"))
            for full in expanded(name):
                shapes[full] = sizes
    return shapes


def expanded(name):
    found = re.search(r"\[([\d,-]+)\]", name)
    if found is None:
        return [name]
    numbers = []
    for part in found[1].split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return [name[: found.start()] + str(number) + name[found.end() :] for number in numbers]


def tiny_config(**changes):
    trunk = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "blocks_per_stage": [1, 2, 2, 1],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "global_attention_blocks": [4],
        "window_size_per_stage": [4, 4, 4, 2],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": trunk,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 128,
    }
    decoder = {"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    small = {
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [4, 4],
        "memory_encoder_hidden_size": 128,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": 128,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 32,
    }
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config=decoder,
        image_size=SIDE,
        **{**small, **changes},
    )


def tiny_sam2(seed=0):
    """Weights large enough that masks depend on what is seen, and an object that is always thought to be there."""
    torch.manual_seed(seed)
    model = Sam2VideoModel(tiny_config()).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.15 * torch.randn_like(tensor))
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(6.0)
        # One table in SAM 2's own code, two in transformers'.
        positions = model.shared_image_embedding.positional_embedding
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(positions)
    return model


@pytest.fixture(scope="module")
def segmenter():
    return SamSegmenter(tiny_sam2(), "sam2")


@pytest.fixture(scope="module")
def frames():
    """A light square that moves to the right over noise, uint8 (12, 48, 72, 3)."""
    video = np.random.default_rng(0).integers(0, 60, (12, 48, 72, 3), dtype=np.uint8)
    for t, frame in enumerate(video):
        frame[14:34, 6 + 3 * t : 26 + 3 * t] = (230, 200, 90)
    return video


def view_of(frames, number=0):
    return FrameView(read=lambda k: frames[k], number=number, length=len(frames))


@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
@pytest.mark.parametrize("version", ["2", "2.1"])
def test_every_published_size_is_converted_whole(size, version):
    shapes = published(size, version)
    with torch.device("meta"):
        wanted = Sam2VideoModel(original_config(shapes)).state_dict()
        found = convert_original({name: torch.empty(shape) for name, shape in shapes.items()})
    assert {name: tensor.shape for name, tensor in wanted.items()} == {n: tensor.shape for n, tensor in found.items()}


def original_tensors(model, shapes):
    """A model's weights under SAM 2's own names."""
    tensors, own = model.state_dict(), {}
    for name in shapes:
        point = re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.(\d)\.weight", name)
        if point:
            number = int(point[1])
            own[name] = tensors["prompt_encoder.point_embed.weight"][number : number + 1].clone()
        else:
            own[name] = tensors[transformers_name(name)].clone()
    return own


def test_an_original_checkpoint_gives_the_same_model(tmp_path, monkeypatch):
    shapes = published("tiny", "2.1")
    shapes = {name: shape for name, shape in shapes.items() if not re.search(r"trunk\.blocks\.(?![0-5]\.)", name)}
    shapes = {name: shape for name, shape in shapes.items() if not re.search(r"memory_attention\.layers\.[123]", name)}
    model = tiny_sam2()
    # Which blocks change the width: the tiny trunk's are others than the published ones.
    names = [name for name in shapes if "trunk.blocks" not in name or ".proj." not in name or "attn" in name]
    names += [f"image_encoder.trunk.blocks.{k}.proj.{part}" for k in (1, 3, 5) for part in ("weight", "bias")]
    own = original_tensors(model, names)
    assert len(own) == len(model.state_dict()) + 2  # four point embeddings, and one table of positions for two
    torch.save({"model": own}, tmp_path / "sam2.1_hiera_none.pt")
    monkeypatch.setattr("videopainter.segmentation.learned.original.original_config", lambda shapes: tiny_config())
    again = load_original(tmp_path / "sam2.1_hiera_none.pt")
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)
    pixels = prepare_pixels(np.full((48, 72, 3), 90, np.uint8), SIDE, "sam2")
    for a, b in zip(model.get_image_embeddings(pixels), again.get_image_embeddings(pixels), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_another_file_is_told_in_a_line(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"no checkpoint")
    torch.save({"state_dict": {}}, tmp_path / "b.pt")
    torch.save({"model": {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(10, 3, 7, 7)}}, tmp_path / "c.pt")
    for name in ("a.pt", "b.pt", "c.pt", "none.pt"):
        with pytest.raises(InputError, match="expected a checkpoint of SAM 2") as error:
            load_original(tmp_path / name)
        assert "\n" not in str(error.value)


def test_frames_come_as_the_model_wants_them():
    frame = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    pixels = prepare_pixels(frame, SIDE, "sam2")
    assert pixels.shape == (1, 3, SIDE, SIDE)
    white = prepare_pixels(np.full((10, 20, 3), 255, np.uint8), SIDE, "sam3")
    torch.testing.assert_close(white, torch.ones_like(white))
    same = prepare_pixels(frame[:48, :48], 48, "sam3")[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(same * 127.5 + 127.5, frame[:48, :48], atol=1e-3)


def test_streaming_gives_what_upstreams_whole_session_gives(segmenter, frames):
    """Nothing that is taken out of the session is missed: upstream's own loop over a whole video, all kept."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    model = segmenter.model
    long = np.concatenate([frames, frames[::-1]])
    video = torch.cat([prepare_pixels(frame, SIDE, "sam2") for frame in long])
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 18:46, 6:24] = 1
    whole = Sam2VideoInferenceSession(video=video, dtype=torch.float32)
    number = whole.obj_id_to_idx(1)
    whole.add_mask_inputs(number, 0, mask)
    whole.obj_with_new_inputs = [1]
    expected = [out.pred_masks[0, 0] for out in model.propagate_in_video_iterator(whole, start_frame_idx=0)]
    follower = segmenter.follower()
    follower.start(long[0], (mask[0, 0].numpy() * 20 - 10).astype(np.float32))
    logits = []
    forward = model.forward

    def listened(*args, **kwargs):
        out = forward(*args, **kwargs)
        logits.append(out.pred_masks[0, 0])
        return out

    model.forward = listened
    try:
        masks = [follower.step(frame) for frame in long[1:]]
    finally:
        del model.forward
    assert len({found.mask.tobytes() for found in masks}) > 5, "masks depend on what is seen"
    for a, b in zip(logits, expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def held_bytes(follower):
    session = follower._session
    assert not session.processed_frames and not session.frames_tracked_per_obj[0] and not session.mask_inputs_per_obj[0]
    outputs = session.output_dict_per_obj[0].values()
    return sum(v.numel() * v.element_size() for group in outputs for out in group.values() for v in out.values())


def test_what_is_held_does_not_grow(segmenter, frames):
    follower = segmenter.follower()
    follower.start(frames[0], np.where(np.indices((SIDE, SIDE))[1] < 20, 10, -10).astype(np.float32))
    held = []
    for step in range(62):
        follower.step(frames[step % 12])
        held.append(held_bytes(follower))
    assert held[20] == held[-1] and len(set(held[20:])) == 1
    tracked = follower._session.output_dict_per_obj[0]["non_cond_frame_outputs"]
    assert len(tracked) == 15 and sum("maskmem_features" in out for out in tracked.values()) == 6


def test_prompts_give_masks(segmenter, frames, tmp_path):
    view = view_of(frames)
    click = PointPrompt(frame=0, x=16, y=24)
    choices = segmenter.choices(view, [click])
    assert len(choices) == 3 and all(choice.shape == (48, 72) for choice in choices)
    solved = [segmenter.solve(view, [click], candidate=k) for k in (1, 2, 3)]
    assert not np.array_equal(solved[0], solved[1]) and not np.array_equal(solved[1], solved[2])
    box = segmenter.solve(view, [BoxPrompt(frame=0, x0=6, y0=14, x1=26, y1=34)])
    both = segmenter.solve(
        view, [BoxPrompt(frame=0, x0=6, y0=14, x1=26, y1=34), PointPrompt(frame=0, x=60, y=4, positive=False)]
    )
    assert not np.array_equal(box, both)
    mask = np.zeros((48, 72), np.uint8)
    mask[14:34, 6:26] = 255
    from PIL import Image

    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = segmenter.solve(view, [MaskPrompt(frame=0, file=str(tmp_path / "mask.png"))])
    found = segmenter.follower().start(frames[0], given)
    assert (found.mask == (mask > 0)).mean() > 0.99
    corrected = segmenter.solve(
        view, [StrokePrompt(frame=0, places=((8, 20), (20, 30)), positive=False)], tracked=mask > 0
    )
    other = segmenter.solve(view, [StrokePrompt(frame=0, places=((8, 20), (20, 30)))], tracked=mask > 0)
    assert not np.array_equal(corrected, other)
    with pytest.raises(InputError, match="found nothing there"):
        segmenter.solve(view, [PointPrompt(frame=0, x=1, y=1, positive=False)])


def test_half_precision_gives_about_the_same_masks(segmenter, frames):
    half = SamSegmenter(tiny_sam2().to(torch.bfloat16), "sam2")
    prompts = [BoxPrompt(frame=0, x0=6, y0=14, x1=26, y1=34)]
    anchors = [one.solve(view_of(frames), prompts) for one in (segmenter, half)]
    assert ((anchors[0] > 0) == (anchors[1] > 0)).mean() > 0.97
    followers = [segmenter.follower(), half.follower()]
    for follower in followers:
        follower.start(frames[0], anchors[0])
    masks = [[follower.step(frame).mask for frame in frames[1:5]] for follower in followers]
    assert (np.array(masks[0]) == np.array(masks[1])).mean() > 0.95
    state = {name: array for name, array in followers[1].state().items()}
    again = half.resumed(state)
    np.testing.assert_array_equal(again.step(frames[5]).mask, followers[1].step(frames[5]).mask)


def test_where_the_model_sees_no_object_there_is_none(frames):
    model = tiny_sam2()
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(-50.0)
    blind = SamSegmenter(model, "sam2")
    with pytest.raises(InputError, match="found nothing there"):
        blind.solve(view_of(frames), [PointPrompt(frame=0, x=16, y=24)])
    follower = blind.follower()
    assert follower.start(frames[0], np.full((16, 16), 10, np.float32)).state == "tracked"
    found = follower.step(frames[1])
    assert found.state == "absent" and not found.mask.any()


def test_a_session_is_tracked_both_ways_and_goes_on_after_a_stop(segmenter, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("videopainter.segmentation.session._CHECKPOINT_EVERY", 3)
    things = [
        TrackedObject(id=1, prompts=(BoxPrompt(frame=5, x0=21, y0=14, x1=41, y1=34),)),
        TrackedObject(id=7, prompts=(PointPrompt(frame=0, x=60, y=40), PointPrompt(frame=8, x=30, y=20))),
    ]

    def opened(name):
        session = Session.open(tmp_path / name, "noise", ArrayFrames(frames), segmenter=segmenter)
        for thing in things:
            session.put(thing)
        return session

    whole = opened("whole")
    assert whole.track(1) and whole.track(7)
    stopped = opened("stopped")
    assert not stopped.track(1, progress=lambda done, total, frame: done < 5)
    again = opened("stopped")
    made = []
    assert again.track(1, progress=lambda done, total, frame: made.append(frame)) and again.track(7)
    assert made[0] == 8, "goes on from the checkpoint after frame 7"
    for number in (1, 7):
        masks = [session.masks([number]).read(0, 12) for session in (whole, again)]
        np.testing.assert_array_equal(*masks)
        assert set(whole.store(number).records) == set(range(12))
    other = Session.open(tmp_path / "whole", "noise", ArrayFrames(frames), segmenter=SamSegmenter(tiny_sam2(1), "sam2"))
    remade = []
    other.track(1, progress=lambda done, total, frame: remade.append(frame))
    assert len(remade) == 12, "other weights make other masks"
