"""The feed for edges: a snapshot of the record, then its changes as they are committed, over HTTP and over NATS."""
