"""From images to instances."""
