"""What each kind of job does, in the process that works; and what is known of it before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.app.filling import FillPlan, FillSettings, edit_of, model_options, speed_key
from videopainter.app.limits import check_text
from videopainter.app.options import AppOptions
from videopainter.app.project import Project
from videopainter.app.projects import Projects
from videopainter.app.speeds import Meter, Speeds
from videopainter.captions.backends import make_backend
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames, shown_regions
from videopainter.captions.questions import INSTRUCTION_KINDS
from videopainter.data.clip import MaskSource
from videopainter.data.video.writer import VideoWriter
from videopainter.editing.jobs import plan_edits, with_captions
from videopainter.errors import InputError
from videopainter.files import write_json
from videopainter.pipelines.first_frame import make_filler, reads_prompts
from videopainter.runs.candidates import candidate_seed, painted_candidates
from videopainter.runs.first_frames import captioned
from videopainter.runs.making import make_results
from videopainter.runs.plan import plan_jobs
from videopainter.runs.processes import device_of
from videopainter.runs.watch import Watch
from videopainter.segmentation.choosing import BUILTIN
from videopainter.segmentation.output import write_masks

_CHUNK = 8  # frames at once
_QUESTIONS = ("video", "hole", "rewrite", "region", "instruction")


def needs_device(kind: str, options: AppOptions) -> bool:
    """Whether a job waits for the device's worker; what a CPU does beside it does not."""
    if kind == "track":
        return options.segmenter != BUILTIN
    if kind == "captions":
        return options.llm_model is not None and (
            options.llm_model.startswith("transformers:") or Path(options.llm_model).is_dir()
        )
    if kind == "first_frames":
        return reads_prompts(options.img_inpainting_model)
    return kind == "fill"


def resolved(kind: str, project: Project, settings: dict[str, Any]) -> dict[str, Any]:
    """A job's settings as they are kept, checked. InputError, in one line, for what does not fit."""
    if kind in ("fill", "first_frames"):
        fill = FillSettings.from_json(settings).seeded()
        if kind == "fill":
            project.check_fill(fill)
        else:
            project.check_first_frames(fill)
        return fill.to_json()
    if kind == "captions":
        return _checked_question(project, settings)
    if settings:
        raise InputError(f"{kind}: expected no settings, got {next(iter(settings))!r:.60}")
    if not project.objects and (kind == "track" or project.mask_file is None):
        raise InputError(f"{kind}: expected an object first, got none")
    if kind == "mask_video":
        project.check_masks()
    return {}


def expected_seconds(kind: str, project: Project, settings: Mapping[str, Any], speeds: Speeds) -> float | None:
    """How long a job takes by what was measured before; None where nothing was."""
    if kind == "fill":
        return project.check_fill(FillSettings.from_json(settings)).seconds
    if kind in ("track", "mask_video"):
        each = speeds.get(_frame_key(kind, project))
        return None if each is None else each * len(project.range) * max(1, len(project.objects))
    return speeds.get(kind)


def _frame_key(kind: str, project: Project) -> str:
    maker = f" {project.options.segmenter}" if kind == "track" else ""
    return project.speed_key(f"{kind}{maker}")


class Bench:
    """Does jobs, one at a time, and keeps models between them."""

    def __init__(self, projects: Projects, speeds: Speeds) -> None:
        self.projects, self._speeds = projects, speeds
        self._loaded: Any = None

    def do(self, kind: str, project: Project, settings: dict[str, Any], watch: Watch) -> dict[str, Any]:
        """A job's answer. InputError for what does not fit; Interrupted where it was stopped."""
        does: dict[str, Callable[[Project, dict[str, Any], Watch, Meter], dict[str, Any]]] = {
            "track": self._track,
            "mask_video": self._mask_video,
            "captions": self._captions,
            "first_frames": self._first_frames,
            "fill": self._fill,
        }
        meter = Meter()
        meter.at("all", 0)
        watch = metered(watch, meter)
        answer = does[kind](project, settings, watch, meter)
        meter.at("all", 1)
        if kind in ("captions", "first_frames"):
            self._speeds.put(kind, meter.rate("all"))
        return answer

    def _track(self, project: Project, settings: dict[str, Any], watch: Watch, meter: Meter) -> dict[str, Any]:
        session = project.part_session()
        each, numbers = len(project.range), sorted(session.objects)
        for at, number in enumerate(numbers):

            def tell(done: int, total: int, frame: int, at: int = at) -> bool:
                watch.at("track", at * each + min(done, each), each * len(numbers))
                return True

            watch.at("track", at * each, each * len(numbers))
            session.track(number, progress=tell)
        self._speeds.put(_frame_key("track", project), meter.rate("track"))
        return {"objects": {str(view.id): {"tracked": view.tracked, "unsure": view.unsure} for view in project.objects}}

    def _mask_video(self, project: Project, settings: dict[str, Any], watch: Watch, meter: Meter) -> dict[str, Any]:
        holes, part = project.shaped(project.masks()), project.range
        files = {name: project.folder / "pictures" / f"{name}.mp4" for name in ("mask", "preview")}
        fps = project.frames.fps
        with VideoWriter(files["mask"], fps=fps) as mask, VideoWriter(files["preview"], fps=fps) as preview:
            for k in range(len(part)):
                mask.write(_white(holes.read(k, k + 1)))
                preview.write(project.preview(part.start + k)[None])
                watch.at("mask_video", k + 1, len(part))
        self._speeds.put(_frame_key("mask_video", project), meter.rate("mask_video"))
        return {name: str(file) for name, file in files.items()}

    def _captions(self, project: Project, settings: dict[str, Any], watch: Watch, meter: Meter) -> dict[str, Any]:
        watch.at("captions")
        clip = project.clip()
        device = partial(device_of, model_options(project.options))
        captioner = Captioner(make_backend(project.options.llm_model or "", device=device))
        try:
            caption, instruction = settings.get("caption", ""), settings.get("instruction", "")
            asked = settings["question"]
            if asked == "video":
                answer = captioner.video(shown_frames(clip, outlined=False))
            elif asked == "hole":
                answer = captioner.hole(shown_frames(clip), caption)
            elif asked == "rewrite":
                answer = captioner.rewrite(shown_frames(clip), caption, instruction)
            elif asked == "region":
                answer = captioner.region(shown_regions(clip), caption, instruction)
            else:
                answer = captioner.instruction(shown_frames(clip), caption, settings.get("kind", "change"))
        finally:
            captioner.close()
        return {"text": answer.text, "model": answer.model}

    def _first_frames(self, project: Project, settings: dict[str, Any], watch: Watch, meter: Meter) -> dict[str, Any]:
        fill = FillSettings.from_json(settings)
        options, clip = project.options, project.first_clip(fill)
        paints = reads_prompts(options.img_inpainting_model)
        count = fill.candidates if paints else 1  # what reads no seed paints all alike
        names = []
        filler = _filler(options)
        try:
            watch.at("first_frame", 0, count)
            for number, picture in painted_candidates(filler, clip, fill.seed, range(1, count + 1)):
                # By what it shows: a fill that was begun with another one of the same seed keeps that.
                digits = hashlib.sha256(picture.tobytes()).hexdigest()[:12]
                names.append(project.keep_picture(picture, f"first_{candidate_seed(fill.seed, number)}_{digits}"))
                watch.at("first_frame", number, count)
        finally:
            filler.close()
        return {"pictures": [str(project.picture(name)) for name in names], "names": names}

    def _fill(self, project: Project, settings: dict[str, Any], watch: Watch, meter: Meter) -> dict[str, Any]:
        from videopainter.runs.studio import LoadedPipeline

        self._loaded = self._loaded or LoadedPipeline()
        fill = FillSettings.from_json(settings)
        plan, inputs, run = project.check_fill(fill), project.fill_inputs(fill), project.fill_run(fill)
        if project.mask_file is None and not inputs.mask.exists():
            _write_masks(inputs.mask, project, watch)
        _write_hole(inputs.result.with_name("mask.mp4"), project.shaped(project.masks()), project, watch)
        edit = edit_of(fill, run)
        write_json(inputs.result.with_name("settings.json"), project.settings_record(fill), indent=2)
        if edit is None:
            make_results(lambda: plan_jobs(run), run, captioned, watch=watch, loaded=self._loaded)
        else:
            make_results(lambda: plan_edits(edit), run, with_captions, watch=watch, loaded=self._loaded)
        self._learn(plan, project, fill, meter)
        return {"result": inputs.result.parent.name}

    def _learn(self, plan: FillPlan, project: Project, fill: FillSettings, meter: Meter) -> None:
        if plan.windows:
            self._speeds.put(speed_key(plan, project.options, fill), meter.rate("inpaint"))
        for stage in ("write", "propagate"):
            self._speeds.put(project.speed_key(stage), meter.rate(stage))


def metered(watch: Watch, meter: Meter) -> Watch:
    """A watch that measures, too."""

    def tell(stage: Any, done: int, total: int) -> None:
        meter.at(stage, done)
        if watch.on_progress is not None:
            watch.on_progress(stage, done, total)

    return Watch(on_progress=tell, on_preview=watch.on_preview, interrupted=watch.interrupted)


def _checked_question(project: Project, settings: Mapping[str, Any]) -> dict[str, Any]:
    off = project.captions_state
    if off is not None:
        raise InputError(f"captions: {off}")
    known = ("question", "caption", "instruction", "kind")
    asked = {name: check_text(name, str(value)) for name, value in settings.items() if name in known}
    if len(asked) < len(settings):
        raise InputError(f"captions: expected {', '.join(known)}, got {next(iter(set(settings) - set(known)))!r:.60}")
    if asked.get("question") not in _QUESTIONS:
        raise InputError(f"question: expected {', '.join(_QUESTIONS)}, got {asked.get('question')!r:.60}")
    if asked.get("kind", "change") not in INSTRUCTION_KINDS:
        raise InputError(f"kind: expected {', '.join(INSTRUCTION_KINDS)}, got {asked['kind']!r:.60}")
    project.video_file  # noqa: B018 (there has to be one)
    if asked["question"] != "video" and project.mask_file is None and not project.objects:
        raise InputError("captions: expected an object or a mask to speak of first, got none")
    return asked


def _filler(options: AppOptions) -> Any:
    """Who paints candidates of the first frame."""
    name = options.img_inpainting_model
    if not reads_prompts(name):
        return make_filler(name)
    from videopainter.runs.processes import Shard, resolve_precision, torch_dtype

    precision = resolve_precision(model_options(options), Shard())
    return make_filler(name, dtype=torch_dtype(precision.dtype), device=precision.device)


def _write_masks(file: Path, project: Project, watch: Watch) -> None:
    """The masks of the objects, as a run takes them."""
    masks = project.masks()

    def ids_of(k: int) -> np.ndarray:
        watch.at("masks", k, len(masks))
        return masks.read(k, k + 1)[0].astype(np.uint8)

    write_masks(file, ids_of, len(masks), project.frames.fps)


def _write_hole(file: Path, holes: MaskSource, project: Project, watch: Watch) -> None:
    """The hole of every frame as a video, white."""
    if file.exists():  # the folder's name tells its masks
        return
    with VideoWriter(file, fps=project.frames.fps) as writer:
        for start in range(0, len(holes), _CHUNK):
            watch.at("masks", start, len(holes))
            writer.write(_white(holes.read(start, min(start + _CHUNK, len(holes)))))


def _white(masks: np.ndarray) -> np.ndarray:
    """Masks bool (T, H, W) as pictures, white = hole."""
    return np.repeat(np.where(masks, np.uint8(255), np.uint8(0))[..., None], 3, axis=-1)
