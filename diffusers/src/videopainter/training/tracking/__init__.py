"""What a training tells: trackers, progress, curves."""
