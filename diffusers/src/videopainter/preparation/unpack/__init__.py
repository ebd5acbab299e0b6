"""Archives of others, unpacked inside their target only."""
