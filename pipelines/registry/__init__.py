"""Registered models and their lineage."""
