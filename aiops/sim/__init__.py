"""Simulated worlds for tests and for `aiops simulate`. Shares no code with what it tests."""
