"""The door for edges: a snapshot of the record, then its changes as they are committed, all authenticated."""
