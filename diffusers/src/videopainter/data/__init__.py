"""Data: clips, video files, masks and benchmark records. Knows nothing of models."""
