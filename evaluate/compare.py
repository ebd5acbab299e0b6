"""Compare evaluated runs by paired tests. `--help` documents every flag.

python evaluate/compare.py out/a out/b --output comparison.md
"""

from videopainter.cli.running import run_door


def main() -> None:
    """Parse, compare."""
    from videopainter.cli.compare import compare, read_options

    compare(*read_options())


if __name__ == "__main__":
    run_door(main)
