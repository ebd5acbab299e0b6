"""Pipelines: pixels and masks in, inpainted video out, window by window."""
