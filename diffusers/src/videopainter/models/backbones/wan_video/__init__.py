"""Wan (arXiv 2503.20314): a video DiT with flow matching, UMT5 prompts and a causal VAE of its own.

Not called `wan`: diffusers takes classes of a module by that name for its own pipeline's.
"""
