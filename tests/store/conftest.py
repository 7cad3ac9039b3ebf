"""Fixtures of the store's tests."""

from private_postgres import postgres

__all__ = ["postgres"]
