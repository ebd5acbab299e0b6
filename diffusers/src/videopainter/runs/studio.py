"""From checked jobs to files: first frames for all, then the video model, then result after result. Imports torch."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from videopainter.errors import complain
from videopainter.files import fingerprint, remove_folder, write_json
from videopainter.locks import held
from videopainter.models.backbones.leading import TokenGroup
from videopainter.pipelines.conditioning import to_uint8_frames
from videopainter.pipelines.first_frame import is_image_model
from videopainter.pipelines.loading import add_lora, load_pipeline
from videopainter.pipelines.memory import Workload
from videopainter.pipelines.placement import choose_memory
from videopainter.pipelines.streaming import inpaint_stream
from videopainter.runs.first_frames import choice_of, fill_first_frames, load_first_frame
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import Job, step_cache
from videopainter.runs.processes import Precision, torch_dtype
from videopainter.runs.propagation import copied, facts, painted_masks, write_beside_finished
from videopainter.runs.record import Stamp, make_record, make_stamp, reset_peak_memory
from videopainter.runs.results.manifest import WINDOWS_FOLDER, Hasher, begin, is_finished, manifest_path, work_dir
from videopainter.runs.results.writers import ResultWriter
from videopainter.runs.watch import Watch
from videopainter.runs.weights import weight_digests
from videopainter.runs.workload import job_crop, workloads


@dataclass
class LoadedPipeline:
    """The pipeline that was loaded last; a later run of the process that asks for just that one takes it over."""

    key: str = ""
    pipe: Any = None

    def release(self) -> None:
        """Lets it go, and a GPU's memory with it."""
        if self.pipe is not None:
            self.key, self.pipe = "", None
            gc.collect()
            torch.cuda.empty_cache()


@dataclass(kw_only=True)
class Studio:
    """Makes the results of one process, with one filler and then one pipeline for all of them.

    The jobs' plans name the same models. `position` is the line of its progress bar among those of other processes,
    `seconds` the time taken by stage; `watch` is who waits for it, `loaded` keeps the pipeline between runs;
    `token_group` are the processes that take part in its passes.
    """

    precision: Precision
    position: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    hasher: Hasher = field(default_factory=Hasher)
    watch: Watch = field(default_factory=Watch)
    loaded: LoadedPipeline = field(default_factory=LoadedPipeline)
    token_group: TokenGroup | None = None

    def make(self, jobs: Sequence[Job], outcomes: Outcomes) -> None:
        """Make every result that is not there; failures go to `outcomes`."""
        with self._timed("hash"):
            missing = self._missing(jobs, outcomes)
        outcomes.started = bool(missing or outcomes.done)
        if not missing:
            return
        if any(job.options.propagation.propagate != "off" for job, _ in missing):
            with self._timed("propagate"):
                missing = self._copy(missing, outcomes)
        works, missing = self._counted(missing, outcomes)
        with self._timed("first_frame"):
            if any(is_image_model(job.options.prompts.img_inpainting_model) for job, _ in missing):
                self.loaded.release()  # there may not be room for both
            failed = fill_first_frames(
                [job for job, _ in missing],
                self.precision,
                outcomes,
                lambda: self._load([job for job, _ in missing], works),
            )
            missing = [(job, stamp) for job, stamp in missing if job not in failed]
        if not missing:
            return
        with self._timed("load"):
            pipe = self._load([job for job, _ in missing], works)
        for job, stamp in missing:
            with outcomes.attempt(job.label), held(job.output):
                if is_finished(job.output, stamp.fingerprint, overwrite=False):
                    remove_folder(work_dir(job.output))  # another process made it meanwhile
                else:
                    self._make_one(pipe, job, stamp)
                outcomes.done.append(job.label)

    def _missing(self, jobs: Sequence[Job], outcomes: Outcomes) -> list[tuple[Job, Stamp]]:
        """The jobs without a finished result, with the stamps it will carry; their work folders are marked."""
        missing = []
        for job in jobs:
            output = job.options.output
            with outcomes.attempt(job.label):
                clip = job.sample.open()
                stamp = make_stamp(job, clip, self.precision, self.hasher)
                with held(job.output):
                    if not is_finished(job.output, stamp.fingerprint, overwrite=output.overwrite):
                        begin(job.output, stamp.fingerprint)
                        missing.append((job, stamp))
                        continue
                    complain(f"finished already: {job.output}")
                    write_beside_finished(job)
                outcomes.done.append(job.label)
        return missing

    def _copy(self, missing: Sequence[tuple[Job, Stamp]], outcomes: Outcomes) -> list[tuple[Job, Stamp]]:
        """What other frames show is copied first; from here on such a job's sample is the clip with that in it."""
        done = []
        for job, stamp in missing:
            if job.options.propagation.propagate == "off":  # among edits some remove and others do not
                done.append((job, stamp))
                continue
            with outcomes.attempt(job.label), held(job.output):
                copied(job, self.watch)
                sample = replace(job.sample, open=partial(copied, job))
                done.append((replace(job, sample=sample, whole=job.sample), stamp))
        return done

    def _counted(
        self, missing: Sequence[tuple[Job, Stamp]], outcomes: Outcomes
    ) -> tuple[list[Workload], list[tuple[Job, Stamp]]]:
        """What the jobs ask of a GPU's memory, and those that could be counted.

        Raises:
            ValueError: in one line, where no memory mode fits; before a filler works for minutes.
        """
        if not self.precision.device.startswith("cuda"):  # nothing to choose
            return [], [*missing]
        works, failed = workloads([job for job, _ in missing], outcomes)
        counted = [(job, stamp) for job, stamp in missing if job not in failed]
        if counted and self.loaded.key != self._key([job for job, _ in counted], works):
            self.loaded.release()
        if counted and self.loaded.pipe is None and counted[0][0].options.model.memory == "auto":
            weights, model = counted[0][0].plan.weights, counted[0][0].options.model
            choose_memory(
                Path(weights.model_path),
                weights.inpainting_branch,
                [path for path in (weights.id_adapter, weights.lora) if path is not None],
                workloads=works,
                itemsize=torch_dtype(self.precision.dtype).itemsize,
                quantization=model.quantization,
                free=torch.cuda.mem_get_info(self.precision.device)[0],
            )
        return works, counted

    def _load(self, jobs: Sequence[Job], works: Sequence[Workload]) -> Any:
        options, weights = jobs[0].options, jobs[0].plan.weights
        model, key = options.model, self._key(jobs, works)
        if self.loaded.key == key:
            return self.loaded.pipe
        self.loaded.release()
        transformers_logging.disable_progress_bar()  # of loading weights: gone before it is read
        if options.output.quiet:
            diffusers_logging.disable_progress_bar()
        pipe = load_pipeline(
            weights.model_path,
            inpainting_branch=weights.inpainting_branch,
            id_adapter=weights.id_adapter,
            dtype=torch_dtype(self.precision.dtype),
            memory=model.memory,
            quantization=model.quantization,
            compile=model.compile,
            cache=step_cache(options),
            device=self.precision.device,
            scheduler=options.sampling.scheduler,
            workloads=works,
            extra_adapters=[] if weights.lora is None else [weights.lora],
            token_group=self.token_group,
        )
        if weights.lora is not None:
            add_lora(pipe, weights.lora)
        self.loaded.key, self.loaded.pipe = key, pipe
        return pipe

    def _key(self, jobs: Sequence[Job], works: Sequence[Workload]) -> str:
        """What a loaded pipeline depends on. On a GPU that is also what it will do, by which memory is shared out."""
        options, weights = jobs[0].options, jobs[0].plan.weights
        cache = step_cache(options)
        facts = {
            "weights": weight_digests(weights.roles(), self.hasher),
            "model": asdict(options.model),
            "precision": asdict(self.precision),
            "scheduler": options.sampling.scheduler,
            "cache": None if cache is None else asdict(cache),
            "works": sorted(map(repr, works)),
        }
        return fingerprint(facts)

    def _make_one(self, pipe: Any, job: Job, stamp: Stamp) -> None:
        """Inpaint one clip; the JSON and then the end of the work folder tell that all of it is there."""
        clip, options = job.sample.open(), job.options
        whole = clip if job.whole is None else job.whole.open()
        masks = None if job.whole is None else painted_masks(options.propagation, whole, clip)
        crop = job_crop(job, clip)
        cropped = not crop.covers(clip.frames.height, clip.frames.width)
        resumed = any((work_dir(job.output) / WINDOWS_FOLDER).glob("*.safetensors"))
        reset_peak_memory(self.precision.device)
        if not options.output.quiet:
            height, width = job.settings.working_size(pipe.backbone.facts, crop.height, crop.width)
            seen = f" on a crop of {crop.width}x{crop.height}" if cropped else ""
            rate = f"{float(clip.fps):.4g} frames per second"
            steps = f"{job.settings.num_denoising_steps} steps, guidance {job.settings.guidance_scale:g}"
            complain(f"{job.label}: {len(clip)} frames, {rate}; the model works at {width}x{height}{seen}, {steps}")
        pipe.set_progress_bar_config(desc=job.label, disable=options.output.quiet, position=self.position)
        with self._timed("inpaint"):
            chunks = inpaint_stream(
                pipe,
                clip.frames,
                clip.masks if masks is None else masks.seen,
                settings=job.settings,
                prompt={0: clip.prompt, **job.plan.prompts_at},
                negative_prompt=options.prompts.negative_prompt,
                first_frame=load_first_frame(job, clip),
                paste_masks=None if masks is None else masks.pasted,
                crop=crop,
                work_dir=work_dir(job.output) / WINDOWS_FOLDER,
                fingerprint=stamp.fingerprint,
                on_steps=partial(self.watch.at, "inpaint"),
                on_window=None if self.watch.on_preview is None else partial(self._preview, pipe),
                interrupted=self.watch.interrupted,
            )
            with ResultWriter(job.output, whole, options.output, None if masks is None else clip.masks) as writer:
                for chunk in chunks:
                    writer.write(chunk)
                    self.watch.at("write", writer.beside.done, len(clip))
        pipe.maybe_free_model_hooks()
        record = make_record(job, clip, stamp, self.precision, self.seconds, self.hasher)
        record |= {"crop": crop.summary()} if cropped else {}
        # The time of a resumed result is that of its last part only.
        write_json(manifest_path(job.output), record | {"resumed": resumed} | facts(job) | choice_of(job), indent=2)
        remove_folder(work_dir(job.output))
        if not options.output.quiet:
            size = f"{len(clip)} frames of {clip.frames.width}x{clip.frames.height}"
            complain(f"written: {job.output} ({size}, {self.seconds['inpaint']:.0f} s)")

    def _preview(self, pipe: Any, latents: torch.Tensor) -> None:
        """Shows the middle of a window: one latent decoded on its own, a little softer than in the result."""
        assert self.watch.on_preview is not None
        middle = latents.shape[1] // 2
        piece = latents[:, middle : middle + 1].to(self.precision.device)
        for video in pipe.codec.decode_stream([piece], 1):
            self.watch.on_preview(to_uint8_frames(video)[0])

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        self.watch.at(stage)
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start
