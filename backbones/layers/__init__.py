"""Layers that several families share: fast depthwise convolutions, and the maths of fusing linear layers."""
