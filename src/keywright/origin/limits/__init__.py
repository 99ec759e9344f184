"""Global rate limits: how each is shared out between the edges, so that together they admit no more than it."""
