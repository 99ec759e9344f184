"""The HTTP endpoints of the edge: validation, forward-auth, health, metrics."""
