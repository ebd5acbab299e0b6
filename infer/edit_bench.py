"""Make editing pairs by instruction: a data set of videos and their edits. `--help` documents the flags.

python infer/edit_bench.py --inpainting_mask_meta set.csv --inpainting_sample_id all \
  --video_editing_instruction auto --llm_model gpt-4o --output_path outputs/pairs
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.edit_bench import edit_bench, read_options

    return edit_bench(read_options())


if __name__ == "__main__":
    run_door(main)
