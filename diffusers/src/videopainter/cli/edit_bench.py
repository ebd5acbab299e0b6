"""Editing pairs by instruction: edits as `edit.py` makes them, measured, sifted, and put together as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from videopainter.cli.door import parse_options
from videopainter.editing.data_set import tell, write_data_set
from videopainter.editing.jobs import with_captions
from videopainter.editing.options import EDIT_BENCH_COMMON, EDIT_BENCH_OPTIONS, EditBenchOptions, EditOptions
from videopainter.editing.pairs import PairWriter, pairs_folder, plan_pairs
from videopainter.runs.making import make_results
from videopainter.runs.options import InpaintOptions
from videopainter.runs.processes import Shard, device_of
from videopainter.runs.weights import checkpoint_defaults

_DESCRIPTION = (
    "Make pairs of videos and their edits by instruction, from rows of a benchmark CSV (--inpainting_mask_meta) or a "
    "video of your own: a data set that the training set, evaluate.py and `datasets` read."
)


def read_options(argv: Sequence[str] | None = None) -> EditBenchOptions:
    """The flags of `infer/edit_bench.py`, from `argv` or the command line."""
    pairs, editing, *groups = parse_options(
        EDIT_BENCH_OPTIONS, argv, description=_DESCRIPTION, common=EDIT_BENCH_COMMON, defaults=checkpoint_defaults
    )
    return EditBenchOptions(pairs=pairs, edits=EditOptions(editing=editing, run=InpaintOptions.of(groups)))


def edit_bench(options: EditBenchOptions) -> int:
    """Make every pair that is not there yet, and the data set of all that are; returns the exit code.

    Raises:
        InputError, ValueError: nothing could start, or the only pair failed.
    """
    run, folder = options.edits.run, pairs_folder(options)
    writer = PairWriter(folder=folder, options=options.pairs, device=partial(device_of, run.model))
    code = make_results(lambda: plan_pairs(options), run, with_captions, writer.write_all)
    # By now every process has written its records.
    if Shard.from_env().rank == 0:
        tell(folder, write_data_set(folder, options.pairs))
    return code
