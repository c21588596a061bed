"""Robustness benchmarks, which need no mmengine: suites, corruptions, metrics and their evaluation."""
