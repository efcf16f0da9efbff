"""Records, images and loading."""
