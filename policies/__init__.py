"""Built-in policies: found by entry point, imported by nobody."""
