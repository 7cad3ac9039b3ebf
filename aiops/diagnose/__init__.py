"""Root cause: pure detection, declared graph, typed verdicts. Knows no store, no clock; learns no graph from data."""
