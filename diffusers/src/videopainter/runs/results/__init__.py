"""A result on disk: its file and what lies beside it, its names, its JSON."""
