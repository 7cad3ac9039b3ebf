"""aiops: an autopilot for AI/GPU clusters that watches, foresees, explains and acts, and can prove every step."""

__version__ = "0.1.0"
