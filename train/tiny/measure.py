"""Runs every method on every held-out case and scores what it puts into the hole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from heldout import RemovalCase, ReturnCase
from tqdm import tqdm

from videopainter.metrics.consistency import appearance, likeness, object_consistency, return_consistency, visits
from videopainter.metrics.networks.perceptual import clip_haarpsi
from videopainter.metrics.pixels import clip_psnr, clip_ssim
from videopainter.models.backbones.registry import codec_of
from videopainter.pipelines.conditioning import to_uint8_frames, to_video_tensor
from videopainter.vision.edge_matching import match_edges
from videopainter.vision.fillers import BASELINES

FIDELITY = {"PSNR": clip_psnr, "SSIM": clip_ssim, "HaarPSI": clip_haarpsi}
OBJECT_CONSISTENCY, CONSISTENCY, LIKENESS = "object consistency", "consistency", "likeness to truth"

ALONE, BRANCH = "backbone alone", "with branch"
GIVEN = ", first frame given"
MATCHED = ", edges matched"
THROUGH_VAE = "truth through the VAE"

NO_ADAPTER, TRUTH, OTHER, TELEA = "no adapter", "truth", "truth, then another clip's object", "Telea"


@dataclass
class Scores:
    """`values[method][measure]`: a number for each of `seeds`. `pictures`: what to show of the first cases."""

    seeds: list[int] = field(default_factory=list)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    pictures: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, method: str, scores: Mapping[str, float]) -> None:
        for measure, value in scores.items():
            self.values.setdefault(method, {}).setdefault(measure, []).append(value)

    def differences(self, method: str, other: str, measure: str) -> np.ndarray:
        """Paired: what `method` has more than `other` on each clip, (N,)."""
        return np.subtract(self.values[method][measure], self.values[other][measure])

    def as_json(self) -> dict[str, Any]:
        return {"seeds": self.seeds, "values": self.values}


def adapter_name(weight: float) -> str:
    return f"ID adapter, prev_clip_weight {weight:g}"


def measure_removal(
    pipe: Any, cases: Iterable[RemovalCase], settings: dict[str, Any], *, total: int, label: str, shown: int
) -> Scores:
    """Fidelity inside the hole, frame 0 not counted (one condition is told it): see `FIDELITY`."""
    scores = Scores()
    for case in tqdm(cases, total=total, desc=label):
        results = removal_results(pipe, case, settings)
        hole = case.hole.copy()
        hole[0] = False
        for method, result in results.items():
            scores.add(method, {name: score(result, case.truth, hole) for name, score in FIDELITY.items()})
        scores.seeds.append(case.seed)
        if len(scores.pictures) < shown:
            given = {"original": case.frames, "masked": masked(case.frames, case.hole), "hole": case.hole}
            scores.pictures.append({**given, **results, "truth": case.truth})
    return scores


def removal_results(pipe: Any, case: RemovalCase, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """What every method makes of a case: uint8 (T, H, W, 3), outside the hole the input's own pixels.

    Without a first frame the model's results are also shown with their edges matched, as `--match_edges` does.
    """
    results = {name: fill(case.frames, case.hole) for name, fill in BASELINES.items()}
    for suffix, image in (("", None), (GIVEN, case.truth[0])):
        for name, scale in ((ALONE, 0.0), (BRANCH, 1.0)):
            decoded = pipe(
                prompt=case.prompt,
                video=case.frames,
                masks=case.hole,
                image=image,
                conditioning_scale=scale,
                paste_background=False,
                output_type="np",
                **settings,
            ).frames[0]
            results[name + suffix] = np.where(case.hole[..., None], decoded, case.frames)
            if image is None:
                pairs = zip(decoded, case.frames, case.hole, strict=True)
                matched = np.stack([match_edges(*frame) for frame in pairs])
                results[name + MATCHED] = np.where(case.hole[..., None], matched, case.frames)
    results[THROUGH_VAE] = through_vae(pipe.vae, case)
    return results


def through_vae(vae: Any, case: RemovalCase) -> np.ndarray:
    """The truth encoded and decoded, put into the hole: what perfect latents would give."""
    codec = codec_of(vae)
    latents = codec.encode(to_video_tensor(case.truth))
    videos = codec.decode_stream(latents.split(1, dim=1), latents.shape[1])
    decoded = np.concatenate([to_uint8_frames(video) for video in videos])
    return np.where(case.hole[..., None], decoded, case.frames)


def measure_returns(
    plain: Any,
    adapted: Any,
    cases: list[ReturnCase],
    settings: dict[str, Any],
    *,
    weights: list[float],
    first_frame: bool,
    shown: int,
) -> Scores:
    """Consistency of an object that comes back, its likeness to the true one, and PSNR in the hole, frame 0 left out.

    Next to the results stand the truth, the truth before against another clip's object after (what a change of identity
    scores), and Telea, which is told no object.
    """
    scores = Scores()
    methods: dict[str, Callable[[dict[str, Any]], Any]] = {NO_ADAPTER: lambda options: plain(**options)}
    for weight in weights:
        methods[adapter_name(weight)] = lambda options, weight=weight: adapted(**options, prev_clip_weight=weight)
    for case in tqdm(cases, desc="returning objects"):
        options = {
            "prompt": case.prompt,
            "video": case.frames,
            "masks": case.hole,
            "image": case.frames[0] if first_frame else None,
            "output_type": "np",
            **settings,
        }
        results = {TELEA: BASELINES[TELEA](case.frames, case.hole)}
        results |= {name: run(options).frames[0] for name, run in methods.items()}
        scores.seeds.append(case.seed)
        kept = object_consistency(case.frames, case.seen, case.scene)
        scores.add(TRUTH, {OBJECT_CONSISTENCY: kept, CONSISTENCY: return_consistency(case.frames, case.seen)})
        scores.add(OTHER, {CONSISTENCY: mistaken_identity(case, [other for other in cases if other is not case])})
        for method, result in results.items():
            scores.add(method, return_scores(result, case))
        if len(scores.pictures) < shown:
            scores.pictures.append({TRUTH: case.frames, "masked": masked(case.frames, case.hole), **results})
    return scores


def return_scores(result: np.ndarray, case: ReturnCase) -> dict[str, float]:
    """Measures of one long result; likeness to truth is that of the returned object, PSNR that of the whole hole."""
    back = visits(case.seen)[-1]
    hole = case.hole.copy()
    hole[0] = False
    true, painted = (appearance(frames[back], case.seen[back]) for frames in (case.frames, result))
    return {
        OBJECT_CONSISTENCY: object_consistency(result, case.seen, case.scene),
        CONSISTENCY: return_consistency(result, case.seen),
        LIKENESS: likeness(true, painted),
        "PSNR": clip_psnr(result, case.frames, hole),
    }


def mistaken_identity(case: ReturnCase, others: list[ReturnCase]) -> float:
    """Likeness of the true object before it leaves to those of other clips after their return, the mean."""
    before = visits(case.seen)[0]
    first = appearance(case.frames[before], case.seen[before])
    stays = [(other, visits(other.seen)[-1]) for other in others]
    return float(np.mean([likeness(first, appearance(o.frames[stay], o.seen[stay])) for o, stay in stays]))


def masked(frames: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The frames with a grey hole, as the branch is shown it."""
    return np.where(hole[..., None], np.uint8(127), frames)
