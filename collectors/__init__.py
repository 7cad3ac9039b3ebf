"""Built-in collectors: found by entry point, imported by nobody."""
