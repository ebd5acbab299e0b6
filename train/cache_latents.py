"""Encode a training set once, so that training needs neither VAE nor text encoder. `--help` documents every flag.

python train/cache_latents.py --pretrained_model_name_or_path ../ckpt/CogVideoX-5b-I2V \\
    --meta_file_path ../data/pexels_videovo_train_dataset.csv --instance_data_root ../data/videovo/raw_video \\
    --latent_cache ../data/latent_cache
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.cache_latents import cache_latents, read_options

    return cache_latents(*read_options())


if __name__ == "__main__":
    run_door(main)
