"""Distillation between vision transformers and CNNs, and the robustness benchmarks that judge it."""

__version__ = '0.1.0'
