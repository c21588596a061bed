"""Layers that several families share: fast depthwise convolutions, and the mathematics of fusing linear layers."""
