"""Train the ID-resample adapter (a LoRA of the backbone) beside a trained branch. `--help` documents every flag;
VideoPainterID.sh gives the release's."""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, train; the exit code."""
    from videopainter.cli.train import train_id_adapter

    return train_id_adapter()


if __name__ == "__main__":
    run_door(main)
