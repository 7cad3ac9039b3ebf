"""(to be filled) metrics."""
