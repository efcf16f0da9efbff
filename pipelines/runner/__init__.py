"""Runs one stage."""
