"""Detectors and segmenters: checks of their data, reproducible samples, pictures, costs and scores."""
