"""From points to masks to pseudo-labels."""
