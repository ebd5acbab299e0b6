"""Mistakes that the tests must notice: each is made in a copy of the code, and some test has to fail.

    python tests/mutations.py            # all, some minutes
    python tests/mutations.py mask_add   # those whose name contains a word

Runs as in a clone alone, without the reference outputs. Exit code 1 if a mistake went unnoticed.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import diffusers.pipelines.cogvideo.pipeline_cogvideox  # noqa: F401
import pytest
import transformers.models.t5.modeling_t5  # noqa: F401

REPO = Path(__file__).resolve().parents[1]
SOURCE = REPO / "diffusers" / "src"


class Mutation(NamedTuple):
    """`old` becomes `new` in `file`, below videopainter/; `tests` are those that should notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


COLOUR, AWKWARD = "data/video/conversion.py", "test_awkward_files.py"
CONDITIONS, DENOISE = "pipelines/conditioning.py", "pipelines/denoise.py"
BACKBONES, COGVIDEOX = "models/backbones", "models/backbones/cogvideox"
WAN = "models/backbones/wan_video"
WAN_IMAGE_CALL = "test_wan_images.py::test_a_new_branch_leaves_upstreams_call_as_it_is_to_the_bit"
ADAPTER, CODEC, PROCESS = f"{COGVIDEOX}/adapter.py", f"{COGVIDEOX}/codec.py", f"{COGVIDEOX}/process.py"
DENOISER = f"{BACKBONES}/denoiser.py"
STREAM, WINDOWS = "pipelines/streaming.py", "pipelines/windows.py"
OBJECTIVE, TRAINER = "training/objective.py", "training/trainer.py"
GOLDEN, LOSSES = "test_goldens.py", "test_goldens.py test_training_draws.py test_trainer.py"

MUTATIONS = [
    # Crops
    Mutation(
        "crop: a window sees where the hole was in the first frame",
        STREAM,
        "job.crop.cut(frames, start), job.crop.cut(masks, start)",
        "job.crop.cut(frames, 0), job.crop.cut(masks, 0)",
        "test_cropped_runs.py::test_a_crop_is_run_as_a_video_of_its_own",
    ),
    Mutation(
        "crop: pasted where the hole was in the first frame",
        STREAM,
        "job.crop.cut(masks, start), **how), start)",
        "job.crop.cut(masks, start), **how), 0)",
        "test_cropped_runs.py::test_a_crop_is_run_as_a_video_of_its_own",
    ),
    Mutation(
        "crop: the hole at its very edge",
        "data/crops.py",
        "height, frame[0], margin // 2)",
        "height, frame[0], -margin)",
        "test_crops.py",
    ),
    Mutation(
        "crop: a string with kinks",
        "data/crops.py",
        "bend = at + end - int(tightest)",
        "bend = at + end",
        "test_crops.py",
    ),
    Mutation(
        "crop: looked for again",
        "runs/workload.py",
        "    if file.exists():",
        "    if False:",
        "test_cropped_runs.py::test_a_run_says_what_it_saw_and_goes_on_there",
    ),
    Mutation(
        "crop: in every recipe",
        "runs/record.py",
        'if recipe.pop("crop") == "none":',
        'if recipe["crop"] == "never":',
        "test_cropped_runs.py::test_without_a_crop_nothing_of_it_is_in_the_recipe",
    ),
    # Memory
    Mutation(
        "step caches take no memory",
        "pipelines/memory.py",
        'units += sizes.num_layers if work.step_cache == "pab" else _CACHED[work.step_cache]',
        "units += 0.0",
        "test_memory.py::test_what_a_step_cache_keeps",
    ),
    Mutation(
        "the first job decides",
        "pipelines/memory.py",
        "return max(peaks), works[peaks.index(max(peaks))]",
        "return peaks[0], works[0]",
        "test_workload.py::test_the_largest_peak_decides_not_the_most_pixels",
    ),
    Mutation(
        "a stopped window keeps its caches",
        "pipelines/denoise.py",
        "        pipe._current_timestep = None\n        reset_step_caches(cached)",
        "        pipe._current_timestep = None",
        "test_step_cache.py::test_a_window_that_is_stopped_leaves_nothing_behind",
    ),
    Mutation(
        "noise levels in half precision",
        f"{COGVIDEOX}/sampler.py",
        "self.scheduler.add_noise(latents.float(), noise.float(), ",
        "self.scheduler.add_noise(latents, noise, ",
        "test_sampler.py::test_noise_levels_are_exact_in_half_precision",
    ),
    # Wrong input
    Mutation(
        "numbers that are none pass",
        "flags.py",
        "            math.isfinite(value)\n            and ",
        "            ",
        "bad_input/test_train.py::test_branch",
    ),
    Mutation(
        "ranges of flags are not looked at",
        "cli/door.py",
        "        if not allowed.holds(value):",
        "        if False:",
        "bad_input/test_data_doors.py",
    ),
    Mutation(
        "an array is read before its header is compared",
        "data/masks/opening.py",
        "        _check_fit(IdArray(path), frames, path)",
        "        IdArray(path)",
        "bad_input/test_infer.py::test_files",
    ),
    Mutation(
        "sizes of pictures are not bounded",
        "data/images.py",
        '        check_size("image", image.height, image.width, file)',
        "        pass",
        "bad_input/test_limits.py",
    ),
    Mutation(
        "rows with one cell more shift their columns",
        "data/tables.py",
        "    if not isinstance(table.index, pd.RangeIndex):",
        "    if False:",
        "bad_input/test_infer.py::test_tables",
    ),
    Mutation(
        "pipes are waited for",
        "data/tables.py",
        "    if not csv.is_file():",
        "    if not csv.exists():",
        "bad_input/test_limits.py",
    ),
    Mutation(
        "configs are not compared with weights",
        "models/config_values.py",
        "    if stored and got is not None and got != stored:",
        "    if False:",
        "bad_input/test_infer.py::test_configs",
    ),
    Mutation(
        "a tokenizer without its model passes",
        "models/config_checks.py",
        "    if not any(file.is_file() and file.stat().st_size for file in model):",
        "    if False:",
        "bad_input/test_infer.py::test_backbones",
    ),
    Mutation(
        "weights are not looked at for NaN",
        "models/finite.py",
        "        if not total.isfinite() and not",
        "        if False and not",
        "bad_input/test_numbers.py",
    ),
    Mutation(
        "results are not looked at for NaN",
        "models/finite.py",
        "    if not tensor.isfinite().all():",
        "    if False:",
        "bad_input/test_numbers.py",
    ),
    Mutation(
        "a mask that covers all is taken in silence",
        "data/masks/looks.py",
        "    if np.mean(covered) > _COVERS:",
        "    if False:",
        "bad_input/test_odd_masks.py",
    ),
    Mutation(
        "a set without clips stays in the way",
        "data/synthetic/writing.py",
        "                _clear(folder)",
        "                pass",
        "test_make_synthetic.py::test_a_run_that_drew_nothing_does_not_block_the_next",
    ),
    # Video files
    Mutation(
        "colour written between its pixels",
        COLOUR,
        '"out_chroma_loc": "left"',
        '"out_chroma_loc": "center"',
        f"{AWKWARD}::test_colour_stays_in_its_place_over_generations",
    ),
    Mutation(
        "colour rounded as swscale likes",
        COLOUR,
        "Interpolation.BILINEAR | _EXACT",
        "Interpolation.BILINEAR",
        f"{AWKWARD}::test_pictures_are_read_as_the_standards_say",
    ),
    Mutation(
        "HDR read as SDR",
        COLOUR,
        "if conversion_of(picture):\n            return self._narrowed(picture)",
        "if False:\n            pass",
        f"{AWKWARD}::test_hdr_is_mapped_to_sdr_and_said",
    ),
    Mutation(
        "HLG unknown",
        "data/video/color.py",
        '16: "PQ", 18: "HLG"',
        '16: "PQ"',
        f"{AWKWARD}::test_hdr_is_mapped_to_sdr_and_said",
    ),
    Mutation(
        "red and blue of HDR swapped",
        "data/video/tone_table.py",
        "in (red, green, blue)]",
        "in (blue, green, red)]",
        f"{AWKWARD}::test_hdr_is_mapped_to_sdr_and_said",
    ),
    Mutation(
        "a table for every HDR file",
        "data/video/tone_table.py",
        "if kind not in _TABLES:",
        "if True:",
        f"{AWKWARD}::test_a_kind_of_hdr_is_worked_out_once_whatever_the_size",
    ),
    Mutation(
        "mirrored pictures stay so",
        "data/video/display.py",
        "up=d < 0, left=a < 0",
        "up=False, left=False",
        f"{AWKWARD}::test_pictures_are_turned_and_mirrored_as_the_file_says",
    ),
    Mutation(
        "turned pictures mirrored",
        "data/video/display.py",
        "up=b < 0, left=c < 0",
        "up=c < 0, left=b < 0",
        f"{AWKWARD}::test_pictures_are_turned_and_mirrored_as_the_file_says",
    ),
    Mutation(
        "uneven frames evenly",
        "data/video/writer.py",
        "if self._times is not None:\n            stream",
        "if False:\n            stream",
        f"{AWKWARD}::test_uneven_frames_keep_their_times",
    ),
    Mutation(
        "uneven frames' times not read",
        "data/video/timeline.py",
        "return times if np",
        "return None if np",
        f"{AWKWARD}::test_uneven_frames_keep_their_times",
    ),
    Mutation(
        "decord believed",
        "data/training/decord_frames.py",
        "if errors[number] > min(",
        "if errors[number] > 1e9 + min(",
        "test_decord_frames.py::test_what_it_reads_wrong_is_read_by_pyav",
    ),
    Mutation(
        "7.1 as stereo",
        "data/video/sound.py",
        "for target in [layout, *fewer]",
        'for target in ["stereo"]',
        f"{AWKWARD}::test_sound_keeps_its_channels_and_is_announced",
    ),
    Mutation(
        "7.1 in planes",
        "data/video/sound.py",
        '_PACKED = "flt"',
        '_PACKED = "fltp"',
        f"{AWKWARD}::test_sound_keeps_its_channels_and_is_announced",
    ),
    Mutation("sound not dropped", "runs/plan.py", 'options.output.sound == "drop"', "False", "test_awkward_runs.py"),
    # Conditions
    Mutation("rotary table of upstream", ADAPTER, "(stop - start) / count", "stop / count", "test_rotary.py"),
    Mutation("mask shrinks by area", CONDITIONS, 'mode="nearest"', 'mode="area"', "test_conditioning.py"),
    Mutation("mask shrinks by nearest-exact", CONDITIONS, 'mode="nearest"', 'mode="nearest-exact"', GOLDEN),
    Mutation(
        "mask shows pixels of the hole",
        "data/reshape.py",
        "out |= np.take",
        "out &= np.take",
        "test_pipeline.py::test_masks_shrink_towards_the_hole",
    ),
    Mutation("neighbours of touched latents", CONDITIONS, "margin: int = 1", "margin: int = 0", GOLDEN),
    Mutation("a posterior's sample", CODEC, "posterior.mode()", "posterior.sample()", GOLDEN),
    Mutation("latents without their scale", CODEC, " * self.vae.config.scaling_factor", "", GOLDEN),
    Mutation(
        "image condition's scale",
        CODEC,
        "latents / self.vae.config.scaling_factor**2",
        "latents",
        "test_conditioning.py",
    ),
    Mutation("hole_fill ignored", STREAM, "branch.config.hole_fill if branch is not None else 0.0", "0.0", GOLDEN),
    Mutation("pixels cut off, not rounded", CONDITIONS, "pixels.round()", "pixels", "test_conditioning.py"),
    Mutation(
        "image condition in every frame", ADAPTER, "condition[:, : first_latent.shape[1]]", "condition[:, :]", GOLDEN
    ),
    # Windows
    Mutation(
        "image condition of another latent",
        STREAM,
        "place = window.latent_start - previous.latent_start",
        "place = 0",
        GOLDEN,
    ),
    Mutation(
        "memory of an object that left",
        STREAM,
        "memory if seen else None)",
        "memory)",
        "test_pipeline.py::test_a_window_that_sees_no_object_hands_on_the_memory_before",
    ),
    Mutation("one seed for all windows", STREAM, "job.seeds[window.index]", "job.seeds[0]", GOLDEN),
    Mutation("the run's seed ignored", STREAM, "manual_seed(settings.seed)", "manual_seed(42)", GOLDEN),
    Mutation("average at overlaps", WINDOWS, 'if mode == "linear"', 'if mode == "none"', "test_windows.py"),
    Mutation(
        "ramp the other way",
        WINDOWS,
        "*= np.arange(shared) / shared",
        "*= 1 - np.arange(shared) / shared",
        "test_windows.py",
    ),
    Mutation(
        "weights of the neighbour", STREAM, "weights[window.index][place]", "weights[window.index][-1 - place]", GOLDEN
    ),
    Mutation(
        "first frame's mask stays",
        STREAM,
        "masks = np.concatenate([np.zeros_like(masks[:1]), masks[1:]])",
        "pass",
        GOLDEN,
    ),
    # Denoising
    Mutation("guidance exponent", PROCESS, "** 5.0", "** 4.0", GOLDEN),
    Mutation("guidance always dynamic", DENOISE, "if self.settings.use_dynamic_cfg:", "if True:", GOLDEN),
    Mutation(
        "guidance halves swapped", DENOISE, "unconditional, conditional =", "conditional, unconditional =", GOLDEN
    ),
    Mutation("mask_add inverted", DENOISER, "~in_hole if", "in_hole if", GOLDEN),
    Mutation("conditioning_scale ignored", ADAPTER, "conditioning_scale=conditioning_scale, ", "", GOLDEN),
    Mutation("add_first ignored", DENOISE, "add_first=settings.add_first", "add_first=False", GOLDEN),
    Mutation("replace_gt at this step's noise", DENOISE, "noise, step + 1)", "noise, step)", GOLDEN),
    Mutation(
        "replace_gt noisy to the end",
        DENOISE,
        "noise, step + 1)",
        "noise, min(step + 1, len(steps) - 1))",
        GOLDEN,
    ),
    Mutation(
        "kept latents", DENOISE, 'settings.kept_latents == "nearest"', 'settings.kept_latents != "nearest"', GOLDEN
    ),
    Mutation(
        "strength runs the first steps",
        f"{COGVIDEOX}/sampler.py",
        "first = len(scheduler.timesteps) - last",
        "first = 0",
        GOLDEN,
    ),
    Mutation("strength starts from noise", DENOISE, "if settings.strength < 1 else", "if False else", GOLDEN),
    Mutation(
        "memory of the first step",
        DENOISE,
        "run.remember and step == len(steps) - 1",
        "run.remember and step == 0",
        GOLDEN,
    ),
    Mutation(
        "previous clip's weight",
        "models/attention.py",
        "hole_value = attn.to_v(resample.tokens).unflatten(2, heads) * resample.weight",
        "hole_value = attn.to_v(resample.tokens).unflatten(2, heads)",
        GOLDEN,
    ),
    Mutation(
        "1.5 padded at the end",
        f"{BACKBONES}/noise.py",
        "torch.cat([x[:, :1]] * count + [x], dim=1)",
        "torch.cat([x] + [x[:, -1:]] * count, dim=1)",
        GOLDEN,
    ),
    Mutation("1.5's ofs", ADAPTER, "OFS = 2.0", "OFS = 1.0", GOLDEN),
    # Training
    Mutation("image never dropped, draw", "training/draws.py", ">= dropout", ">= 0 * dropout", LOSSES),
    Mutation(
        "image never dropped, use", OBJECTIVE, "if first is not None and image_kept is not None:", "if False:", LOSSES
    ),
    Mutation("weight of the loss", PROCESS, " / (1.0 - alpha_bar)", "", LOSSES),
    Mutation("masked loss sees everything", OBJECTIVE, "(error * (batch.mask > 0)).mean()", "error.mean()", LOSSES),
    Mutation(
        "inpainting_loss_weight ignored",
        OBJECTIVE,
        "self.options.inpainting_loss_weight * losses.masked",
        "losses.masked",
        LOSSES,
    ),
    Mutation(
        "first frame without noise",
        "training/encoding.py",
        "frame + sigma * noise.to(frame)",
        "frame",
        "test_training_draws.py",
    ),
    Mutation(
        "sigma not exponential",
        "training/draws.py",
        "math.exp(-3.0 + 0.5 *",
        "abs(-3.0 + 0.5 *",
        "test_training_draws.py",
    ),
    Mutation(
        "training's hole_fill ignored",
        "training/encoding.py",
        "encode_clips(codec, video, mask, hole_fill)",
        "encode_clips(codec, video, mask)",
        "test_training_draws.py",
    ),
    Mutation(
        "timesteps of half the range",
        PROCESS,
        "if late else self.num_train_timesteps",
        "if late else self.num_train_timesteps // 2",
        LOSSES,
    ),
    Mutation("one noise for all samples", "training/draws.py", "key.epoch, key.row,", "key.epoch, 0,", LOSSES),
    Mutation(
        "scale_lr ignored",
        TRAINER,
        "learning_rate=rate",
        "learning_rate=options.learning_rate",
        "test_trainer.py::test_the_learning_rate_counts_the_clips_of_a_step",
    ),
    Mutation(
        "gradients not clipped",
        TRAINER,
        "max_grad_norm=options.max_grad_norm",
        "max_grad_norm=0.0",
        "test_trainer.py::test_gradients_are_clipped",
    ),
    Mutation(
        "average never updated",
        TRAINER,
        "self.average.step()",
        "pass",
        "test_trainer.py::test_what_is_saved_is_the_average",
    ),
    Mutation(
        "average not saved",
        TRAINER,
        "{name: self.average.of(tensor) for name, tensor in exported.items()}",
        "exported",
        "test_trainer.py::test_what_is_saved_is_the_average",
    ),
    Mutation(
        "average not validated",
        TRAINER,
        "self.average.swap_in(self.engine.drop_gathered) if self.average is not None else nullcontext()",
        "nullcontext()",
        "test_trainer.py::test_what_is_validated_is_the_average",
    ),
    Mutation(
        "averages stay gathered behind validation",
        "training/engine.py",
        "module.reshard()",
        "pass",
        "test_sharded_training.py::test_two_processes_train_validate_and_save[fsdp2-branch]",
    ),
    Mutation(
        "average of rounded copies",
        "training/ema.py",
        "if self._masters is not None:",
        "if False:",
        "test_ema.py",
    ),
    Mutation(
        "DeepSpeed sums in bf16",
        "training/engine.py",
        '{"grad_accum_dtype": "fp32"}',
        "{}",
        "test_sharded_training.py::test_two_processes_train_validate_and_save[zero3-id_adapter]",
    ),
    Mutation(
        "validation past the wrapper",
        "training/validation/validation.py",
        "model(within=make)",
        "make()",
        "test_sharded_training.py::test_two_processes_train_validate_and_save[fsdp2-branch]",
    ),
    Mutation(
        "captions never dropped",
        "data/training/training_set.py",
        "< self.options.proportion_empty_prompts:",
        "< 0:",
        "test_training_data.py",
    ),
    # Evaluation
    Mutation(
        "weights not in a score's fingerprint",
        "evaluation/scoring.py",
        '            "weights": self.weights(),\n',
        "",
        "test_evaluate.py::test_a_score_is_of_its_files_settings_and_weights",
    ),
    Mutation(
        "masks not in a score's fingerprint",
        "evaluation/scoring.py",
        '            "hole": mask_digest(clip),\n',
        "",
        "test_evaluate.py::test_a_score_is_of_its_files_settings_and_weights",
    ),
    Mutation(
        "truth not in a score's fingerprint",
        "evaluation/scoring.py",
        '"truth": pair.truth_files',
        '"truth": ()',
        "test_evaluate.py::test_a_score_is_of_its_files_settings_and_weights",
    ),
    # Pairs for editors
    Mutation(
        "every row has the same kind",
        "editing/kinds.py",
        "    return deck[place]",
        "    return deck[0]",
        "test_edit_bench.py::test_kinds_are_balanced_and_follow_from_row_and_seed",
    ),
    Mutation(
        "the whole frame is background",
        "editing/measures.py",
        "kept, painted = difference[~hole], difference[hole]",
        "kept, painted = difference.ravel(), difference[hole]",
        "test_edit_bench.py::test_measures_are_of_the_pixels_they_name",
    ),
    Mutation(
        "a verdict changes nothing",
        "editing/data_set.py",
        'if verdict is not None and not verdict["keep"]:',
        'if verdict is not None and not verdict["model"]:',
        "test_edit_bench.py::test_what_is_dropped_is_listed_with_its_reason",
    ),
    Mutation(
        "whom nobody can reach is asked for every row",
        "captions/captioner.py",
        "self._gone = str(error)",
        "self._gone = None",
        "test_caption_endpoint.py::test_whom_nobody_can_reach_is_asked_once",
    ),
    Mutation(
        "the first candidate is always taken",
        "runs/candidates.py",
        "return seed + number - 1",
        "return seed",
        "test_first_frame_choice.py::test_candidates_are_shown_and_one_is_chosen_by_its_number",
    ),
    Mutation(
        "Wan's blocks leave features out",
        f"{WAN}/transformer.py",
        "else hidden_states + branch_feature",
        "else hidden_states",
        "test_families.py::test_a_new_branch_changes_nothing_and_a_trained_one_what_it_may",
    ),
    Mutation(
        "Wan's previous clip passes no norm",
        f"{WAN}/transformer.py",
        "places = (*rotary_emb, self._normalised(resample, temb))",
        "places = (*rotary_emb, resample)",
        "test_wan.py::test_own_tokens_at_weight_one_equal_the_clips_own_set",
    ),
    Mutation(
        "Wan's times are drawn without the shift",
        f"{WAN}/process.py",
        "sigma = self.shift * u / (1 + (self.shift - 1) * u)",
        "sigma = u",
        "test_wan.py::test_the_loss_is_the_velocitys_error_and_times_follow_the_shift",
    ),
    Mutation(
        "Wan's latents are not normalised",
        f"{WAN}/codec.py",
        "return ((mode.float() - self._mean) / self._std).to(mode)",
        "return mode",
        "test_wan.py::test_streamed_decoding_equals_decoding_at_once",
    ),
    Mutation(
        "Wan's prompts keep what their padding became",
        f"{WAN}/adapter.py",
        "torch.where(mask[..., None] > 0, embeds, embeds.new_zeros(()))",
        "embeds",
        "test_wan.py::test_prompts_are_embedded_as_upstreams_pipeline_does",
    ),
    Mutation(
        "a text encoder is filled in at random",
        "pipelines/loading.py",
        'info["missing_keys"], unknown)',
        "[], [])",
        "test_wan.py::test_a_text_encoder_that_would_be_filled_in_is_refused",
    ),
    Mutation(
        "Wan's blocks do not attend to the image",
        f"{WAN}/attention.py",
        "            output = output + self._attend(",
        "            output + self._attend(",
        WAN_IMAGE_CALL,
    ),
    Mutation("no mask says that Wan is given an image", f"{WAN}/adapter.py", "given[:, 0] = 1", "pass", WAN_IMAGE_CALL),
    Mutation(
        "Wan's image has nothing behind it but noise's mean",
        f"{WAN}/adapter.py",
        "codec.encode(torch.cat([frame_BCTHW, grey], dim=2))",
        "codec.encode(torch.cat([frame_BCTHW, grey + 1], dim=2))",
        WAN_IMAGE_CALL,
    ),
    Mutation(
        "a window of Wan's begins with the video's own frame, hole and all",
        "pipelines/streaming.py",
        "return np.where(mask[..., None], made, frame) if",
        "return frame if",
        "test_wan_images.py::test_a_window_begins_with_what_the_one_before_has_made",
    ),
    Mutation(
        "the second half of a clip has the first one's image",
        "training/objective.py",
        "handed_on = batch.second_latent",
        "handed_on = batch.first_latent",
        "test_wan_images.py::test_both_halves_of_a_clip_have_their_image",
    ),
    Mutation(
        "Wan 2.2's image has the time of the others",
        f"{WAN}/adapter.py",
        "timestep[:, None] * (1 - tokens)",
        "timestep[:, None] * (1 - 0 * tokens)",
        "test_wan_dense.py::test_a_new_branch_leaves_upstreams_call_as_it_is",
    ),
    Mutation(
        "Wan 2.2's loss counts the latent that is given",
        "training/objective.py",
        "if known is not None:",
        "if False:",
        "test_wan_dense.py::test_nothing_is_learned_of_a_latent_that_is_given",
    ),
    Mutation(
        "Wan 2.2's handed tokens have the time of the first ones",
        f"{WAN}/transformer.py",
        "resample.index.to(temb.device)[..., None, None]",
        "0 * resample.index.to(temb.device)[..., None, None]",
        "test_wan_dense.py::test_own_tokens_at_weight_one_equal_the_clips_own_set",
    ),
    Mutation(
        "Wan 2.2's tiles fade over pixels where they are pairs",
        f"{WAN}/decoder.py",
        "blended=(size[0] // patch - kept[0] // patch, size[1] // patch - kept[1] // patch)",
        "blended=(size[0] - kept[0], size[1] - kept[1])",
        "test_wan_dense.py::test_streamed_decoding_equals_decoding_at_once",
    ),
]


def noticed(mutation: Mutation) -> bool:
    """Whether a test fails on a copy of the code with the mistake."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "ckpt").symlink_to(REPO / "ckpt")  # found above the package; without it every run fails
        path = copy / "videopainter" / mutation.file
        text = path.read_text()
        assert text.count(mutation.old) >= 1, f"{mutation.name}: {mutation.old!r} is not in {mutation.file}"
        path.write_text(text.replace(mutation.old, mutation.new))
        # A fork has the libraries in memory, but none of our code.
        process = multiprocessing.get_context("fork").Process(target=run_tests, args=(mutation, copy))
        process.start()
        process.join()
        output = (copy / "output.txt").read_text()
    assert process.exitcode in (0, 1), output
    if process.exitcode:
        print("   ", next(line for line in output.splitlines() if line.startswith(("FAILED", "ERROR")))[:150])
    return process.exitcode == 1


def run_tests(mutation: Mutation, copy: Path) -> None:
    """The mutation's tests on the code in `copy`, in a clone without the reference; exits with pytest's code."""
    with (copy / "output.txt").open("w") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    sys.path.insert(0, str(copy))
    nothing = str(copy / "nothing")
    paths = {"PYTHONPATH": str(copy), "VIDEOPAINTER_REFERENCE": nothing, "VIDEOPAINTER_CLIPS": nothing}
    os.environ.update(paths | {"PYTHONDONTWRITEBYTECODE": "1"})
    os.chdir(REPO)
    code = pytest.main(["-qx", "-n0", "-p", "no:cacheprovider", *(f"tests/{test}" for test in mutation.tests.split())])
    sys.stdout.flush()
    os._exit(int(code))


def main() -> None:
    chosen = [m for m in MUTATIONS if all(word in m.name for word in sys.argv[1:])]
    missed = []
    for mutation in chosen:
        print(f"{mutation.name}: {mutation.file}", flush=True)
        if not noticed(mutation):
            missed.append(mutation.name)
            print("    NOT NOTICED", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} noticed" + "".join(f"\n  missed: {name}" for name in missed))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
