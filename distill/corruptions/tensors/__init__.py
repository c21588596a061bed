"""The corruptions once more, as operations on batches of tensors on any device: what a card computes.

The definition is that of `distill.corruptions`, and so are the random numbers of an image, which are drawn on the CPU:
the levels are those of the CPU but for the rounding of sums, see `distill.corruptions.tensors.table`.
"""
