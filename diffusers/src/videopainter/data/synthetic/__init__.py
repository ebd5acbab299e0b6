"""Scenes drawn by program, with exact masks, and data sets of them in VPData's layout."""
