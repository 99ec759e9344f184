"""How often keys are good: rate limits, counted on this machine by all processes on one replica together."""
