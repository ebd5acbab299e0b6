"""Classical vision that several rooms use: OpenCV and numpy alone, no torch, no weights."""
