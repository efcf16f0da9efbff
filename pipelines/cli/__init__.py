"""The `wssis` command."""
