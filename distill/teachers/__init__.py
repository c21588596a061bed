"""Teachers: live, several as one, or read from a cache."""
