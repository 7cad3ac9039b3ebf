"""Public conformance suites for third parties: subclass one in your tests, give it your plug-in, run pytest."""
