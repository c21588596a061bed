"""What a score is: its schema, where it comes from, and its statistics."""
