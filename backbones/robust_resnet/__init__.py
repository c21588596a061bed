"""The Robust-ResNet family."""
