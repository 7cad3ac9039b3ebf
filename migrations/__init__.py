"""Schema history (Alembic). `aiops db upgrade` applies it; the daemon does so at start."""
