"""What the page shows of a project and of its jobs, as plain values. Texts are texts: nothing here makes HTML."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from videopainter.app.filling import FillPlan, shown_seconds
from videopainter.app.jobs import JobStatus
from videopainter.app.mask_views import ObjectView
from videopainter.app.project import FillResult, Project, ProjectCard
from videopainter.app.ui.frames import data_url, file_url, result_frame
from videopainter.app.video import resized_picture
from videopainter.data.images import read_image
from videopainter.data.reshape import resize_masks
from videopainter.files import fingerprint
from videopainter.segmentation.prompts import PointPrompt, prompt_to_json
from videopainter.segmentation.session import colour_of

_TILE_WIDTH = 240
# Which box the answer to a question is for.
ANSWERS = {
    "instruction": "instruction",
    "video": "prompt",
    "rewrite": "prompt",
    "hole": "image_prompt",
    "region": "image_prompt",
}
_STATES = {"none": "n", "absent": "a", "unsure": "u", "sure": "s"}


# ---- the stage


def stage(project: Project | None, before: Mapping[str, Any], answered: bool = True, **changes: Any) -> dict[str, Any]:
    """The value of the stage: what may be drawn on, objects, time line. Frame, object and view stay what they were.

    answered: it is the answer to something that somebody did.

    changes: `frame`, `object`, `view` that people are to see now; then `jump` says that it is new.
    """
    if project is None or project.video is None:
        return {"project": project.id if project else None, "video": None}
    video = project.video
    chosen = {name: before.get(name) for name in ("frame", "object", "view", "jump", "result", "answer", "typing")}
    if answered:
        chosen["answer"] = _now()
    if changes:
        chosen |= {"jump": _now(), **changes}
    objects, line = project.objects, timeline(project)
    return {
        **chosen,
        "project": project.id,
        "token": project.video_file.name,
        "video": {"frames": video.frames, "fps": video.fps, "width": video.width, "height": video.height},
        "own_mask": project.mask_file is not None,
        "range": [project.range.start, project.range.stop],
        "objects": [_object(one, project.work_frames.scale) for one in objects],
        "colours": [list(colour_of(number)) for number in range(1, 9)],
        "timeline": line,
        "version": _version(project, objects, line),
    }


def _version(project: Project, objects: Sequence[ObjectView], line: Mapping[str, str]) -> str:
    """Another one where the picture of any frame may have become another."""
    said = [[one.id, [prompt_to_json(prompt) for prompt in one.prompts], one.tracked] for one in objects]
    own = project.mask_file.name if project.mask_file is not None else None
    return fingerprint(
        [project.video_file.name, said, project.session.candidate, own, asdict(project.mask_shape), line]
    )


def _now() -> int:
    return time.time_ns() // 1000  # microseconds: a browser counts no further


def timeline(project: Project) -> dict[str, str]:
    """One letter and one digit of confidence for every frame of the range."""
    found = project.timeline()
    return {
        "states": "".join(_STATES[one.state] for one in found),
        "confidence": "".join(str(min(9, max(0, round(9 * one.confidence)))) for one in found),
    }


def _object(one: ObjectView, scale: float) -> dict[str, Any]:
    told = f"{one.tracked} frames tracked" if one.tracked else "not tracked yet"
    unsure = f", unsure in {len(one.unsure)}" if one.unsure else ""
    prompts = [_placed(prompt_to_json(prompt), scale) for prompt in one.prompts]
    return {"id": one.id, "name": one.name, "colour": list(one.colour), "note": told + unsure, "prompts": prompts}


def _placed(prompt: dict[str, Any], scale: float) -> dict[str, Any]:
    """A prompt in the video's pixels; a project keeps them in those of the frames that masks are made at."""
    places = {name: prompt[name] / scale for name in ("x", "y", "x0", "y0", "x1", "y1") if name in prompt}
    line = {"places": [[x / scale, y / scale] for x, y in prompt["places"]]} if "places" in prompt else {}
    kept = {name: prompt[name] for name in ("kind", "frame", "positive") if name in prompt}
    return {**kept, **places, **line}


def candidate_pictures(project: Project, number: int) -> dict[str, Any]:
    """The masks that an object's first click may mean, as pictures; none where there is no choice."""
    prompts = next((one.prompts for one in project.objects if one.id == number), ())
    only = prompts[0] if len(prompts) == 1 else None
    masks = project.candidates(number) if isinstance(only, PointPrompt) else []
    if len(masks) < 2 or only is None:
        return {"items": []}
    frame = only.frame or 0
    chosen = project.session.candidate.get(number, 1)
    items = [
        {"key": str(k), "label": f"Choice {k}", "src": _tile(project, frame, mask), "chosen": k == chosen}
        for k, mask in enumerate(masks, 1)
    ]
    return {"label": "Which of these is meant?", "items": items}


def _tile(project: Project, frame: int, mask: np.ndarray) -> str:
    picture = project.frame(frame, _TILE_WIDTH).copy()
    small = resize_masks(mask[None], *picture.shape[:2])[0]
    picture[~small] = picture[~small] // 3
    return data_url(picture)


def video_facts(project: Project | None) -> list[Any]:
    """What is known of the video."""
    video = project.video if project else None
    if video is None:
        return []
    told = [
        video.name,
        f"{video.width}×{video.height}",
        f"{video.frames} frame{'s' * (video.frames != 1)}",
        f"{video.fps:.6g} fps",
        f"{video.seconds:.1f} s" if video.seconds < 10 else shown_seconds(video.seconds),
        "with sound" if video.sound else "no sound",
    ]
    return [*told, *({"text": note, "note": True} for note in video.notes)]


def project_tiles(cards: Sequence[ProjectCard], now: str) -> dict[str, Any]:
    """A browser's projects as pictures to choose from; `now` is the id of the one that is open."""
    items = []
    for card in cards:
        results = f", {card.results} result{'s' * (card.results != 1)}" if card.results else ""
        note = f"{card.frames} frame{'s' * (card.frames != 1)}{results}{', at work' * card.busy}"
        when = round(1000 * card.changed)  # the browser knows its own time and language
        src = file_url(card.cover) if card.cover else ""
        one = {"key": card.id, "label": card.name, "note": note, "when": when, "src": src, "chosen": card.id == now}
        items.append({**one, "drop": "Delete"})
    return {"label": "Your projects", "title": "Your projects (in this browser)", "items": items}


# ---- jobs

_DOING = {
    "track": "Tracking",
    "mask_video": "Making the mask video",
    "captions": "Writing captions",
    "first_frames": "Painting first frames",
    "fill": "Painting the video",
}
_DONE = {
    "track": "Tracked",
    "mask_video": "The mask video is there",
    "captions": "Captions are written",
    "first_frames": "First frames are painted: choose one",
    "fill": "The result is there",
}


def status(project: Project | None, job: JobStatus | None, problem: str = "") -> dict[str, Any]:
    """The value of the status: of the project's last job, or what to do next."""
    if job is None:
        return {"kind": "idle", "say": _next_step(project), "problem": problem, "can": []}
    return {"job": job.id, "open": job.is_open, "problem": problem, "what": job.kind, **_TELLERS[job.state](job)}


def _next_step(project: Project | None) -> str:
    if project is None or project.video is None:
        return "Choose a video to begin."
    if project.mask_file is None and not project.objects:
        return "Mark what is to be painted: click on it, or drag a box round it."
    if any(one.tracked < len(project.range) for one in project.objects) and project.mask_file is None:
        return "Track what you marked (step 2), then choose what is to happen (step 3)."
    return "Choose what is to happen in the hole (step 3), then start."


_STAGES = {
    "check": "checking",
    "hash": "weights are read",
    "load": "models are loaded",
    "captions": "asking",
    "masks": "masks written",
    "first_frame": "first frame",
    "propagate": "copying what other frames show",
    "inpaint": "steps",
    "write": "frames written",
    "track": "frames",
    "mask_video": "frames",
}


def _waiting(job: JobStatus) -> dict[str, Any]:
    ahead = f"{job.place} before you" if job.place else "you are next"
    wait = f", about {shown_seconds(job.expected_wait)}" if job.expected_wait else ""
    return {"kind": "busy", "say": f"Waiting: {_DOING[job.kind].lower()}", "more": ahead + wait, "can": ["cancel"]}


def _running(job: JobStatus) -> dict[str, Any]:
    stage = _STAGES.get(job.stage, job.stage)
    count = f"{job.done} of {job.total} {stage}" if job.total else stage
    left = f"about {shown_seconds(job.seconds_left)} left" if job.seconds_left is not None else ""
    return {
        "kind": "busy",
        "say": _DOING[job.kind],
        "more": " · ".join(filter(None, (count or "models are loaded", left))),
        "share": job.done / job.total if job.total else 0.0,
        "preview": file_url(job.preview) if job.preview else None,
        "can": ["cancel"],
    }


# What somebody does next, who sees this for the first time; and the button that leads there.
_NEXT = {
    "track": "Play it; correct what is wrong.",
    "mask_video": "It is in step 2.",
    "captions": "They are in step 3.",
    "first_frames": "They are in step 3.",
    "fill": "It is in step 4: compare, download, or try again.",
}
_LEADS = {"track": ["next"], "fill": ["show"]}


def _done(job: JobStatus) -> dict[str, Any]:
    more, can = job.message or _NEXT[job.kind], _LEADS.get(job.kind, [])
    return {"kind": "done", "say": _DONE[job.kind], "more": more, "can": can}


def _cancelled(job: JobStatus) -> dict[str, Any]:
    return {"kind": "idle", "say": f"{_DOING[job.kind]}: stopped", "more": job.message, "can": ["go_on"]}


def _failed(job: JobStatus) -> dict[str, Any]:
    return {"kind": "error", "say": f"{_DOING[job.kind]}: did not work", "more": job.message, "can": ["go_on"]}


_TELLERS = {"waiting": _waiting, "running": _running, "done": _done, "cancelled": _cancelled, "failed": _failed}


# ---- why a button is off


_NO_WORDS = "Off here: no model that knows words is set up (--text_model, or --segmenter sam3)."


def reasons(project: Project | None, busy: bool) -> dict[str, str | None]:
    """Of every button that may be off: why, in a line; None where it can be used."""
    if project is None or project.video is None:
        return dict.fromkeys(("track", "words", "film", "captions", "fill"), "Choose a video first.")
    running = "Something is running: wait for it, or cancel it." if busy else None
    objects, own = project.objects, project.mask_file is not None
    unmarked = None if objects or own else "Mark something first: a click or a box in the picture."
    missing = next((one for one in objects if one.tracked < len(project.range)), None)
    untracked = None if own or missing is None else f"{missing.name} is not tracked through all frames yet (step 2)."
    track = "Your own mask is used; a click in the picture takes it away." if own else unmarked
    return {
        "track": running or track,
        "words": project.words_state and _NO_WORDS,
        "film": running or unmarked or untracked,
        "captions": running or (project.captions_state and _capital(project.captions_state)) or unmarked,
        "fill": running or unmarked or untracked,
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- fills


def proposal(jobs: Sequence[JobStatus], job: JobStatus, boxes: Sequence[str], label: str) -> dict[str, Any]:
    """What somebody proposes for one of some boxes, and what was proposed for it before: nobody's own words."""
    name = ANSWERS[job.settings["question"]]
    others = [one for one in jobs if one.kind == "captions" and one.answer and one.id != job.id]
    earlier = [one.answer["text"] for one in others if ANSWERS[one.settings["question"]] == name]
    return {"job": job.id, "at": boxes.index(name), "label": label, "text": job.answer["text"], "earlier": earlier}


def plan(found: FillPlan) -> list[str]:
    """What a fill will compute, before it does."""
    told = [found.summary]
    if found.fills_first_frame:
        told.append("first frame: filled first, or chosen above")
    return told if found.seconds is not None else [*told, "how long: known after a first run"]


def result_pictures(project: Project, chosen: str) -> dict[str, Any]:
    """All results as pictures to choose from, where there are several."""
    found = project.results if len(project.results) > 1 else []
    items = []
    for k, one in enumerate(found, 1):
        tile = data_url(result_frame(project, one.id, project.range.start, _TILE_WIDTH))
        note = result_facts(one)[0]
        items.append({"key": one.id, "label": f"Result {k}", "note": note, "src": tile, "chosen": one.id == chosen})
    return {"label": "Results", "items": items}


def result_facts(result: FillResult) -> list[str]:
    """What a result was made with."""
    fill = result.settings
    words = fill["instruction"] or fill["prompt"]
    took = sum(seconds for seconds in result.seconds.values() if isinstance(seconds, int | float))
    told = [fill["task"], words, f"seed {fill['seed']}", f"made in {shown_seconds(took)}" if took else ""]
    return [text for text in told if text]


def first_frame_pictures(project: Project, jobs: Sequence[JobStatus], chosen: str) -> dict[str, Any]:
    """First frames to choose from: what was painted last, and pictures of one's own."""
    done = [job for job in jobs if job.kind == "first_frames" and job.answer]
    painted = done[-1].answer["names"] if done else []
    own = sorted(file.stem for file in (project.folder / "pictures").glob("own_*.png"))
    items = []
    for k, name in enumerate(filter(project.has_picture, [*painted, *own]), 1):
        picture = resized_picture(read_image(project.picture(name)), _TILE_WIDTH)
        label = "Your own" if name in own else f"Choice {k}"
        items.append({"key": name, "label": label, "src": data_url(picture), "chosen": name == chosen})
    return {"label": "First frames", "items": items}
