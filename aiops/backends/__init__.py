"""Clusters: one adapter each, blind to each other and to the core."""
