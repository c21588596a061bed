"""Robustness benchmarks: suites, corruptions, metrics and their evaluation."""
