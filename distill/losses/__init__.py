"""Distillation losses, and the weighted sum that a config makes of them."""
