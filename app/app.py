"""The app in the browser: click an object, track it, fill or edit it. `--help` documents every flag.

python app/app.py
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, serve; the exit code."""
    from videopainter.cli.app import read_options, serve_app

    return serve_app(read_options())


if __name__ == "__main__":
    run_door(main)
