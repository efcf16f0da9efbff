"""Parameters: schema, files, presets."""
