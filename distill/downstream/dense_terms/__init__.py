"""Terms of the loss of a `DenseDistiller`: what a student and its teacher are compared by.

`base` has what all terms have in common; `feature_terms` compares maps of backbones and necks; `build` makes terms of
what a config says.
"""
