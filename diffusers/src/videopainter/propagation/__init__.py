"""Background that other frames show, copied into the hole: OpenCV and numpy alone, no torch, no weights."""
