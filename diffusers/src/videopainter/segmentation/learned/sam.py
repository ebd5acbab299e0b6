"""SAM 2 and SAM 3 as a session's segmenter, through transformers' video models.

Frames come one by one: upstream's inference session keeps every frame and every output, so what no later step looks
at is taken out of it after each frame. Time runs forwards in it, whichever way the video is followed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional

from videopainter.data.masks.opening import light_pixels
from videopainter.errors import InputError
from videopainter.segmentation.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt, StrokePrompt
from videopainter.segmentation.segmenter import FrameMask, FrameView, State, nothing_found

# Per channel, of values 0 to 1: SAM 2 as ImageNet's, SAM 3 about the middle.
NORMS = {
    "sam2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "sam3": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_CERTAIN = 10.0  # log odds of a mask that is given
_STROKE_POINTS = 6
_LEAST = 4  # pixels of an object
_SURE = 0.5
# What a corner of a box is called among points: upper left, lower right.
_CORNERS = (2, 3)
_OBJECT = 1


def prepare_pixels(pixels: np.ndarray, side: int, norm: str) -> torch.Tensor:
    """A frame uint8 RGB (H, W, 3) as SAM takes it: float32 (1, 3, side, side), squeezed, normalised as `NORMS` says."""
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
    if image.shape[-2:] != (side, side):
        image = functional.interpolate(image, size=(side, side), mode="bilinear", antialias=True).round().clamp(0, 255)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in NORMS[norm])
    return (image / 255 - mean) / std


class SamSegmenter:
    """A `Sam2VideoModel` or `Sam3TrackerVideoModel`, `kind` "sam2" or "sam3"."""

    def __init__(self, model: Any, kind: str) -> None:
        self.model = model.eval()
        self.kind = kind
        self.side = int(model.config.image_size)
        self.identity = f"{kind} {weights_digest(model)}"

    def pixels(self, frame: np.ndarray) -> torch.Tensor:
        """A frame uint8 RGB (H, W, 3) as the model takes it."""
        return prepare_pixels(frame, self.side, self.kind).to(self.model.device, self.model.dtype)

    def choices(self, view: FrameView, prompts: Sequence[Prompt]) -> list[np.ndarray]:
        pixels = view.pixels
        points, labels = _points(prompts)
        if 1 not in labels:
            return []
        logits, scores = self._decode(pixels, points, labels, several=True)
        order = np.argsort(-scores, kind="stable")
        return [_enlarged(logits[k], pixels.shape[:2]) > 0 for k in order]

    def solve(
        self, view: FrameView, prompts: Sequence[Prompt], *, tracked: np.ndarray | None = None, candidate: int = 1
    ) -> np.ndarray:
        """Log odds float32 (h, w), squeezed into a square; see `Segmenter.solve`."""
        pixels = view.pixels
        points, labels = _points(prompts)
        boxes = [prompt for prompt in prompts if isinstance(prompt, BoxPrompt)]
        masks = [light_pixels(prompt.file) for prompt in prompts if isinstance(prompt, MaskPrompt)]
        given: np.ndarray | None = None
        if masks:
            given = np.max([self._certain(mask) for mask in masks], axis=0)
        elif len(boxes) == 1:
            # Corners and clicks are understood together.
            corners, kinds = _corners(boxes[0])
            given = self._one(pixels, corners + points, kinds + labels)
            points, labels = [], []
        elif boxes:
            given = np.max([self._one(pixels, *_corners(box)) for box in boxes], axis=0)
        elif tracked is not None and tracked.any():
            given = self._certain(tracked)
        if points:
            if given is not None:
                given = self._one(pixels, points, labels, before=given)
            elif 1 in labels:
                logits, scores = self._decode(pixels, points, labels, several=candidate > 1 or len(points) == 1)
                order = np.argsort(-scores, kind="stable")
                given = logits[order[min(candidate, len(order)) - 1]]
        if given is None or (given > 0).sum() < _LEAST:
            raise InputError(nothing_found(prompts))
        return given.astype(np.float32)

    def follower(self) -> SamFollower:
        return SamFollower(self)

    def resumed(self, state: Mapping[str, np.ndarray]) -> SamFollower:
        return SamFollower.from_state(self, state)

    def _certain(self, mask: np.ndarray) -> np.ndarray:
        """Log odds of a mask bool (H, W) that is there, at the model's input size."""
        small = cv2.resize(mask.astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_AREA)
        return (2 * small - 1) * _CERTAIN

    def _one(
        self,
        pixels: np.ndarray,
        points: list[tuple[float, float]],
        labels: list[int],
        before: np.ndarray | None = None,
    ) -> np.ndarray:
        logits, scores = self._decode(pixels, points, labels, before=before, several=False)
        return logits[int(scores.argmax())]

    @torch.inference_mode()
    def _decode(
        self,
        pixels: np.ndarray,
        points: list[tuple[float, float]],
        labels: list[int],
        *,
        before: np.ndarray | None = None,
        several: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(Log odds (n, h, w), how good each is thought to be (n,)) for points in pixels of the frame.

        `before`: log odds of a mask that is to be corrected. Where the model sees no object, the odds are below 0.
        """
        model, device, dtype = self.model, self.model.device, self.model.dtype
        height, width = pixels.shape[:2]
        scale = torch.tensor([self.side / width, self.side / height])
        # In float32 whatever the weights are: bfloat16 knows no places between 512 and 516.
        places = (torch.tensor(points, dtype=torch.float32) * scale)[None, None].to(device)
        kinds = torch.tensor(labels, dtype=torch.int32, device=device)[None, None]
        prior = None
        if before is not None:
            size = tuple(model.prompt_encoder.mask_input_size)
            odds = torch.from_numpy(before)[None, None].float()
            prior = functional.interpolate(odds, size=size, mode="bilinear", antialias=True).to(device, dtype)
        embeddings = model.get_image_embeddings(self.pixels(pixels))
        sparse, dense = model.get_prompt_embeddings(input_points=places, input_labels=kinds, input_masks=prior)
        masks, scores, _, present = model.mask_decoder(
            image_embeddings=embeddings[-1],
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=list(embeddings[:-1]),
        )
        logits = masks[0, 0].float().cpu().numpy()
        if float(present.flatten()[0]) <= 0:
            logits = np.minimum(logits, -_CERTAIN)
        return logits, scores[0, 0].float().cpu().numpy()


class SamFollower:
    """One object, one video model, and the few outputs that its next step looks at."""

    def __init__(self, segmenter: SamSegmenter) -> None:
        self._segmenter = segmenter
        model = segmenter.model
        self._session = _session_class(model)(inference_device=model.device, dtype=model.dtype)
        self._at = 0

    def start(self, pixels: np.ndarray, anchor: np.ndarray) -> FrameMask:
        session = self._session
        number = session.obj_id_to_idx(_OBJECT)
        side = self._segmenter.side
        odds = torch.from_numpy(anchor)[None, None]
        large = functional.interpolate(odds, size=(side, side), mode="bilinear", align_corners=False)
        session.add_mask_inputs(number, 0, (large > 0).float())
        session.obj_with_new_inputs = [_OBJECT]
        found = self._run(pixels)
        # The mask that is given is the frame's, not what is left of it at the model's resolution.
        mask = _enlarged(anchor, pixels.shape[:2]) > 0
        return FrameMask(mask=mask, confidence=1.0, state=found.state)

    def step(self, pixels: np.ndarray) -> FrameMask:
        return self._run(pixels)

    def _run(self, pixels: np.ndarray) -> FrameMask:
        out = self._segmenter.model(self._session, frame=self._segmenter.pixels(pixels), frame_idx=self._at)
        logits = out.pred_masks[0, 0].float().cpu().numpy()
        score = float(out.object_score_logits.flatten()[0])
        self._forget()
        self._at += 1
        mask = _enlarged(logits, pixels.shape[:2]) > 0
        sure = believed(logits, score)
        state: State = "absent" if score <= 0 or not mask.any() else "tracked" if sure >= _SURE else "unsure"
        return FrameMask(mask=mask, confidence=sure, state=state)

    def _forget(self) -> None:
        """Takes out of upstream's session what no later step looks at."""
        session, config = self._session, self._segmenter.model.config
        session.processed_frames.clear()
        session.cache.clear_all()
        outputs = session.output_dict_per_obj[0]
        for kept in (session.point_inputs_per_obj, session.mask_inputs_per_obj, session.frames_tracked_per_obj):
            kept[0].clear()
        tracked = outputs["non_cond_frame_outputs"]
        for at in list(tracked):
            if self._at - at >= max(config.num_maskmem, config.max_object_pointers_in_encoder) - 1:
                del tracked[at]
        for at, output in (*outputs["cond_frame_outputs"].items(), *tracked.items()):
            old = at in tracked and self._at - at >= config.num_maskmem - 1
            wanted = ("object_pointer",) if old else ("object_pointer", "maskmem_features", "maskmem_pos_enc")
            for name in output.keys() - set(wanted):
                del output[name]

    def state(self) -> dict[str, np.ndarray]:
        arrays = {"at": np.array(self._at)}
        outputs = self._session.output_dict_per_obj[0]
        for group, kept in outputs.items():
            for at, output in kept.items():
                for name, value in output.items():
                    # numpy has no bfloat16, and float32 holds all of its numbers.
                    arrays[f"{group}/{at}/{name}"] = value.float().cpu().numpy()
        return arrays

    @classmethod
    def from_state(cls, segmenter: SamSegmenter, arrays: Mapping[str, np.ndarray]) -> SamFollower:
        """The follower that `state()` was taken from."""
        follower = cls(segmenter)
        follower._at = int(arrays["at"])
        session, device, dtype = follower._session, segmenter.model.device, segmenter.model.dtype
        number = session.obj_id_to_idx(_OBJECT)
        for key, value in arrays.items():
            if key.count("/") == 2:
                group, at, name = key.split("/")
                # As upstream stores them.
                kind = torch.bfloat16 if name == "maskmem_features" else dtype
                session.output_dict_per_obj[number][group].setdefault(int(at), {})[name] = torch.from_numpy(
                    np.array(value)
                ).to(device, kind)
        return follower


def believed(logits: np.ndarray, score: float) -> float:
    """0 to 1 from a mask's log odds (h, w) and the object's: is it seen, is its outline the same at other odds."""
    outer = float((logits > -1).sum())
    stable = float((logits > 1).sum()) / outer if outer else 0.0
    return stable / (1 + float(np.exp(np.clip(-score, -30, 30))))


def weights_digest(model: torch.nn.Module) -> str:
    """What tells one model's weights from another's: names, shapes, and some numbers of each tensor."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        some = tensor.detach().flatten()[:64].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(some.tobytes())
    return digest.hexdigest()[:12]


def _session_class(model: Any) -> Any:
    """Upstream's session for a model; the two families have one each, with the same parts."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession, Sam2VideoModel
    from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoInferenceSession

    return Sam2VideoInferenceSession if isinstance(model, Sam2VideoModel) else Sam3TrackerVideoInferenceSession


def _enlarged(logits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Log odds (h, w) at a frame's (H, W), as the public code enlarges them."""
    odds = torch.from_numpy(np.ascontiguousarray(logits))[None, None].float()
    return functional.interpolate(odds, size=shape, mode="bilinear", align_corners=False)[0, 0].numpy()


def _corners(box: BoxPrompt) -> tuple[list[tuple[float, float]], list[int]]:
    return [(box.x0, box.y0), (box.x1, box.y1)], list(_CORNERS)


def _points(prompts: Sequence[Prompt]) -> tuple[list[tuple[float, float]], list[int]]:
    """Clicks, and some places of strokes: (x, y) in pixels, and 1 for the object, 0 for what is not it."""
    places: list[tuple[float, float]] = []
    labels: list[int] = []
    for prompt in prompts:
        if isinstance(prompt, PointPrompt):
            places.append((prompt.x, prompt.y))
            labels.append(int(prompt.positive))
        elif isinstance(prompt, StrokePrompt):
            along = _along(prompt.places)
            places += along
            labels += [int(prompt.positive)] * len(along)
    return places, labels


def _along(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A few points, evenly spread over a line."""
    line = np.array(places, np.float64)
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    wanted = np.linspace(0, steps[-1], _STROKE_POINTS) if steps[-1] > 0 else np.zeros(1)
    return [(float(np.interp(at, steps, line[:, 0])), float(np.interp(at, steps, line[:, 1]))) for at in wanted]
