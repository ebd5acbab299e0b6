"""Summaries, tables and pages of scores, and runs compared by paired tests."""
