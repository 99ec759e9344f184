"""This edge's shares of global rate limits: asking for them, and what holds when nobody answers."""
