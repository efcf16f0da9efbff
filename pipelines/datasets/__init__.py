"""Commands on labels and images."""
