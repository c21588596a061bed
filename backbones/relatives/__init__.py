"""The other architectures that are trained and compared with Robust-ResNets, one family a file."""
