"""The reliability campaign: kills, bad input and hostile files, against the real commands."""
