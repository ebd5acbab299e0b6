"""Pictures of frames for the stage, as it asks for them."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.app.project import FillResult, Project
from videopainter.app.projects import Projects
from videopainter.app.video import encode_jpeg, resized_picture
from videopainter.data.video.reader import VideoFrames, open_video
from videopainter.errors import InputError, one_line
from videopainter.files import read_json

_PICTURE_WIDTH = 960  # more than that a page does not need to draw on


def data_url(picture: np.ndarray) -> str:
    """A picture, uint8 RGB (H, W, 3), as an address that holds it: no file, nothing that others could ask for."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture, 88)).decode()


def file_url(file: Path | str) -> str:
    """A small picture file as an address that holds it."""
    kind = "png" if str(file).endswith(".png") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(Path(file).read_bytes()).decode()


def answer_picture(projects: Projects, asked: Any) -> dict[str, str]:
    """What the stage shows of a frame: `src`, beside a result `after`, or `error`; whatever a browser asks for."""
    asked = asked[0] if isinstance(asked, list) and asked else asked
    try:
        if not isinstance(asked, Mapping):
            raise InputError("frame: expected a project and a number, got something else")
        project = projects.open(asked.get("project") or "")
        check_token(project, asked.get("token"))
        return frame_picture(project, asked)
    except ValueError as error:
        return {"error": one_line(error)}
    except (TypeError, OverflowError):  # no number
        return {"error": "frame: expected a number, got something else"}
    except (OSError, AssertionError):
        traceback.print_exc()
        return {"error": "frame: it cannot be read; the server's log says why"}


def check_token(project: Project, token: Any) -> None:
    """InputError where a page shows another video than the project's: two tabs may have one project open."""
    if token and token != project.video_file.name:
        raise InputError("Another tab changed the video: reload the page.")


def frame_picture(project: Project, asked: Mapping[str, Any]) -> dict[str, str]:
    """The picture of a frame: with its mask, as it is, or as it is and as a result has it (`after`)."""
    number, view = int(asked.get("frame") or 0), asked.get("view")
    if view == "mask":
        return {"src": data_url(project.preview(number, _PICTURE_WIDTH))}
    found = {"src": data_url(project.frame(number, _PICTURE_WIDTH))}
    if view == "result":
        found["after"] = data_url(result_frame(project, asked.get("result"), number))
    return found


def chosen_result(project: Project, key: Any) -> FillResult | None:
    """A result by its id; the last one where there is none of that id."""
    found = project.results
    return next((one for one in found if one.id == key), found[-1] if found else None)


def result_frame(project: Project, key: Any, number: int, width: int = _PICTURE_WIDTH) -> np.ndarray:
    """A frame of a result, counted as in the video; the video's own outside of what was filled."""
    result = chosen_result(project, key)
    if result is not None:
        start = read_json(result.settings_file)["range"][0]
        frames = open_video(result.video)
        try:
            if 0 <= number - start < len(frames):
                return resized_picture(frames.read(number - start, number - start + 1)[0], width)
        finally:
            if isinstance(frames, VideoFrames):
                frames.close()
    return project.frame(number, width)
