"""Distillation between vision transformers and CNNs, and the robustness benchmarks that judge it."""
