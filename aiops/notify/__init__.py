"""From findings and decisions to messages: a pure route, a durable outbox, receivers."""
