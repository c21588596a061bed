"""Weights on disk: files read safely, the names of tensors, and whether they fit a network."""
