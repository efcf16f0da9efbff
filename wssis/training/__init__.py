"""One training loop, its targets and losses."""
