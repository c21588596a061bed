"""Stand-ins for mmcv's compiled operators."""
