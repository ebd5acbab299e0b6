"""Doors of the data tools."""
