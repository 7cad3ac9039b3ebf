"""Decisions: pure settle, reserve and admit. Blind to forecasting and diagnosis except for their frozen results."""
