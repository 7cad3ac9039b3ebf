"""The outside view: REST, metrics and the dashboard. Reads the store, writes orders, never acts."""
