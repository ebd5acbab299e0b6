"""The trainer: build, go on where a checkpoint ended, step, report, save."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from videopainter.data.training.sample_order import SampleOrder
from videopainter.data.training.training_set import TrainingSet, UnreadableLog
from videopainter.errors import TrainingFailed
from videopainter.files import WriteError, remove_folder, write_errors
from videopainter.models.backbones.registry import backbone_of
from videopainter.pipelines.loading import load_scheduler
from videopainter.training.cache.reader import LatentCache
from videopainter.training.checkpoints import POSITION, STATE, CheckpointFolder, Position, check_processes
from videopainter.training.ema import TrainedAverage
from videopainter.training.encoding import (
    EncodedBatch,
    ImageConditioning,
    frozen_image_encoder,
    frozen_text_encoder,
    frozen_vae,
)
from videopainter.training.engine import Engine, frozen_dtype, make_accelerator
from videopainter.training.objective import Losses, Objective
from videopainter.training.optimizers import build_lr_scheduler, build_optimizer, scaled_learning_rate
from videopainter.training.options import TrainingOptions
from videopainter.training.sources import Batches, CaptionEncoder, Encoder
from videopainter.training.tasks import Task
from videopainter.training.tracking.progress import StepMeter
from videopainter.training.tracking.trackers import Trackers
from videopainter.training.validation.clips import Encoders, ValidationClips
from videopainter.training.validation.validation import Validation
from videopainter.training.validation.videos import LiveModels

_logger = logging.getLogger("videopainter.training")
UNREADABLE_FILE = "unreadable_clips.csv"


class Trainer:
    """One training, from its flags to its last checkpoint.

    Args:
        options: Checked flags (`TrainingOptions.check`).
        task: Branch or ID adapter.
        clips: The training set, opened already.
        cache: A latent cache that fits; None: clips are encoded as they come.
    """

    def __init__(
        self, options: TrainingOptions, task: Task, clips: TrainingSet, cache: LatentCache | None = None
    ) -> None:
        self.options, self.task, self.clips, self.cache = options, task, clips, cache
        self.accelerator: Accelerator = make_accelerator(options)
        self.checkpoints = CheckpointFolder(options.output_dir, options.run.checkpoints_total_limit)
        self.position = Position()
        self.order = self._order()
        self.total_steps = self._total_steps()
        self.engine = self._engine()
        self.scheduler = load_scheduler(options.model.pretrained_model_name_or_path)
        adapter = options.adapter if self.engine.bare.id_form else None
        self.objective = Objective(
            backbone_of(self.engine.bare.transformer), self.scheduler, options.condition, adapter
        )
        self.average = self._average() if options.ema.use_ema else None
        self.encoder = self._encoder() if cache is None else None

    # -- building

    def _order(self) -> SampleOrder:
        rows = self.clips.rows
        if self.cache is not None:
            cached = set(self.cache.rows)
            rows = [row for row in rows if row in cached]
        accelerator, data = self.accelerator, self.options.data
        return SampleOrder(
            rows,
            self.options.run.train_batch_size,
            accelerator.num_processes,
            accelerator.process_index,
            data.seed,
            data.mix_train_ratio,
        )

    def _total_steps(self) -> int:
        run = self.options.run
        per_epoch = math.ceil(self.order.batches_per_epoch / run.gradient_accumulation_steps)
        return run.max_train_steps or per_epoch * run.num_train_epochs

    def _engine(self) -> Engine:
        model = self.task.build(self.options, frozen_dtype(self.options.model))
        options, run = self.options.optimizer, self.options.run
        rate = scaled_learning_rate(
            options,
            batch_size=run.train_batch_size,
            num_processes=self.accelerator.num_processes,
            accumulation=run.gradient_accumulation_steps,
        )
        model.to(self.accelerator.device)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = build_optimizer(trained, options, learning_rate=rate)
        schedule = build_lr_scheduler(optimizer, options, num_training_steps=self.total_steps)
        return Engine(self.accelerator, model, optimizer, schedule, max_grad_norm=options.max_grad_norm)

    def _average(self) -> TrainedAverage:
        masters = self.engine.masters if self.engine.is_deepspeed else None
        return TrainedAverage(self.engine.bare.named_parameters(), self.options.ema, masters)

    def _encoder(self) -> Encoder:
        model, device = self.options.model, self.accelerator.device
        dtype = frozen_dtype(model)
        path = model.pretrained_model_name_or_path
        vae = frozen_vae(path, dtype, slicing=model.enable_slicing, tiling=model.enable_tiling).to(device)
        tokenizer, text_encoder = frozen_text_encoder(path, dtype)
        backbone = backbone_of(self.engine.bare.transformer)
        length = model.max_text_seq_length or backbone.facts.text_tokens
        captions = CaptionEncoder(backbone, tokenizer, text_encoder.to(device), length)
        return Encoder(
            vae,
            captions,
            seed=self.options.data.seed,
            hole_fill=float(self.engine.bare.branch.config.hole_fill),
            images=ImageConditioning.of(
                backbone, frozen_image_encoder(path, dtype, device), halves=self.objective.prev_clip_prob > 0
            ),
        )

    # -- running

    def run(self) -> None:
        """Train until `total_steps`; every process calls this."""
        self._resume()
        options, main = self.options, self.accelerator.is_main_process
        device = self.accelerator.device
        meter = StepMeter(total_steps=self.total_steps, start_step=self.position.step, device=device)
        bar = tqdm(
            total=self.total_steps, initial=self.position.step, desc=self.task.name, unit="step", disable=not main
        )
        trackers = Trackers(
            options.tracker,
            output_dir=options.output_dir,
            config=options.flat(),
            is_main=main,
            start_step=self.position.step,
        )
        validation = build_validation(self, trackers) if options.validation.enabled else None
        with trackers, bar:
            self._train(meter, bar, trackers, validation)

    def _train(self, meter: StepMeter, bar: Any, trackers: Trackers, validation: Validation | None) -> None:
        batches = self._batches()
        if self.position.step == 0:
            self._validate(validation, meter, trackers)
        sums = torch.zeros(3, device=self.accelerator.device)
        counted, saved = 0, self.position.step
        while self.position.step < self.total_steps:
            losses, norm, clips = self._step(batches)
            sums += torch.stack([losses.full, losses.masked, norm])
            counted += 1
            meter.step(clips=clips, frames=clips * self.options.data.max_num_frames)
            bar.update()
            step = self.position.step
            if step % self.options.tracker.logging_steps == 0 or step == self.total_steps:
                self._report(sums / counted, meter, bar, trackers)
                sums.zero_()
                counted = 0
            if self._due(step):
                with meter.pause():
                    if counted:
                        self._means(sums / counted)  # weights that are no numbers must not push out good ones
                    self.save()
                saved = step
            self._validate(validation, meter, trackers)
        if saved < self.position.step:
            self.save()

    def _validate(self, validation: Validation | None, meter: StepMeter, trackers: Trackers) -> None:
        """Validate where it is due, with the averaged weights where there are such."""
        step = self.position.step
        epoch = self.position.samples // len(self.clips)
        if validation is None or not validation.due(step, epoch):
            return
        with (
            meter.pause(),
            self.average.swap_in(self.engine.drop_gathered) if self.average is not None else nullcontext(),
        ):
            trackers.log(validation.run(step, self.engine.model), step)

    def _due(self, step: int) -> bool:
        every = self.options.run.checkpointing_steps
        return every > 0 and step % every == 0

    def _step(self, batches: Iterator[EncodedBatch]) -> tuple[Losses, torch.Tensor, int]:
        """One optimizer step; losses are means over its batches, and stay on the device."""
        engine, accumulation = self.engine, self.options.run.gradient_accumulation_steps
        norm, seen, parts = torch.zeros((), device=self.accelerator.device), 0, []
        for _ in range(accumulation):
            batch = next(batches)
            with self.accelerator.accumulate(engine.model):
                losses = self.objective.training_losses(engine.model, batch, self.options.data.seed, self.position.step)
                found = engine.backward(self.objective.total(losses))
            norm = norm if found is None else found.detach().to(norm)
            parts.append(torch.stack([losses.full.detach(), losses.masked.detach()]))
            seen += len(batch.keys)
        if self.average is not None:
            self.average.step()
        seen *= self.accelerator.num_processes
        self.position = Position(self.position.step + 1, self.position.samples + seen)
        return Losses(*torch.stack(parts).mean(dim=0)), norm, seen

    def _report(self, means: torch.Tensor, meter: StepMeter, bar: Any, trackers: Trackers) -> None:
        loss, full, masked, norm = self._means(means)
        progress = meter.read()
        rate = self.engine.learning_rate
        bar.set_postfix(loss=f"{loss:.4f}", **progress.postfix())
        metrics = {"loss": loss, "loss_full": full, "loss_masked": masked, "grad_norm": norm, "lr": rate}
        trackers.log(metrics | progress.metrics(), self.position.step)

    def _means(self, means: torch.Tensor) -> tuple[float, float, float, float]:
        """Loss, its two parts and the gradients' norm over all processes; TrainingFailed if the loss is no number.

        Reports and checkpoints come through here: only there the host waits for the device.
        """
        full, masked, norm = self.accelerator.reduce(means, "mean").tolist()
        loss = full + self.options.condition.inpainting_loss_weight * masked
        if not math.isfinite(loss):
            last = next(iter(self.checkpoints), None)
            raise TrainingFailed(
                f"the loss is {loss} at step {self.position.step}; the last checkpoint is {last or 'none'}"
            )
        return loss, full, masked, norm

    def _batches(self) -> Iterator[EncodedBatch]:
        per_batch = self.options.run.train_batch_size * self.accelerator.num_processes
        index = self.accelerator.process_index
        name = UNREADABLE_FILE if index == 0 else f"{Path(UNREADABLE_FILE).stem}-{index}.csv"  # each its own clips
        log = UnreadableLog(self.options.output_dir / name, self.options.run.max_unreadable_share)
        batches = Batches(
            self.order,
            self.clips,
            device=self.accelerator.device,
            encode=self.encoder,
            cache=self.cache,
            num_workers=self.options.run.dataloader_num_workers,
            on_unreadable=lambda replaced, tried: log.add(replaced, tried=tried),
        )
        return batches.start(self.position.samples // per_batch)

    # -- checkpoints

    def save(self) -> None:
        """Write `checkpoint-N`; every process calls this."""
        step, accelerator = self.position.step, self.accelerator
        if accelerator.is_main_process:
            self.checkpoints.begin(step)
        accelerator.wait_for_everyone()
        folder = self.checkpoints.partial(step)
        extra = {} if self.average is None else {"average": self.engine.whole_state(self.average.state_dict())}
        try:
            with write_errors(folder):
                self.engine.save_state(folder / STATE, extra=extra)
                self._write_weights(folder)
        except WriteError:
            remove_folder(folder)  # half a checkpoint is of no use, and room is what lacks
            raise
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            position = {"step": step, "samples": self.position.samples, "options": self.options.flat()}
            self.checkpoints.finish(step, position)
        accelerator.wait_for_everyone()

    def _write_weights(self, folder: Any) -> None:
        """The trained weights (their average, where one is kept) as the release lays them out."""
        bare = self.engine.bare
        exported = self.task.exported(bare)
        if self.average is not None:
            exported = {name: self.average.of(tensor) for name, tensor in exported.items()}
        state = self.engine.whole_state(exported)
        if self.accelerator.is_main_process:
            self.task.write(bare, state, folder)

    def _resume(self) -> None:
        wanted = self.options.run.resume_from_checkpoint
        if not wanted:
            return
        found: list[Any] = [None]
        if self.accelerator.is_main_process:
            found = [self.checkpoints.find(wanted, _logger.warning)]
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast_object_list(found)
        checkpoint = found[0]
        if checkpoint is None:
            _logger.warning("no checkpoint to go on from in %s: starting anew", self.options.output_dir)
            return
        # Where the latest is damaged this is an older one than was looked at before the models were loaded.
        check_processes(checkpoint, self.accelerator.num_processes)
        extra = self.engine.load_state(checkpoint / STATE)
        if self.average is not None and "average" in extra:
            self.average.load_state_dict(extra["average"])
        self.position = Position.read(checkpoint)
        _logger.info("going on from %s (%s)", checkpoint, POSITION)


def build_validation(trainer: Trainer, trackers: Trackers) -> Validation:
    """The validation of a training, on its live modules."""
    options, bare, accelerator = trainer.options, trainer.engine.bare, trainer.accelerator
    chosen, encoder = options.validation, trainer.encoder
    backbone = backbone_of(bare.transformer)
    clips = ValidationClips(
        backbone,
        TrainingSet(chosen.set_options(options.data)),
        chosen.num_clips,
        encoders=_live_encoders(encoder) if encoder is not None else _encoder_loader(options, accelerator),
        cache=LatentCache(chosen.val_latent_cache) if chosen.val_latent_cache else None,
        seed=chosen.validation_seed,
        hole_fill=float(bare.branch.config.hole_fill),
        max_text_seq_length=options.model.max_text_seq_length or backbone.facts.text_tokens,
        device=accelerator.device,
    )
    models = LiveModels(
        transformer=bare.transformer,
        scheduler=trainer.scheduler,
        branch=bare.branch,
        id_adapter=trainer.task.adapter(bare),
    )
    return Validation(
        chosen,
        models=models,
        clips=clips,
        objective=trainer.objective,
        accelerator=accelerator,
        trackers=trackers,
        output_dir=options.output_dir,
        settings=chosen.inpaint_settings(mask_add=bare.mask_add, add_first=bare.add_first),
        fps=Fraction(options.data.fps).limit_denominator(1001) or 8,
    )


def _live_encoders(encoder: Encoder) -> Encoders:
    return Encoders(
        vae=encoder.vae,
        images=None if encoder.images is None else encoder.images.encoder,
        tokenizer=encoder.captions.tokenizer,
        text_encoder=encoder.captions.text_encoder,
    )


def _encoder_loader(options: TrainingOptions, accelerator: Accelerator) -> Any:
    """Loads VAE and encoders for as long as a validation lasts, where the flags ask for it."""
    if not options.validation.validation_load_models:
        return None
    model, dtype = options.model, frozen_dtype(options.model)
    path = model.pretrained_model_name_or_path

    def load(text: bool) -> Encoders:
        vae = frozen_vae(path, dtype, slicing=model.enable_slicing, tiling=model.enable_tiling)
        images = frozen_image_encoder(path, dtype, accelerator.device)
        tokenizer, text_encoder = frozen_text_encoder(path, dtype) if text else (None, None)
        if text_encoder is not None:
            text_encoder.to(accelerator.device)
        return Encoders(vae=vae, images=images, tokenizer=tokenizer, text_encoder=text_encoder)

    return load
