"""Several filled first frames to choose from: each with a seed of its own, shown under numbers, one of them taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.captions.pictures import outlined_frame
from videopainter.data.clip import Clip
from videopainter.data.images import read_image, write_image
from videopainter.data.panels import contact_sheet
from videopainter.data.reshape import Box, box_around
from videopainter.files import fingerprint, write_json
from videopainter.pipelines.first_frame import VIDEO_MODEL, FirstFrameFiller
from videopainter.runs.plan import Job
from videopainter.runs.record import image_prompt
from videopainter.runs.results.manifest import Hasher, work_dir
from videopainter.runs.results.outputs import sheet_of
from videopainter.runs.results.writers import sheet_picture
from videopainter.runs.weights import choosing_clip, weight_digests
from videopainter.runs.workload import job_crop

_CHOICE = "first_frame_choice.json"  # in a work folder


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The candidates of a job's first frame, numbered from 1, in a folder beside its result."""

    job: Job

    @property
    def chosen(self) -> int | None:
        """The number that the user chose."""
        choice = self.job.options.prompts.choose_first_frame
        return None if choice is None or choosing_clip(choice) is not None else int(choice)

    @property
    def numbers(self) -> Sequence[int]:
        """Those that are needed: the chosen one, else all."""
        return [self.chosen] if self.chosen else range(1, self.job.options.prompts.first_frame_candidates + 1)

    def paint(self, filler: FirstFrameFiller) -> None:
        """Paint those that are needed and not there."""
        clip, seed = self.job.sample.open(), self.job.options.sampling.seed
        missing = [number for number in self.numbers if not self._file(number, clip).exists()]
        for number, picture in painted_candidates(filler, clip, seed, missing, self._part):
            write_image(self._file(number, clip), picture)

    def write_sheet(self) -> Path:
        """The frame with its hole outlined, and the candidates under their numbers, in a picture."""
        clip, path = self.job.sample.open(), sheet_of(self.job.output)
        columns = {"original": [sheet_picture(outlined_frame(clip.frames.read(0, 1)[0], clip.masks.read(0, 1)[0]))]}
        contact_sheet(
            columns | {str(number): [sheet_picture(self.read(number, clip))] for number in self.numbers}, path
        )
        return path

    def read(self, number: int, clip: Clip) -> np.ndarray:
        """A candidate, uint8 (H, W, 3)."""
        return read_image(self._file(number, clip))

    def take(self, number: int, file: Path, **facts: Any) -> None:
        """Make a candidate the first frame that waits in `file`, with a note for the result's JSON."""
        options = self.job.options
        note = {"number": number, "seed": candidate_seed(options.sampling.seed, number), **facts}
        write_json(file.with_name(_CHOICE), note)
        write_image(file, self.read(number, self.job.sample.open()))

    @cached_property
    def _filler(self) -> str:
        """As a result's recipe has it: of the weights, whatever they are called."""
        return weight_digests({"filler": self.job.options.prompts.img_inpainting_model}, Hasher())["filler"]

    @cached_property
    def _part(self) -> Box:
        return job_crop(self.job, self.job.sample.open()).box(0)

    def _file(self, number: int, clip: Clip) -> Path:
        """By what it is made of, so that another clip's or prompt's is not taken for it."""
        pixels = hashlib.sha256(clip.frames.read(0, 1).tobytes() + clip.masks.read(0, 1).tobytes()).hexdigest()
        options = self.job.options
        prompt = clip.prompt if self._filler == VIDEO_MODEL else image_prompt(clip)
        made_of = [pixels, prompt, self._filler, options.sampling.seed + number]
        if options.sampling.crop != "none":
            made_of.append(self._part)
        folder = self.job.output.with_name(f"{self.job.output.name}.first_frames")
        return folder / f"{number}_{fingerprint(made_of)[:8]}.png"


def candidate_seed(seed: int, number: int) -> int:
    """The seed of a candidate, counted from 1: the first is what a run without candidates paints."""
    return seed + number - 1


def painted_candidates(
    filler: FirstFrameFiller, clip: Clip, seed: int, numbers: Sequence[int], part: Box | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Candidates of a clip's first frame, one after the other: their number, and uint8 (H, W, 3)."""
    for number in numbers:
        yield number, filled_frame(filler, clip, candidate_seed(seed, number), part)


def filled_frame(filler: FirstFrameFiller, clip: Clip, seed: int, part: Box | None = None) -> np.ndarray:
    """The first frame with its hole filled, uint8 (H, W, 3); as it is where it has none. The filler sees `part` of it,
    which holds the hole; None: all."""
    image, mask = clip.frames.read(0, 1)[0], clip.masks.read(0, 1)[0]
    if not mask.any():
        return image
    place = (slice(None), slice(None)) if part is None else part.slices
    seen = image[place]
    prompt = clip.prompt if filler.reads_caption else image_prompt(clip)
    filled = filler.fill(seen, mask[place], prompt=prompt, seed=seed)
    if filled is None or filled.shape != seen.shape:
        raise RuntimeError(
            f"the first-frame filler gave {None if filled is None else filled.shape}, expected {seen.shape}"
        )
    whole = image.copy()
    whole[place] = filled
    return whole


class ClipChoice:
    """Chooses the candidate whose hole CLIP finds most alike to the image prompt."""

    def __init__(self, folder: Path, device: str) -> None:
        from videopainter.metrics.networks.clip_images import ClipImages

        self._model, self._device = ClipImages.load(folder, device), device

    def scores(self, candidates: Candidates) -> dict[int, float]:
        """{number: cosine of what is in and around the hole and of the prompt}."""
        import torch

        clip = candidates.job.sample.open()
        mask = clip.masks.read(0, 1)[0]
        part = (slice(None), slice(None)) if not mask.any() else box_around(mask).slices
        pictures = np.stack([candidates.read(number, clip)[part] for number in candidates.numbers])
        images = self._model.images(torch.from_numpy(pictures).permute(0, 3, 1, 2).to(self._device))
        cosines = (images @ self._model.text(image_prompt(clip))).tolist()
        return dict(zip(candidates.numbers, cosines, strict=True))


def choice_file(job: Job) -> Path:
    """Which candidate a job's first frame is, where there were several."""
    return work_dir(job.output) / _CHOICE
