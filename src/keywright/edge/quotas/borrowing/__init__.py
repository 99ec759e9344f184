"""Borrowing quotas, by the one process of an edge that does it for all: asked for, noted on disk, and given back."""
