"""(to be filled) refresh."""
