"""Views of images, each fixed by (seed, image, view)."""
