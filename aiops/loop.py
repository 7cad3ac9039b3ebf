"""(to be filled) loop."""
