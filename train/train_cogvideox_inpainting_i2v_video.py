"""Train the context encoder ("branch") beside a frozen backbone. `--help` documents every flag; VideoPainter.sh gives
the release's."""

from videopainter.cli.door import run_door
from videopainter.cli.train import train_branch

if __name__ == "__main__":
    run_door(train_branch)
