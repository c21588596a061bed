"""Robust-ResNet's relatives, one family a file."""
