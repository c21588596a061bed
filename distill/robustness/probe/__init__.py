"""What frozen features are worth: k-NN and linear classifiers on them, judged on every suite like any classifier."""
