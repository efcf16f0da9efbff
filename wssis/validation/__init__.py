"""Checks that report every problem of an annotated data set, and its cleaned copy."""
