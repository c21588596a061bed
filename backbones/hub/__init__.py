"""timm's Hugging Face folder: read, checked and written."""
