"""What this project adds to mmengine's training loop, one hook a file."""
