"""Explanations of models: receptive fields, attribution, and the likeness of two models inside by CKA."""
