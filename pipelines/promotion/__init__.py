"""The alias `production`."""
