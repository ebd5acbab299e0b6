"""A set into tar shards for WebDataset, `datasets` and object storage. `--help` documents every flag.

python data_utils/shard_data.py --data_root outputs/vpdata --output_dir outputs/shards
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.preparation.shard_data import shard_data

    return shard_data()


if __name__ == "__main__":
    run_door(main)
