"""The transfer experiment: who learns what from whom, seed by seed, and whether it is more than learning alone."""
