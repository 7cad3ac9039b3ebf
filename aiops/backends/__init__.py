"""Clusters: one adapter each, blind to each other and to the core; the modules beside them are what they all may use."""
