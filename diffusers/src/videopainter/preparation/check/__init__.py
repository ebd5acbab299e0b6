"""A data tree against its CSVs: what is missing, broken, or does not fit."""
