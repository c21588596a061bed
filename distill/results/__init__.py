"""What a score is: its schema, its type, its file, where it comes from, and its statistics."""
