"""Alembic migrations of the store; `aiops.store.opening` applies them under a lock when a store is opened."""
