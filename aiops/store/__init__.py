"""Everything that survives a restart, behind the `Store` port."""
