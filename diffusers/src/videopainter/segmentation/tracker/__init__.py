"""A mask carried through a video without weights: OpenCV and numpy alone, no torch."""
