"""What a user names as a model, and what is known of it before its network is built; `source` lists what is taken."""
