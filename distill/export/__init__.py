"""Write trained networks for other engines, verify what was written, and quantise it."""
