"""Measures a tiny checkpoint on held-out scenes, which are rendered here, and writes what came of it.

`table.md`; `table.json`: every number of every clip, settings, seeds; `sheet.png`, `sheet_first_frame.png` and
`sheet_returning.png`. With the tiny checkpoint about twenty minutes on one free CPU core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from videopainter.cli.door import parse_options
from videopainter.cli.running import run_door
from videopainter.errors import InputError
from videopainter.files import sha256_file, write_json
from videopainter.flags import flag, switch
from videopainter.models.backbones.grid import FINEST
from videopainter.models.checks import check_checkpoints
from videopainter.pipelines.settings import InpaintSettings

BACKBONE, BRANCH_FOLDER, ADAPTER = "CogVideoX-5b-I2V", "VideoPainter/checkpoints/branch", "VideoPainterID/checkpoints"


@dataclass(kw_only=True)
class EvaluationOptions:
    """What is measured, and how."""

    checkpoint: str = flag("ckpt/tiny", f"Folder with {BACKBONE}/, VideoPainter/ and VideoPainterID/.")
    output: str = flag("outputs/tiny_evaluation", "Folder for tables and sheets.")
    clips: int = flag(24, "Scenes for each kind of hole; 0 leaves removal out.")
    num_frames: int = flag(17, "Frames of such a clip and of a window, 4k+1.")
    long_clips: int = flag(16, "Scenes with an object that leaves and comes back; 0 leaves them out.")
    long_frames: int = flag(57, "Frames of such a clip, 41 or more.")
    long_window: int = flag(29, "Frames of a window of a long clip, 4k+1: half the clip, so that both see the object.")
    overlap_frames: int = flag(0, "Frames that neighbouring windows of long clips share: 0 (taken as 1) or 4k+1.")
    height: int = flag(96, "Height of the scenes.")
    width: int = flag(144, "Width of the scenes.")
    steps: int = flag(4, "Denoising steps.")
    guidance: float = flag(2.0, "Classifier-free guidance; 1 turns it off.")
    seed: int = flag(42, "Seed of the noise.")
    first_seed: int = flag(900000, "Seed of the first scene.")
    prev_clip_weights: list[float] = field(
        default_factory=lambda: [0.0, 1.0], metadata={"help": "Weights of the ID memory to try."}
    )
    long_first_frame: bool = switch(True, "Give long clips their true first frame, as a filled one is given in use.")
    sheet_clips: int = flag(3, "Clips of each kind on the sheets: the first ones.")
    threads: int = flag(0, "Threads of torch; 0: torch's own choice.")
    update_readme: bool = switch(False, "Put the tables between the markers in the checkpoint's README.md.")

    def __post_init__(self) -> None:
        least = {"clips": 0, "long_clips": 0, "height": 16, "width": 16, "sheet_clips": 1, "long_frames": 41}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name}: expected {low} or more, got {getattr(self, name)}")
        if self.clips == 1 or self.long_clips == 1 or self.clips == self.long_clips == 0:
            raise InputError(
                f"clips, long_clips: expected 2 or more (or one of them 0), as intervals need two clips, "
                f"got {self.clips} and {self.long_clips}"
            )
        if not FINEST.is_frame_count(self.num_frames) or self.num_frames < 5:
            raise InputError(f"num_frames: expected 4k+1, 5 or more, got {self.num_frames}")
        if not self.prev_clip_weights or min(self.prev_clip_weights) < 0:
            raise InputError(f"prev_clip_weights: expected numbers of 0 or more, got {self.prev_clip_weights}")
        self.call_settings(self.long_window, self.overlap_frames)

    @property
    def scenes(self) -> dict[str, int]:
        return {"height": self.height, "width": self.width, "first_seed": self.first_seed}

    def call_settings(self, window: int, overlap_frames: int) -> dict[str, Any]:
        """Keywords of the pipeline's call, checked."""
        settings = {
            "num_frames": window,
            "overlap_frames": overlap_frames,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "seed": self.seed,
            "height": self.height,
            "width": self.width,
        }
        InpaintSettings(**settings)
        return settings


def check_paths(options: EvaluationOptions) -> None:
    """InputError for a checkpoint that cannot be loaded, an output that is a file, a README without markers."""
    from tables import insert

    checkpoint = Path(options.checkpoint)
    adapter = checkpoint / ADAPTER if options.long_clips else None
    check_checkpoints(checkpoint / BACKBONE, checkpoint / BRANCH_FOLDER, adapter)
    if Path(options.output).exists() and not Path(options.output).is_dir():
        raise InputError(f"output: expected a folder, got a file: {options.output}")
    if options.update_readme:
        readme = checkpoint / "README.md"
        if not readme.is_file():
            raise InputError(f"update_readme: expected {readme}, there is none")
        try:
            insert(readme.read_text(), "")
        except ValueError as error:
            raise InputError(f"{readme}: {error}") from None


def load(checkpoint: Path, *, adapter: bool) -> Any:
    import torch

    from videopainter import load_pipeline

    pipe: Any = load_pipeline(
        str(checkpoint / BACKBONE),
        inpainting_branch=str(checkpoint / BRANCH_FOLDER),
        id_adapter=str(checkpoint / ADAPTER) if adapter else None,
        dtype=torch.float32,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def evaluate_removal(options: EvaluationOptions, pipe: Any, about: str) -> tuple[str, dict[str, Any]]:
    """Section A: its Markdown and its numbers; writes its sheets."""
    from heldout import FREE_FORM, OBJECT, removal_cases
    from measure import measure_removal
    from sheet import removal_sheet
    from tables import removal_section

    parts = {}
    for kind in (OBJECT, FREE_FORM):
        cases = removal_cases(options.clips, kind, num_frames=options.num_frames, **options.scenes)
        settings = options.call_settings(options.num_frames, 0)
        parts[kind] = measure_removal(pipe, cases, settings, total=options.clips, label=kind, shown=options.sheet_clips)
    for name, given in (("sheet.png", False), ("sheet_first_frame.png", True)):
        path = Path(options.output) / name
        removal_sheet(list(parts.values()), path, first_frame=given, per_part=options.sheet_clips)
    return removal_section(parts, about), {kind: scores.as_json() for kind, scores in parts.items()}


def evaluate_returns(options: EvaluationOptions, pipe: Any, about: str) -> tuple[str, dict[str, Any]]:
    """Section B: its Markdown and its numbers; writes its sheet. `pipe` is the one without adapter."""
    from heldout import return_cases
    from measure import measure_returns
    from sheet import return_sheet
    from tables import return_section

    cases = list(return_cases(options.long_clips, num_frames=options.long_frames, **options.scenes))
    scores = measure_returns(
        pipe,
        load(Path(options.checkpoint), adapter=True),
        cases,
        options.call_settings(options.long_window, options.overlap_frames),
        weights=options.prev_clip_weights,
        first_frame=options.long_first_frame,
        shown=options.sheet_clips,
    )
    return_sheet(scores, [case.moments for case in cases], Path(options.output) / "sheet_returning.png")
    told = "The true first frame is given." if options.long_first_frame else "No first frame is given."
    return return_section(scores, f"{about} {told}", options.long_frames), scores.as_json()


def evaluate(options: EvaluationOptions) -> tuple[str, dict[str, Any]]:
    """Measure and write the sheets; returns the Markdown and all numbers."""
    scenes = f"Held-out scenes of {options.width}x{options.height} pixels, windows of"
    how = f"{options.steps} steps, guidance {options.guidance:g}, seed {options.seed}."
    pipe = load(Path(options.checkpoint), adapter=False)
    sections, numbers = [], {}
    if options.clips:
        section, numbers["removal"] = evaluate_removal(options, pipe, f"{scenes} {options.num_frames} frames, {how}")
        sections.append(section)
    if options.long_clips:
        section, numbers["returning"] = evaluate_returns(options, pipe, f"{scenes} {options.long_window} frames, {how}")
        sections.append(section)
    return "\n".join(sections), numbers


def weights_of(checkpoint: Path) -> dict[str, str]:
    """The beginnings of the SHA-256 of all weight files, so that numbers can be traced to weights."""
    files = sorted(checkpoint.rglob("*.safetensors"))
    return {str(path.relative_to(checkpoint)): sha256_file(path)[:16] for path in files}


def main(argv: Sequence[str] | None = None) -> None:
    (options,) = parse_options([EvaluationOptions], argv, description=__doc__ or "")
    check_paths(options)
    import torch
    from tables import insert

    if options.threads:
        torch.set_num_threads(options.threads)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    table, numbers = evaluate(options)
    versions = {"torch": torch.__version__, "weights": weights_of(Path(options.checkpoint))}
    record = {"settings": asdict(options), **versions, **numbers}
    write_json(output / "table.json", record, indent=1)
    (output / "table.md").write_text(table)
    if options.update_readme:
        readme = Path(options.checkpoint) / "README.md"
        readme.write_text(insert(readme.read_text(), table))
    print(table)


if __name__ == "__main__":
    run_door(main)
