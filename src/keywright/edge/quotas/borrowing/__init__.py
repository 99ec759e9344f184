"""Borrowing quotas, in the one process of an edge that does it for all: blocks of the origin's ledger, noted and given back."""
