"""Training of the context encoder and of the ID-resample adapter: one trainer, started by the doors in `train/`."""
