"""Training samples: rows, order, masks as they are deformed, and clips that cannot be read."""
