"""Scores as Markdown: means, and paired differences with their bootstrap intervals."""

from __future__ import annotations

from measure import (
    ALONE,
    BRANCH,
    CONSISTENCY,
    FIDELITY,
    GIVEN,
    LIKENESS,
    MATCHED,
    NO_ADAPTER,
    OBJECT_CONSISTENCY,
    THROUGH_VAE,
    Scores,
)

from videopainter.metrics.report.intervals import bootstrap_mean
from videopainter.vision.fillers import BASELINES

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
DIGITS = {"PSNR": 2, "SSIM": 3, "HaarPSI": 3, OBJECT_CONSISTENCY: 3, CONSISTENCY: 3, LIKENESS: 3}


def mean_table(parts: dict[str, Scores], measures: list[str]) -> str:
    """One row per method, for each part one column per measure; empty where a method has none."""
    methods = dict.fromkeys(method for scores in parts.values() for method in scores.values)
    columns = [(scores, measure) for scores in parts.values() for measure in measures]
    rows = [[method, *(mean_cell(scores, method, measure) for scores, measure in columns)] for method in methods]
    return markdown(header(parts, measures), rows)


def mean_cell(scores: Scores, method: str, measure: str) -> str:
    values = scores.values[method].get(measure)
    return "" if values is None else f"{sum(values) / len(values):.{DIGITS[measure]}f}"


def difference_table(parts: dict[str, Scores], pairs: list[tuple[str, str]], measures: list[str]) -> str:
    """One row per pair (method, other): mean of method - other with its 95 % interval, bold if that excludes 0."""
    rows = []
    for method, other in pairs:
        cells = []
        for scores in parts.values():
            cells += [difference(scores, method, other, measure) for measure in measures]
        rows.append([f"{method} − {other}", *cells])
    return markdown(header(parts, measures), rows)


def difference(scores: Scores, method: str, other: str, measure: str) -> str:
    interval = bootstrap_mean(scores.differences(method, other, measure))
    mean, low, high = (f"{value:+.{DIGITS[measure]}f}" for value in (interval.mean, interval.low, interval.high))
    text = f"**{mean}**" if interval.excludes_zero else mean
    return f"{text} [{low}, {high}]"


def header(parts: dict[str, Scores], measures: list[str]) -> list[str]:
    prefix = {name: f"{name}: " if len(parts) > 1 else "" for name in parts}
    return ["", *(f"{prefix[name]}{measure} ↑" for name in parts for measure in measures)]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def removal_section(parts: dict[str, Scores], about: str) -> str:
    """Section A of the report."""
    measures = list(FIDELITY)
    pairs = [(BRANCH, other) for other in (*BASELINES, ALONE)]
    pairs += [(BRANCH + MATCHED, other) for other in (*BASELINES, BRANCH, ALONE + MATCHED)]
    pairs += [(BRANCH + GIVEN, other) for other in (*BASELINES, ALONE + GIVEN)]
    clips = " and ".join(f"{len(scores.seeds)} clips with {name} holes" for name, scores in parts.items())
    return f"""### Removal

{about} {clips}. Object-shaped holes lie over an object that is to go, free-form holes drift over a scene that stays
as it is; truth is the scene without that object. Measured are the hole's pixels alone, without frame 0: PSNR in dB,
SSIM, and HaarPSI (perceptual, made of Haar wavelets, needs no weights). The classical methods fill each frame by itself
and are never told a first frame. "Edges matched" is `--match_edges`: colours in the hole are shifted to go over into
the background. "{THROUGH_VAE}" is what perfect latents would score.

{mean_table(parts, measures)}

Mean differences on the same clips with their 95 % bootstrap intervals, bold where these exclude 0:

{difference_table(parts, pairs, measures)}
"""


def return_section(scores: Scores, about: str, num_frames: int) -> str:
    """Section B of the report."""
    adapters = [name for name in scores.values if name.startswith("ID adapter")]
    measures, parts = [OBJECT_CONSISTENCY, CONSISTENCY, LIKENESS, "PSNR"], {"": scores}
    pairs = [(name, NO_ADAPTER) for name in adapters]
    return f"""### Objects that leave and come back

{about} {len(scores.seeds)} clips of {num_frames} frames. The hole is an object's own footprint wherever it is seen,
the prompt names it: the model has to paint it before it leaves and again after its return. "{OBJECT_CONSISTENCY}" is
how much of it is there with the same colours both times; what is no different from the bare scene (Delta E under 10)
counts as no object. "{CONSISTENCY}" compares the fillings, object or not, and so is highest for methods that paint
none. "{LIKENESS}" is how much the returned object is like the true one (all 0..1), PSNR in dB that of the hole.

{mean_table(parts, measures)}

{difference_table(parts, pairs, measures)}
"""


def insert(text: str, table: str) -> str:
    """The README with `table` between its markers; ValueError where these are missing or out of order."""
    start, stop = text.find(BEGIN), text.find(END)
    if start < 0 or stop < start or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"expected the lines {BEGIN} and {END}, each once and in this order")
    return f"{text[: start + len(BEGIN)]}\n{table.strip()}\n{text[stop:]}"
