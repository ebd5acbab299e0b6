"""Segmentation by published models: SAM 2, SAM 3, Grounding DINO. Imports torch."""
