"""The networks that metrics are computed with, in their published formats."""
