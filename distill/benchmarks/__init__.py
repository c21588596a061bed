"""What this project measures against its peers."""
