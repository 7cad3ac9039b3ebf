"""(to be filled) files."""
