"""Benchmarks run and scored: sets, results beside their originals, scores, reports."""
