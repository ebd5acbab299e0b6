"""From checked jobs to files: first frames for all, then the video model, then result after result. Imports torch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from videopainter.errors import complain
from videopainter.files import remove_folder, write_json
from videopainter.pipelines.loading import load_pipeline
from videopainter.pipelines.streaming import inpaint_stream
from videopainter.runs.first_frames import fill_first_frames, load_first_frame
from videopainter.runs.manifest import WINDOWS_FOLDER, Hasher, begin, is_finished, manifest_path, work_dir
from videopainter.runs.outcomes import Report
from videopainter.runs.plan import Job, Plan, step_cache
from videopainter.runs.processes import Precision, torch_dtype
from videopainter.runs.record import Stamp, make_record, make_stamp, reset_peak_memory
from videopainter.runs.workload import largest_workload
from videopainter.runs.writers import ResultWriter, write_missing_beside

LORA_NAME = "extra"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job to be done, of which plan, and the stamp it will carry."""

    plan: Plan
    job: Job
    stamp: Stamp


@dataclass(kw_only=True)
class Studio:
    """Makes the results of one process, with one filler and then one pipeline for all of them.

    `plan` says which models; all plans that results are made for name the same. `position` is the line of its progress
    bar among those of other processes, `seconds` the time taken by stage.
    """

    plan: Plan
    precision: Precision
    position: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    hasher: Hasher = field(default_factory=Hasher)

    def make(self, work: Sequence[tuple[Plan, Job]], report: Report) -> None:
        """Make every result that is not there; failures go to `report`."""
        with self._timed("hash"):
            orders = self._orders(work, report)
        report.started = bool(orders or report.done)
        if not orders:
            return
        with self._timed("first_frame"):
            orders = self._fill(orders, report)
        if not orders:
            return
        with self._timed("load"):
            pipe = self._load(orders)
        for order in orders:
            with report.attempt(order.job.label):
                self._make_one(pipe, order)
                report.done.append(order.job.label)

    def _orders(self, work: Sequence[tuple[Plan, Job]], report: Report) -> list[Order]:
        """Stamps the jobs, leaves out finished ones, and marks the work folders of the others."""
        orders = []
        for plan, job in work:
            output = plan.options.output
            with report.attempt(job.label):
                clip = job.sample.open()
                stamp = make_stamp(plan, job, clip, self.precision, self.hasher)
                if not is_finished(job.output, stamp.fingerprint, overwrite=output.overwrite):
                    begin(job.output, stamp.fingerprint)
                    orders.append(Order(plan=plan, job=job, stamp=stamp))
                    continue
                complain(f"finished already: {job.output}")
                write_missing_beside(job.output, clip, output)
                report.done.append(job.label)
        return orders

    def _fill(self, orders: Sequence[Order], report: Report) -> list[Order]:
        failed = fill_first_frames([(order.plan, order.job) for order in orders], self.precision, report)
        return [order for order in orders if order.job not in failed]

    def _load(self, orders: Sequence[Order]) -> Any:
        model, weights = self.plan.options.model, self.plan.weights
        if self.plan.options.output.quiet:
            diffusers_logging.disable_progress_bar()
            transformers_logging.disable_progress_bar()
        pipe = load_pipeline(
            weights.model_path,
            inpainting_branch=weights.inpainting_branch,
            id_adapter=weights.id_adapter,
            dtype=torch_dtype(self.precision.dtype),
            memory=model.memory,
            quantization=model.quantization,
            compile=model.compile,
            cache=step_cache(self.plan.options),
            device=self.precision.device,
            scheduler=self.plan.options.sampling.scheduler,
            workload=largest_workload([(order.plan, order.job) for order in orders]),
            extra_adapters=[] if weights.lora is None else [weights.lora],
        )
        if weights.lora is not None:
            add_lora(pipe, weights.lora)
        return pipe

    def _make_one(self, pipe: Any, order: Order) -> None:
        """Inpaint one clip; the JSON and then the end of the work folder tell that all of it is there."""
        job, plan = order.job, order.plan
        clip, settings = job.sample.open(), plan.settings(job.seed)
        resumed = any((work_dir(job.output) / WINDOWS_FOLDER).glob("*.safetensors"))
        reset_peak_memory(self.precision.device)
        pipe.set_progress_bar_config(desc=job.label, disable=plan.options.output.quiet, position=self.position)
        with self._timed("inpaint"):
            chunks = inpaint_stream(
                pipe,
                clip.frames,
                clip.masks,
                settings=settings,
                prompt={0: clip.prompt, **plan.prompts_at},
                negative_prompt=plan.options.prompts.negative_prompt,
                first_frame=load_first_frame(plan, job, clip),
                work_dir=work_dir(job.output) / WINDOWS_FOLDER,
                fingerprint=order.stamp.fingerprint,
            )
            with ResultWriter(job.output, clip, plan.options.output) as writer:
                for chunk in chunks:
                    writer.write(chunk)
        pipe.maybe_free_model_hooks()
        record = make_record(plan, job, clip, order.stamp, self.precision, self.seconds, self.hasher)
        # The time of a resumed result is that of its last part only.
        write_json(manifest_path(job.output), record | {"resumed": resumed}, indent=2)
        remove_folder(work_dir(job.output))
        if not plan.options.output.quiet:
            complain(f"written: {job.output}")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def add_lora(pipe: Any, path: str) -> None:
    """Load one more LoRA beside what is active: a newly loaded one would take the ID adapter's place."""
    active = pipe.get_active_adapters()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # two adapters are meant
        pipe.load_lora_weights(path, adapter_name=LORA_NAME)
    pipe.set_adapters([*active, LORA_NAME])
