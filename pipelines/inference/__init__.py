"""Saved models applied to data."""
