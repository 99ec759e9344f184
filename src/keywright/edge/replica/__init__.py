"""The replica: what an edge knows, in LMDB files on its own disk."""
