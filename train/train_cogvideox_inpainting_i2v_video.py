"""Train the context encoder ("branch") beside a frozen backbone. `--help` documents every flag; VideoPainter.sh gives
the release's."""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, train; the exit code."""
    from videopainter.cli.train import train_branch

    return train_branch()


if __name__ == "__main__":
    run_door(main)
