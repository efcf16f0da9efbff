"""Annotation formats: readers, writers and what they share."""
