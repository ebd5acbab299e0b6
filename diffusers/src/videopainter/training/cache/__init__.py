"""The latent cache: its layout, writing it, and training from it."""
