"""Stands in for ComfyUI, which no package registry has: its V3 schema, as far as nodes use it, and checked."""
