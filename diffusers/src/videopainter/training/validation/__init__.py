"""Validation during training: clips, a fixed loss, videos."""
