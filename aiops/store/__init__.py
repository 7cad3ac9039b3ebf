"""Everything that survives a restart, behind the `Store` port. `opening.open_store` is the door; `memory` the reference."""
