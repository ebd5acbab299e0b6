"""Scores of results, one file per video, made again only where something that decides them has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videopainter.data.clip import Clip
from videopainter.errors import InputError, complain
from videopainter.evaluation.options import ScoringOptions
from videopainter.evaluation.pairs import Pair
from videopainter.evaluation.players import show
from videopainter.files import fingerprint, sha256_text
from videopainter.metrics.catalog import LPIPS, METRICS
from videopainter.metrics.networks.downloads import WEIGHTS, absent, weightings_file
from videopainter.metrics.scores import VideoScores
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.record import ROW_KEYS
from videopainter.runs.results.manifest import Hasher, model_files

# Raised when the same videos would score otherwise than before.
SCORE_VERSION = 1
SCORES = "scores"  # in a run's folder: one JSON per video


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A result to be scored: the folder of its run, and how to open it beside its original (InputError: it cannot)."""

    label: str
    stem: str
    result: Path
    folder: Path
    open: Callable[[], Pair]

    @property
    def scores_file(self) -> Path:
        return self.folder / SCORES / f"{self.stem}.json"


def score_entries(entries: Sequence[Entry], scoring: Scoring, outcomes: Outcomes, *, quiet: bool) -> None:
    """Score what has no scores of these settings yet, and write what the run's folder shows of each."""
    for entry in entries:
        with outcomes.attempt(entry.label):
            pair = entry.open()
            outcomes.started = True
            scores = scoring.score(pair, entry.scores_file)
            # Here, not with the report: every process does its own.
            show(pair, entry.folder, entry.stem, scores.fingerprint, scoring.options)
            if entry.label not in outcomes.done:
                outcomes.done.append(entry.label)
            if not quiet:
                complain(f"scored: {entry.result}")


def wanted_weights(options: ScoringOptions) -> list[str]:
    """Keys of the weights that the wanted metrics need, in the table's order."""
    return [key for key in WEIGHTS if key in options.weights]


def tell_absent(ckpt: Path, keys: list[str]) -> None:
    """One line for each model whose weights are not there: what is left out, and what fetches it."""
    for key in keys:
        reason = absent(key, ckpt)
        if reason is not None:
            names = ", ".join(name for name, metric in METRICS.items() if key in metric.weights)
            complain(f"left out: {names}: {reason}")


@dataclass(kw_only=True)
class Scoring:
    """Scores pairs with one load of the metrics' models, which happens at the first pair that has no scores yet."""

    options: ScoringOptions
    device: str
    ckpt: Path
    hasher: Hasher = field(default_factory=Hasher)
    overwrite: bool = False
    _scorer: Any = None
    _weights: dict[str, str | None] | None = None

    def score(self, pair: Pair, path: Path) -> VideoScores:
        """The scores in `path`, where they are of this pair and these settings; else made and written there."""
        wanted = self.fingerprint(pair)
        known = _load(path)
        if known is not None and known.fingerprint == wanted and not self.overwrite:
            return known
        if known is not None:
            complain(f"scored anew, result or settings have changed: {pair.name}")
        scores = self._score(pair)
        scores.details["fingerprint"] = wanted
        scores.save(path)
        return scores

    def weights(self) -> dict[str, str | None]:
        """sha256 of each model that the wanted metrics need; None where it is not there."""
        if self._weights is None:
            self._weights = {key: self._digest(key) for key in wanted_weights(self.options)}
        return self._weights

    def fingerprint(self, pair: Pair) -> str:
        """What decides a pair's scores: the files' contents, how they are cut, settings, weights."""
        clip, options = pair.clip, self.options
        files = {"result": pair.files, "original": clip.files, "truth": pair.truth_files}
        recipe = {
            "version": SCORE_VERSION,
            "files": {role: self._joint(paths) for role, paths in files.items()},
            "clip": [len(clip), clip.frames.height, clip.frames.width, str(clip.fps)],
            "row": {key: clip.details[key] for key in ROW_KEYS if key in clip.details},
            "hole": mask_digest(clip),
            "prompts": [clip.prompt, pair.region_prompt],
            "borders": pair.borders,
            "options": [options.protocol, options.metrics, options.vfid_segment, options.ground_truth],
            "weights": self.weights(),
            "index": pair.index,
        }
        return fingerprint(recipe)

    def _score(self, pair: Pair) -> VideoScores:
        if self._scorer is None:
            self._scorer = self._load_scorer()
        clip = pair.clip
        scores = self._scorer.score(
            clip.frames,
            pair.results,
            clip.masks,
            index=pair.index,
            name=pair.name,
            prompt=clip.prompt,
            region_prompt=pair.region_prompt,
            truth=pair.truth,
            borders=pair.borders,
            details=details_of(pair),
        )
        add_speed(scores, pair.record, self.options.metrics)
        return scores

    def _load_scorer(self) -> Any:
        # Only now: torch.
        from videopainter.metrics.networks.models import load_models
        from videopainter.metrics.scorer import Scorer

        models = load_models(self.ckpt, wanted_weights(self.options), self.device)
        return Scorer(self.options, models, self.device)

    def _joint(self, paths: tuple[Path, ...]) -> str:
        digests = self.hasher.files(paths).values()
        return sha256_text("\n".join(digests))

    def _digest(self, key: str) -> str | None:
        if absent(key, self.ckpt) is not None:
            return None
        # A model may be one file, or the folder that its file lies in.
        roots = [self.ckpt / path for path in WEIGHTS[key].paths]
        folders = [root.parent if root.parent != self.ckpt else root for root in roots]
        files = [file for folder in folders for file in model_files(folder)]
        weightings = weightings_file() if key == LPIPS else None
        return self._joint((*files, weightings) if weightings is not None else tuple(files))


def mask_digest(clip: Clip) -> str:
    """sha256 of the masks themselves: dilation, cutting and resizing are in it."""
    digest = hashlib.sha256()
    for start in range(0, len(clip), 16):
        digest.update(clip.masks.read(start, min(start + 16, len(clip))).tobytes())
    return digest.hexdigest()


def details_of(pair: Pair) -> dict[str, Any]:
    """What reports show of a video beside its numbers."""
    clip = pair.clip
    return {
        "prompt": clip.prompt,
        "region_prompt": pair.region_prompt,
        "frames": len(clip),
        "fps": str(clip.fps),
        "height": clip.frames.height,
        "width": clip.frames.width,
        "borders": list(pair.borders),
        "result": pair.files[0].name if len(pair.files) == 1 else pair.files[0].parent.name,
        "seed": pair.record.get("seed"),
        "made_by": pair.record.get("fingerprint"),
    }


def add_speed(scores: VideoScores, record: Mapping[str, Any], metrics: list[str] | None) -> None:
    """Seconds per frame and peak memory from the JSON of a result; the reason where it has none."""
    found: dict[str, float | str] = {}
    if not record:
        found = dict.fromkeys(("seconds_per_frame", "peak_memory"), "no JSON of infer beside the result")
    else:
        seconds, frames = record.get("seconds", {}).get("inpaint"), record.get("frames")
        if record.get("resumed"):
            found["seconds_per_frame"] = "made in several pieces, after an interruption"
        else:
            found["seconds_per_frame"] = seconds / frames if seconds and frames else "not in its JSON"
        peak = record.get("peak_memory_bytes", {})
        largest = peak.get("gpu", peak.get("process"))
        found["peak_memory"] = largest / 2**30 if largest else "not in its JSON"
    for key, value in found.items():
        if metrics is not None and key not in metrics:
            continue
        if isinstance(value, str):
            scores.left_out[key] = value
        else:
            scores.per_video[key] = value


def _load(path: Path) -> VideoScores | None:
    """Scores that are there; None where there are none, or no longer readable ones."""
    if not path.is_file():
        return None
    try:
        return VideoScores.load(path)
    except InputError as error:
        complain(f"scored anew: {error}")
        return None
