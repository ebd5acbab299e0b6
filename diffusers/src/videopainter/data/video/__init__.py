"""Video files: reading, writing, and what lies between codec and RGB."""
