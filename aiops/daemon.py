"""(to be filled) daemon."""
