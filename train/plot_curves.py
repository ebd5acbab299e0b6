"""Draw the curves of one or more trainings as a PNG. `--help` documents every flag.

python train/plot_curves.py --runs out/run-a better=out/run-b --output curves.png
"""

from videopainter.cli.running import run_door


def main() -> None:
    """Parse, draw, say where."""
    from videopainter.cli.door import parse_options
    from videopainter.training.tracking.curves import CurveOptions, plot_curves

    (options,) = parse_options([CurveOptions], description=__doc__ or "")
    print(plot_curves(options))


if __name__ == "__main__":
    run_door(main)
